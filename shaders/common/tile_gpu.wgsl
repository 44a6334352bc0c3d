{#- The product of a matrix and a tile of `T` activation rows, for GPUs. Set the same names as for common/tile_cpu.wgsl.

    A workgroup's 64 invocations share `quads` times four outputs of every row of the tile. Four neighbours share a chunk of
    32 or 64 weights of each output (common/lane_weights.wgsl), so that they read neighbouring words of quants and
    neighbouring 16 bytes of activations; sixteen chunks are taken at a time. The sums meet in a fixed tree: within eight
    neighbours by pairs, fours and halves, then eight partial sums one after another. Where subgroups have at least eight
    lanes the first part is shuffles. Not `subgroupAdd`: a subgroup's size may differ between two pipelines, and the bits
    with it. Which lane takes which chunk depends on the shape alone, so a row's order of summation is the same whatever T
    is. Tiles of rows are the fast dimension: workgroups with the same weights run together. #}
{% from "common/lane_weights.wgsl" import kind, chunk, pieces, first, offset, signed, excess, scale_of, minimum %}
{#- Words of a row of activations that are bytes (quantize.wgsl). Products of bytes are whole numbers, and exact. #}
{%- set row_words = inner // 4 + inner // 16 %}
{%- set values = T * quads %}
{%- set square_values = (T + 3) // 4 if norm else 0 %}
{%- set all = values + square_values %}
{%- set at_group = namespace(first=0) %}
var<workgroup> sums: array<vec4<f32>, {{ 8 * all }}>;
{%- if not shuffle %}
var<workgroup> lanes: array<vec4<f32>, {{ 64 * all }}>;
{%- endif %}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local & 3u;
  let group = wg.z * {{ groups_y }}u + wg.y;
  {%- set count = "step.decode" if over == "rows" else "step.outputs" %}
  {%- for t in range(T) %}
  {%- set clamped = "min(wg.x * " ~ T ~ "u + " ~ t ~ "u, " ~ count ~ " - 1u)" %}
  let row_{{ t }} = {{ "rows[" ~ clamped ~ "].w" if over == "outputs" else clamped }};
  {%- endfor %}
  {%- for i in range(values) %}
  var s_{{ i }} = vec4<f32>(0.0);
  {%- endfor %}
  {%- if norm %}
  {%- for i in range(square_values) %}
  var s_{{ values + i }} = vec4<f32>(0.0);
  {%- endfor %}
  for (var i = local; i < {{ d // 16 }}u; i += 64u) {
    {%- for t in range(T) %}
    s_{{ values + t // 4 }}.{{ "xyzw"[t % 4] }} += dot(squares[row_{{ t }} * {{ d // 16 }}u + i], vec4<f32>(1.0));
    {%- endfor %}
  }
  {%- endif %}
  {%- for section in sections %}
  {%- set groups = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (group < {{ at_group.first + groups }}u) {
    let own = (group - {{ at_group.first }}u) * {{ quads }}u;
    {%- set each = 4 // (section.weights | length) %}
    {%- for q in range(quads) %}
    let quad_{{ q }} = {{ "own" if quads == 1 else "min(own + " ~ q ~ "u, " ~ (section.quads - 1) ~ "u)" }};
    {%- for j in range(4) %}
    {%- set output = "quad_" ~ q ~ " * " ~ each ~ "u + " ~ j % each ~ "u" %}
    let w_at_{{ q * 4 + j }} = {{ "min(" ~ output ~ ", " ~ section.last ~ "u)" if section.last else "(" ~ output ~ ")" }} * {{ inner // 32 }}u;
    {%- endfor %}{% endfor %}
    {%- set kinds = namespace(all=[]) %}
    {%- for ty in section.types %}{% set kinds.all = kinds.all + [kind(ty)] %}{% endfor %}
    {%- for k in kinds.all | unique %}
    {%- set jobs = namespace(all=[]) %}
    {%- for q in range(quads) %}{% for j in range(4) %}{% if kinds.all[j // each] == k %}
    {%- set jobs.all = jobs.all + [[q, j, section.weights[j // each], section.types[j // each]]] %}
    {%- endif %}{% endfor %}{% endfor %}
    {%- set chunks = inner // (chunk(k) | int) %}
    {#- Words of so many chunks are on their way at once. #}
    {%- set ahead = [[(8 if T < 4 else 4 if T == 4 else 2) // (pieces(k) | int), (chunks + 15) // 16] | min, 1] | max %}
    // A turn takes {{ (chunk(k) | int) // 4 * (jobs.all | length) * ahead }} weights.
    for (var at = local >> 2u; at < {{ chunks }}u; at += {{ 16 * ahead }}u) {
      {%- for u in range(ahead) %}
      {%- set c = "c_" ~ u %}
      let {{ c }} = {{ "at" if u == 0 else "min(at + " ~ u * 16 ~ "u, " ~ (chunks - 1) ~ "u)" }};
      {%- for q, j, name, ty in jobs.all %}
      let words_{{ u }}_{{ q * 4 + j }} = {{ name }}_read(w_at_{{ q * 4 + j }}, {{ c }}, lane);
      {%- endfor %}{% endfor %}
      {%- for u in range(ahead) %}
      {%- set bounded = u > 0 and chunks % (16 * ahead) %}
      {{ "if (at + " ~ u * 16 ~ "u < " ~ chunks ~ "u) {" if bounded else "{" }}
      let x_at = {{ first(k, "c_" ~ u) }};
      {%- if fast %}
      {%- for i in range(pieces(k) | int) %}{% for t in range(T) %}
      let a_{{ i }}_{{ t }} = {{ input }}[row_{{ t }} * {{ row_words }}u + x_at + {{ offset(k, i) }}];
      let e_{{ i }}_{{ t }} = dot4I8Packed(a_{{ i }}_{{ t }}, 0x01010101u);
      {%- endfor %}{% endfor %}
      {%- for p in range((pieces(k) | int) // 2) %}
      {%- set a, b = p * 2, p * 2 + 1 %}
      {%- for t in range(T) %}
      let f_{{ p }}_{{ t }} = bitcast<f32>({{ input }}[row_{{ t }} * {{ row_words }}u + {{ inner // 4 }}u + ((x_at + {{ offset(k, a) }}) >> 3u) * 2u]);
      {%- endfor %}
      {%- for q, j, name, ty in jobs.all %}
      {%- set words = "words_" ~ u ~ "_" ~ (q * 4 + j) %}
      {%- for t in range(T) %}
      {%- set s = "s_" ~ (t * quads + q) ~ "." ~ "xyzw"[j] %}
      {%- if ty == "Q6_K" %}
      {%- for i in [a, b] %}
      {{ s }} = fma({{ words }}.d[{{ i }}] * f_{{ p }}_{{ t }}, f32(dot4I8Packed({{ signed(words, ty, i) }}, a_{{ i }}_{{ t }}) - {{ excess(ty) }} * e_{{ i }}_{{ t }}), {{ s }});
      {%- endfor %}
      {%- else %}
      {{ s }} = fma({{ scale_of(words, ty, p) }} * f_{{ p }}_{{ t }}, f32(dot4I8Packed({{ signed(words, ty, a) }}, a_{{ a }}_{{ t }}) + dot4I8Packed({{ signed(words, ty, b) }}, a_{{ b }}_{{ t }}) - {{ excess(ty) }} * (e_{{ a }}_{{ t }} + e_{{ b }}_{{ t }})), {{ s }});
      {%- if minimum(words, ty, p) %}
      {{ s }} = fma({{ minimum(words, ty, p) }} * f_{{ p }}_{{ t }}, f32(e_{{ a }}_{{ t }} + e_{{ b }}_{{ t }}), {{ s }});
      {%- endif %}
      {%- endif %}
      {%- endfor %}{% endfor %}{% endfor %}
      {%- else %}
      {%- for i in range(pieces(k) | int) %}
      {%- for t in range(T) %}
      let x_{{ i }}_{{ t }} = {{ input }}[row_{{ t }} * {{ inner // 4 }}u + x_at + {{ offset(k, i) }}];
      {%- endfor %}
      {%- for q, j, name, ty in jobs.all %}
      let w_{{ i }}_{{ q * 4 + j }} = {{ name }}_piece_{{ i }}(words_{{ u }}_{{ q * 4 + j }});
      {%- for t in range(T) %}{% for e in "xyzw" %}
      {%- set s = "s_" ~ (t * quads + q) ~ "." ~ "xyzw"[j] %}
      {{ s }} = fma(w_{{ i }}_{{ q * 4 + j }}.{{ e }}, x_{{ i }}_{{ t }}.{{ e }}, {{ s }});
      {%- endfor %}{% endfor %}{% endfor %}{% endfor %}
      {%- endif %}
      }
      {%- endfor %}
    }
    {%- endfor %}
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
  {%- if shuffle %}
  {%- for i in range(all) %}{% for distance in [1, 2, 4] %}
  s_{{ i }} += subgroupShuffleXor(s_{{ i }}, {{ distance }}u);
  {%- endfor %}{% endfor %}
  if ((local & 7u) == 0u) {
    {%- for i in range(all) %}
    sums[(local >> 3u) * {{ all }}u + {{ i }}u] = s_{{ i }};
    {%- endfor %}
  }
  {%- else %}
  {%- for i in range(all) %}
  lanes[local * {{ all }}u + {{ i }}u] = s_{{ i }};
  {%- endfor %}
  workgroupBarrier();
  for (var i = local; i < {{ 8 * all }}u; i += 64u) {
    let at = i / {{ all }}u * {{ 8 * all }}u + i % {{ all }}u;
    sums[i] = ((lanes[at + {{ 0 * all }}u] + lanes[at + {{ 1 * all }}u]) + (lanes[at + {{ 2 * all }}u] + lanes[at + {{ 3 * all }}u]))
      + ((lanes[at + {{ 4 * all }}u] + lanes[at + {{ 5 * all }}u]) + (lanes[at + {{ 6 * all }}u] + lanes[at + {{ 7 * all }}u]));
  }
  {%- endif %}
  workgroupBarrier();
  if (local >= {{ values }}u) { return; }
  let t = local / {{ quads }}u;
  let slot = wg.x * {{ T }}u + t;
  if (slot >= {{ count }}) { return; }
  var sum = sums[local];
  for (var i = 1u; i < 8u; i++) { sum += sums[i * {{ all }}u + local]; }
  {%- if norm %}
  var total = sums[{{ values }}u + t / 4u][t % 4u];
  for (var i = 1u; i < 8u; i++) { total += sums[i * {{ all }}u + {{ values }}u + t / 4u][t % 4u]; }
  sum *= inverseSqrt(total / {{ d }}.0 + {{ eps }});
  {%- endif %}
  {%- set at_group.first = 0 %}
  {%- for section in sections %}
  {%- set groups = (section.quads + quads - 1) // quads %}
  {{ "else " if not loop.first }}if (group < {{ at_group.first + groups }}u) {
    let quad = (group - {{ at_group.first }}u) * {{ quads }}u + local % {{ quads }}u;
    if (quad < {{ section.quads }}u) { {{ section.finish }}(quad, slot, sum); }
  }
  {%- set at_group.first = at_group.first + groups %}
  {%- endfor %}
}
