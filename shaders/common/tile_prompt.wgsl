{#- The product of a matrix and `T` rows of prompts, for GPUs. Set the same names as for common/tile_cpu.wgsl.

    A workgroup's 128 invocations are 32 times four outputs, two halves of the rows, and two slices of the row's weights: a slice
    takes every other group of 32. Activations lie in workgroup memory, two groups of each row at a time; each invocation makes
    its four outputs' weights in registers for all of its rows. A slice's sum is one chain of multiply-adds in ascending order,
    and the two are added: neither depends on the other rows. #}
{% from "common/weights.wgsl" import words, piece, signed_piece, minimum_piece %}
{% from "common/lane_weights.wgsl" import excess %}
{%- set each_rows = T // 2 %}
{%- set slices = 2 %}
{%- set threads = 64 * slices %}
{#- vec4 of a row in workgroup memory. #}
{%- set vec4s = 8 * slices %}
{%- set groups_of_row = inner // 32 %}
{#- Words of a row of activations that are bytes (quantize.wgsl). #}
{%- set row_words = inner // 4 + inner // 16 %}
{%- set at_group = namespace(first=0) %}
{#- Activations; then the slices' sums of two rows of each half at a time. #}
var<workgroup> tile: array<vec4<f32>, {{ 128 * slices if fast else [T * vec4s, 128 * slices] | max }}>;
{%- if fast %}
var<workgroup> bytes_of: array<u32, {{ T * vec4s }}>;
var<workgroup> scales_of: array<vec2<u32>, {{ T * slices }}>;
{%- endif %}
{%- if norm %}
var<workgroup> factors: array<f32, {{ T }}>;
{%- endif %}
@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = wg.z * {{ groups_y }}u + wg.y;
  let first = step.decode + wg.x * {{ T }}u;
  let slice = local / 64u;
  let own_rows = local / 32u % 2u * {{ each_rows }}u;
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
    let w_at_{{ j }} = {{ "min(" ~ output ~ ", " ~ section.last ~ "u)" if section.last else "(" ~ output ~ ")" }} * {{ groups_of_row }}u;
    {%- endfor %}
    // A turn takes {{ 4 * 32 }} weights.
    for (var at = 0u; at < {{ groups_of_row }}u; at += {{ slices }}u) {
      workgroupBarrier();
      {%- if fast %}
      {%- for n in range(T // 8) %}
      bytes_of[local + {{ n * threads }}u] = {{ input }}[min(first + local / {{ vec4s }}u + {{ n * 8 }}u, step.rows - 1u) * {{ row_words }}u + min(at * 8u + local % {{ vec4s }}u, {{ inner // 4 - 1 }}u)];
      {%- endfor %}
      if (local < {{ T * slices }}u) {
        let scale_at = min(first + local / {{ slices }}u, step.rows - 1u) * {{ row_words }}u + {{ inner // 4 }}u + min(at + local % {{ slices }}u, {{ groups_of_row - 1 }}u) * 2u;
        scales_of[local] = vec2<u32>({{ input }}[scale_at], {{ input }}[scale_at + 1u]);
      }
      {%- else %}
      {%- for n in range(T // 8) %}
      tile[local + {{ n * threads }}u] = {{ input }}[min(first + local / {{ vec4s }}u + {{ n * 8 }}u, step.rows - 1u) * {{ inner // 4 }}u + min(at * 8u + local % {{ vec4s }}u, {{ inner // 4 - 1 }}u)];
      {%- endfor %}
      {%- endif %}
      {%- if norm %}
      if (local < {{ T }}u) {
        for (var i = at * 2u; i < min(at * 2u + {{ 2 * slices }}u, {{ d // 16 }}u); i++) { total += dot(squares[squares_at + i], vec4<f32>(1.0)); }
      }
      {%- endif %}
      let g = min(at + slice, {{ groups_of_row - 1 }}u);
      {%- for j in range(4) %}
      let g_{{ j }} = w_at_{{ j }} + g;
      {{- words("w" ~ j ~ "_", section.buffers[j // each], section.types[j // each], section.planes[j // each], "g_" ~ j, gpu=true) }}
      {%- endfor %}
      workgroupBarrier();
      {%- if groups_of_row % slices %}
      if (at + slice < {{ groups_of_row }}u) {
      {%- endif %}
      {%- if fast %}
      {%- for i in range(8) %}{% for j in range(4) %}
      let p_{{ i }}_{{ j }} = {{ signed_piece("w" ~ j ~ "_", section.types[j // each], i) }};
      {%- endfor %}{% endfor %}
      {%- for r in range(each_rows) %}
      {
        let scale = scales_of[(own_rows + {{ r }}u) * {{ slices }}u + slice];
        let f = bitcast<f32>(scale.x);
        let e = vec2<i32>(bitcast<i32>(scale.y << 16u) >> 16u, bitcast<i32>(scale.y) >> 16u);
        {%- for i in range(8) %}
        let a_{{ i }} = bytes_of[(own_rows + {{ r }}u) * {{ vec4s }}u + slice * 8u + {{ i }}u];
        {%- endfor %}
        {%- for j in range(4) %}
        {%- set ty, n, s = section.types[j // each], "w" ~ j ~ "_", "s_" ~ r ~ "." ~ "xyzw"[j] %}
        {%- for half in range(2) %}
        let n_{{ half }}_{{ j }} = {% for i in range(half * 4, half * 4 + 4) %}dot4I8Packed(p_{{ i }}_{{ j }}, a_{{ i }}){{ " + " if not loop.last }}{% endfor %} - {{ excess(ty) }} * e[{{ half }}];
        {%- endfor %}
        {%- if ty == "Q6_K" %}
        {{ s }} = fma({{ n }}s0 * f, f32(n_0_{{ j }}), {{ s }});
        {{ s }} = fma({{ n }}s1 * f, f32(n_1_{{ j }}), {{ s }});
        {%- else %}
        {{ s }} = fma({{ n }}d * f, f32(n_0_{{ j }} + n_1_{{ j }}), {{ s }});
        {%- if minimum_piece(n, ty) %}
        {{ s }} = fma({{ minimum_piece(n, ty) }} * f, f32(e.x + e.y), {{ s }});
        {%- endif %}
        {%- endif %}
        {%- endfor %}
      }
      {%- endfor %}
      {%- else %}
      {%- for i in range(8) %}
      {%- for j in range(4) %}
      let v_{{ i }}_{{ j }} = {{ piece("w" ~ j ~ "_", section.types[j // each], i, gpu=true) }};
      {%- endfor %}
      {%- for r in range(each_rows) %}
      let x_{{ i }}_{{ r }} = tile[(own_rows + {{ r }}u) * {{ vec4s }}u + slice * 8u + {{ i }}u];
      {%- for j in range(4) %}{% for e in "xyzw" %}
      s_{{ r }}.{{ "xyzw"[j] }} = fma(v_{{ i }}_{{ j }}.{{ e }}, x_{{ i }}_{{ r }}.{{ e }}, s_{{ r }}.{{ "xyzw"[j] }});
      {%- endfor %}{% endfor %}{% endfor %}{% endfor %}
      {%- endif %}
      {{ "}" if groups_of_row % slices }}
    }
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
  {%- if norm %}
  if (local < {{ T }}u) { factors[local] = inverseSqrt(total / {{ d }}.0 + {{ eps }}); }
  {%- endif %}
  {%- for pair in range(each_rows // 2) %}
  workgroupBarrier();
  tile[local] = s_{{ pair * 2 }};
  tile[local + {{ threads }}u] = s_{{ pair * 2 + 1 }};
  workgroupBarrier();
  {
    let sum_at = local / 64u * {{ threads }}u + local % 64u;
    let row = local / 32u % 2u * {{ each_rows }}u + {{ pair * 2 }}u + local / 64u;
    finish_row(group, first + row, local % 32u, (tile[sum_at] + tile[sum_at + 64u]){{ " * factors[row]" if norm }});
  }
  {%- endfor %}
}
fn finish_row(group: u32, row: u32, own: u32, sum: vec4<f32>) {
  if (row >= step.rows) { return; }
  {%- set at_group.first = 0 %}
  {%- for section in sections %}
  {%- set groups = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (group < {{ at_group.first + groups }}u) {
    let quad = (group - {{ at_group.first }}u) * {{ quads }}u + own;
    if (quad < {{ section.quads }}u) { {{ section.finish }}(quad, row, sum); }
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
}
