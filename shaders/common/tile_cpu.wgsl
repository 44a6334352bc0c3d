{#- The product of a matrix and a tile of `T` activation rows, for CPU adapters: registers only, no barrier.

    A kernel sets, then includes this file: `sections`, each with `quads` (how many four outputs), `weights` (the weight function
    of all four, or of two and two), `last` (the matrix's last row, where four do not divide its rows) and `finish`, its
    `fn (quad, slot, sums)`; `input`, the activations' buffer; `norm`, whether they are normed first; `over`, rows or outputs.

    An invocation makes four outputs of every row of the tile, summed over groups of 32 weights, in each over its eight
    vec4: the same order whatever T is. Where subgroups have a known size each lane loads another vec4 of the activations
    and passes it round. #}
{% from "common/lanes.wgsl" import order, turn %}
{%- set groups = inner // 32 %}
{%- set quads_at = namespace(first=0) %}
@compute @workgroup_size({{ quads }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32
    {{- ", @builtin(subgroup_invocation_id) lane: u32" if subgroup }}) {
  {%- for t in range(T) %}
  let slot_{{ t }} = wg.y * {{ T }}u + {{ t }}u;
  {%- set clamped = "min(slot_" ~ t ~ ", step." ~ over ~ " - 1u)" %}
  let row_{{ t }} = {{ "rows[" ~ clamped ~ "].w" if over == "outputs" else clamped }};
  {%- endfor %}
  {{ order(subgroup) }}
  {%- if norm %}{% for t in range(T) %}
  var part_{{ t }} = 0.0;
  {%- if subgroup %}
  for (var i = 0u; i < {{ d // 16 }}u; i += {{ subgroup }}u) {
    let at = i + lane;
    let four = dot(squares[row_{{ t }} * {{ d // 16 }}u + min(at, {{ d // 16 - 1 }}u)], vec4<f32>(1.0));
    part_{{ t }} += select(0.0, four, at < {{ d // 16 }}u);
  }
  let total_{{ t }} = {% for l in range(subgroup) %}{{ " + " if not loop.first }}{{ turn(subgroup, "part_" ~ t, l) }}{% endfor %};
  {%- else %}
  for (var i = 0u; i < {{ d // 16 }}u; i++) { part_{{ t }} += dot(squares[row_{{ t }} * {{ d // 16 }}u + i], vec4<f32>(1.0)); }
  let total_{{ t }} = part_{{ t }};
  {%- endif %}
  let inv_{{ t }} = inverseSqrt(total_{{ t }} / {{ d }}.0 + {{ eps }});
  {%- endfor %}{% endif %}
  {%- for section in sections %}
  {%- set count = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (wg.x < {{ quads_at.first + count }}u) {
    let own = (wg.x - {{ quads_at.first }}u) * {{ quads }}u + local;
    let quad = min(own, {{ section.quads - 1 }}u);
    {%- set each = 4 // (section.weights | length) %}
    {%- for j in range(4) %}
    {%- set output = "quad * " ~ each ~ "u + " ~ j % each ~ "u" %}
    let w_at_{{ j }} = {{ "min(" ~ output ~ ", " ~ section.last ~ "u)" if section.last else "(" ~ output ~ ")" }} * {{ groups }}u;
    {%- endfor %}
    {%- for t in range(T) %}{% for j in range(4) %}
    var s_{{ j }}_{{ t }} = 0.0;
    {%- endfor %}{% endfor %}
    for (var g = 0u; g < {{ groups }}u; g++) {
      {%- if subgroup %}{% for k in range(8 // subgroup) %}
      let piece_{{ k }} = g * 8u + {{ k * subgroup }}u + lane;
      {%- for t in range(T) %}
      let part_{{ k }}_{{ t }} = {{ input }}[row_{{ t }} * {{ groups * 8 }}u + piece_{{ k }}];
      {%- endfor %}{% endfor %}{% endif %}
      {%- for j in range(4) %}
      let w_{{ j }} = {{ section.weights[j // each] }}(w_at_{{ j }} + g{{ ", order" if subgroup == 4 }});
      {%- endfor %}
      {%- for i in range(8) %}
      {%- for t in range(T) %}
      {%- if subgroup %}
      let x_{{ i }}_{{ t }} = {{ turn(subgroup, "part_" ~ i // subgroup ~ "_" ~ t, i) }};
      {%- else %}
      let x_{{ i }}_{{ t }} = {{ input }}[row_{{ t }} * {{ groups * 8 }}u + g * 8u + {{ i }}u];
      {%- endif %}
      {%- for j in range(4) %}
      s_{{ j }}_{{ t }} += dot(w_{{ j }}[{{ i }}], x_{{ i }}_{{ t }});
      {%- endfor %}{% endfor %}{% endfor %}
    }
    {%- for t in range(T) %}
    if (own < {{ section.quads }}u && slot_{{ t }} < step.{{ over }}) {
      {{ section.finish }}(quad, slot_{{ t }}, vec4<f32>(s_0_{{ t }}, s_1_{{ t }}, s_2_{{ t }}, s_3_{{ t }}){{ " * inv_" ~ t if norm }});
    }
    {%- endfor %}
  }
  {%- set quads_at.first = quads_at.first + count %}
  {%- endfor %}
}
