{#- The product of a matrix and a tile of `T` activation rows, for GPUs. Set the same names as for common/tile_cpu.wgsl.

    `team` invocations share four outputs of every row of the tile: they take groups of 32 weights in turn, so that
    neighbours read neighbouring words of a plane, keep the weights in registers for all rows, and meet at one barrier.
    Then one invocation adds up the team's sums in the order of its lanes. Which lane takes which group depends on the
    shape alone, so a row's order of summation is the same whatever T is. #}
{%- set groups = inner // 32 %}
{%- set teams = quads_per_workgroup %}
{%- set threads = team * teams %}
{%- set quads_at = namespace(first=0) %}
var<workgroup> sums: array<vec4<f32>, {{ T * threads }}>;
{%- if norm %}
var<workgroup> sums_of_squares: array<f32, {{ T * threads }}>;
{%- endif %}
@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % {{ team }}u;
  {%- for t in range(T) %}
  {%- set clamped = "min(wg.y * " ~ T ~ "u + " ~ t ~ "u, step." ~ over ~ " - 1u)" %}
  let row_{{ t }} = {{ "rows[" ~ clamped ~ "].w" if over == "outputs" else clamped }};
  {%- endfor %}
  {%- if norm %}{% for t in range(T) %}
  var part_{{ t }} = 0.0;
  for (var i = lane; i < {{ d // 16 }}u; i += {{ team }}u) { part_{{ t }} += dot(squares[row_{{ t }} * {{ d // 16 }}u + i], vec4<f32>(1.0)); }
  sums_of_squares[{{ t * threads }}u + local] = part_{{ t }};
  {%- endfor %}{% endif %}
  {%- for section in sections %}
  {%- set count = (section.quads + teams - 1) // teams %}
  {{ "else " if not loop.first }}if (wg.x < {{ quads_at.first + count }}u) {
    let first = (wg.x - {{ quads_at.first }}u) * {{ teams }}u;
    let quad = min(first + local / {{ team }}u, {{ section.quads - 1 }}u);
    {%- set each = 4 // (section.weights | length) %}
    {%- for j in range(4) %}
    {%- set output = "quad * " ~ each ~ "u + " ~ j % each ~ "u" %}
    let w_at_{{ j }} = {{ "min(" ~ output ~ ", " ~ section.last ~ "u)" if section.last else "(" ~ output ~ ")" }} * {{ groups }}u;
    {%- endfor %}
    {%- for t in range(T) %}{% for j in range(4) %}
    var s_{{ j }}_{{ t }} = 0.0;
    {%- endfor %}{% endfor %}
    // A turn takes {{ 4 * 32 }} weights.
    for (var g = lane; g < {{ groups }}u; g += {{ team }}u) {
      {%- for j in range(4) %}
      let w_{{ j }} = {{ section.weights[j // each] }}(w_at_{{ j }} + g);
      {%- endfor %}
      {%- for i in range(8) %}
      {%- if norm %}
      let gain_{{ i }} = gain[g * 8u + {{ i }}u];
      {%- endif %}
      {%- for t in range(T) %}
      let x_{{ i }}_{{ t }} = {{ input }}[row_{{ t }} * {{ groups * 8 }}u + g * 8u + {{ i }}u]{{ " * gain_" ~ i if norm }};
      {%- for j in range(4) %}
      s_{{ j }}_{{ t }} += dot(w_{{ j }}[{{ i }}], x_{{ i }}_{{ t }});
      {%- endfor %}{% endfor %}{% endfor %}
    }
    {%- for t in range(T) %}
    sums[{{ t * threads }}u + local] = vec4<f32>(s_0_{{ t }}, s_1_{{ t }}, s_2_{{ t }}, s_3_{{ t }});
    {%- endfor %}
    workgroupBarrier();
    for (var i = local; i < {{ T * teams }}u; i += {{ threads }}u) {
      let own = first + i % {{ teams }}u;
      let slot = wg.y * {{ T }}u + i / {{ teams }}u;
      if (own >= {{ section.quads }}u || slot >= step.{{ over }}) { continue; }
      let at = i * {{ team }}u;
      var sum = sums[at];
      for (var l = 1u; l < {{ team }}u; l++) { sum += sums[at + l]; }
      {%- if norm %}
      var total = sums_of_squares[at];
      for (var l = 1u; l < {{ team }}u; l++) { total += sums_of_squares[at + l]; }
      sum *= inverseSqrt(total / {{ d }}.0 + {{ eps }});
      {%- endif %}
      {{ section.finish }}(own, slot, sum);
    }
  }
  {%- set quads_at.first = quads_at.first + count %}
  {%- endfor %}
}
