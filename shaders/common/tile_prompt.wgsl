{#- The product of a matrix and `T` rows of prompts, for GPUs. Set the same names as for common/tile_cpu.wgsl.

    A workgroup's 64 invocations are 32 times four outputs and two halves of the rows. Activations lie in workgroup memory, 32
    of each row at a time; each invocation makes its four outputs' weights in registers for all of its rows. Each output of
    each row is one chain of multiply-adds in ascending order, so it does not depend on the other rows. #}
{% from "common/weights.wgsl" import words, piece %}
{%- set each_rows = T // 2 %}
{%- set at_group = namespace(first=0) %}
var<workgroup> tile: array<vec4<f32>, {{ T * 8 }}>;
{%- if norm %}
var<workgroup> factors: array<f32, {{ T }}>;
{%- endif %}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = wg.z * {{ groups_y }}u + wg.y;
  let first = step.decode + wg.x * {{ T }}u;
  let own_rows = local / 32u * {{ each_rows }}u;
  {%- if norm %}
  let squares_at = min(first + local, step.rows - 1u) * {{ d // 16 }}u;
  var total = 0.0;
  {%- endif %}
  {%- for r in range(each_rows) %}
  var s_{{ r }} = vec4<f32>(0.0);
  {%- endfor %}
  {%- for section in sections %}
  {%- set groups = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (group < {{ at_group.first + groups }}u) {
    let quad = min((group - {{ at_group.first }}u) * {{ quads }}u + local % 32u, {{ section.quads - 1 }}u);
    {%- set each = 4 // (section.weights | length) %}
    {%- for j in range(4) %}
    {%- set output = "quad * " ~ each ~ "u + " ~ j % each ~ "u" %}
    let w_at_{{ j }} = {{ "min(" ~ output ~ ", " ~ section.last ~ "u)" if section.last else "(" ~ output ~ ")" }} * {{ inner // 32 }}u;
    {%- endfor %}
    for (var g = 0u; g < {{ inner // 32 }}u; g++) {
      workgroupBarrier();
      {%- for n in range(T * 8 // 64) %}
      tile[local + {{ n * 64 }}u] = {{ input }}[min(first + (local >> 3u) + {{ n * 8 }}u, step.rows - 1u) * {{ inner // 4 }}u + g * 8u + (local & 7u)];
      {%- endfor %}
      {%- if norm %}
      total += dot(squares[squares_at + g * 2u] + squares[squares_at + g * 2u + 1u], vec4<f32>(1.0));
      {%- endif %}
      {%- for j in range(4) %}
      let g_{{ j }} = w_at_{{ j }} + g;
      {{- words("w" ~ j ~ "_", section.buffers[j // each], section.types[j // each], section.planes[j // each], "g_" ~ j, gpu=true) }}
      {%- endfor %}
      workgroupBarrier();
      {%- for i in range(8) %}
      {%- for j in range(4) %}
      let v_{{ i }}_{{ j }} = {{ piece("w" ~ j ~ "_", section.types[j // each], i, gpu=true) }};
      {%- endfor %}
      {%- for r in range(each_rows) %}
      let x_{{ i }}_{{ r }} = tile[(own_rows + {{ r }}u) * 8u + {{ i }}u];
      {%- for j in range(4) %}{% for e in "xyzw" %}
      s_{{ r }}.{{ "xyzw"[j] }} = fma(v_{{ i }}_{{ j }}.{{ e }}, x_{{ i }}_{{ r }}.{{ e }}, s_{{ r }}.{{ "xyzw"[j] }});
      {%- endfor %}{% endfor %}{% endfor %}{% endfor %}
    }
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
  {%- if norm %}
  if (local < {{ T }}u) { factors[local] = inverseSqrt(total / {{ d }}.0 + {{ eps }}); }
  workgroupBarrier();
  {%- endif %}
  {%- set at_group.first = 0 %}
  {%- for section in sections %}
  {%- set groups = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (group < {{ at_group.first + groups }}u) {
    let quad = (group - {{ at_group.first }}u) * {{ quads }}u + local % 32u;
    if (quad >= {{ section.quads }}u) { return; }
    {%- for r in range(each_rows) %}
    if (first + own_rows + {{ r }}u < step.rows) { {{ section.finish }}(quad, first + own_rows + {{ r }}u, s_{{ r }}{{ " * factors[own_rows + " ~ r ~ "u]" if norm }}); }
    {%- endfor %}
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
}
