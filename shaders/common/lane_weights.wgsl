{#- Weights of a quantised tensor as the lanes of common/tile_gpu.wgsl take them: four lanes share a chunk of a row, 32 or 64
    weights. A lane takes a word or two of quants of it, in `NAME_read`, and makes `pieces` vec4 of weights of them, one at a
    time, in `NAME_piece_I`, so that few registers hold weights. The weights equal the file's dequantised values bit for bit:
    a product of a scale and a quant is exact in f32 but for Q6_K, so `fma` rounds where ggml does. The planes are those of
    common/weights.wgsl. -#}
{%- macro word(buf, index) -%} {{ buf }}[({{ index }}) >> 2u][({{ index }}) & 3u] {%- endmacro -%}
{#- How a lane's pieces lie in the row. -#}
{%- macro kind(ty) -%}
  {%- if ty in ["F32", "F16", "BF16"] -%} float {%- elif ty in ["Q4_K", "Q5_K"] -%} pair {%- elif ty == "Q6_K" -%} six {%- else -%} plain {%- endif -%}
{%- endmacro -%}
{#- Weights of a chunk, vec4 that a lane takes of it, and where those lie: the first at `first`, the others so far behind it. -#}
{%- macro chunk(kind) -%} {{ 64 if kind in ["pair", "six"] else 32 }} {%- endmacro -%}
{%- macro pieces(kind) -%} {{ 4 if kind in ["pair", "six"] else 2 }} {%- endmacro -%}
{%- macro first(kind, c) -%}
  {%- if kind == "float" -%} {{ c }} * 8u + lane * 2u {%- elif kind == "pair" -%} {{ c }} * 16u + lane {%- elif kind == "six" -%} ({{ c }} >> 1u) * 32u + ({{ c }} & 1u) * 8u + lane {%- else -%} {{ c }} * 8u + lane {%- endif -%}
{%- endmacro -%}
{%- macro offset(kind, i) -%} {{ {"float": [0, 1], "plain": [0, 4], "pair": [0, 4, 8, 12], "six": [0, 4, 16, 20]}[kind][i] }}u {%- endmacro -%}
{#- As whole numbers: piece i as signed bytes, and what those have too much; the scale of pieces 2p and 2p + 1, and their minimum. -#}
{%- macro signed(words, ty, i) -%} {{ words }}.q[{{ i }}]{{ " ^ 0x80808080u" if ty == "Q8_0" }} {%- endmacro -%}
{%- macro excess(ty) -%} {{ {"Q4_0": 8, "Q5_0": 16, "Q6_K": 32}[ty] if ty in ["Q4_0", "Q5_0", "Q6_K"] else 0 }} {%- endmacro -%}
{%- macro scale_of(words, ty, p) -%} {{ words }}.d{{ "[" ~ p ~ "]" if ty in ["Q4_K", "Q5_K"] }} {%- endmacro -%}
{%- macro minimum(words, ty, p) -%}
  {%- if ty in ["Q4_1", "Q5_1"] -%} {{ words }}.m {%- elif ty in ["Q4_K", "Q5_K"] -%} {{ words }}.m[{{ p }}] {%- endif -%}
{%- endmacro -%}
{%- macro lane_weights(name, buf, ty, p) %}
{%- if ty == "F32" %}
struct {{ name }}_words { v: array<vec4<f32>, 2> }
fn {{ name }}_read(row: u32, c: u32, lane: u32) -> {{ name }}_words {
  let at = {{ p[0] // 4 }}u + (row + c) * 8u + lane * 2u;
  return {{ name }}_words(array<vec4<f32>, 2>(bitcast<vec4<f32>>({{ buf }}[at]), bitcast<vec4<f32>>({{ buf }}[at + 1u])));
}
{%- for i in range(2) %}
fn {{ name }}_piece_{{ i }}(w: {{ name }}_words) -> vec4<f32> { return w.v[{{ i }}]; }
{%- endfor %}
{%- elif ty in ["F16", "BF16"] %}
struct {{ name }}_words { q: vec4<u32> }
fn {{ name }}_read(row: u32, c: u32, lane: u32) -> {{ name }}_words {
  return {{ name }}_words({{ buf }}[{{ p[0] // 4 }}u + (row + c) * 4u + lane]);
}
{%- for i in range(2) %}{% set x, y = "w.q." ~ "xz"[i], "w.q." ~ "yw"[i] %}
fn {{ name }}_piece_{{ i }}(w: {{ name }}_words) -> vec4<f32> {
  {%- if ty == "F16" %}
  return vec4<f32>(unpack2x16float({{ x }}), unpack2x16float({{ y }}));
  {%- else %}
  return bitcast<vec4<f32>>(vec4<u32>({{ x }} << 16u, {{ x }} & 0xffff0000u, {{ y }} << 16u, {{ y }} & 0xffff0000u));
  {%- endif %}
}
{%- endfor %}
{%- elif ty in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] %}
struct {{ name }}_words { q: vec2<u32>, d: f32, m: f32 }
fn {{ name }}_read(row: u32, c: u32, lane: u32) -> {{ name }}_words {
  let g = row + c;
  {%- if ty == "Q8_0" %}
  {#- With 128 added they have no sign. #}
  let at = {{ p[0] }}u + g * 8u + lane;
  let q = vec2<u32>({{ word(buf, "at") }}, {{ word(buf, "at + 4u") }}) ^ vec2<u32>(0x80808080u);
  {%- else %}
  let both = {{ word(buf, p[0] ~ "u + g * 4u + lane") }};
  let low = vec2<u32>(both, both >> 4u) & vec2<u32>(0x0f0f0f0fu);
  {%- if ty in ["Q5_0", "Q5_1"] %}
  {#- The product puts bit n at 4 + 8n, among others. #}
  let high = {{ word(buf, p[1] ~ "u + g") }} >> (lane * 4u);
  let q = low | (((vec2<u32>(high, high >> 16u) & vec2<u32>(15u)) * 0x2040810u) & vec2<u32>(0x10101010u));
  {%- else %}
  let q = low;
  {%- endif %}
  {%- endif %}
  {%- if ty in ["Q4_1", "Q5_1"] %}
  let s = unpack2x16float({{ word(buf, p[-1] ~ "u + g") }});
  return {{ name }}_words(q, s.x, s.y);
  {%- else %}
  let d = unpack2x16float({{ word(buf, p[-1] ~ "u + (g >> 1u)") }} >> ((g & 1u) * 16u)).x;
  return {{ name }}_words(q, d, {{ {"Q4_0": -8, "Q5_0": -16, "Q8_0": -128}[ty] }}.0 * d);
  {%- endif %}
}
{%- for i in range(2) %}
fn {{ name }}_piece_{{ i }}(w: {{ name }}_words) -> vec4<f32> {
  return fma(vec4<f32>(w.d), vec4<f32>(unpack4xU8(w.q[{{ i }}])), vec4<f32>(w.m));
}
{%- endfor %}
{%- elif ty in ["Q4_K", "Q5_K"] %}
struct {{ name }}_words { q: vec4<u32>, d: vec2<f32>, m: vec2<f32> }
fn {{ name }}_read(row: u32, c: u32, lane: u32) -> {{ name }}_words {
  let b = (row >> 3u) + (c >> 2u);
  let i = c & 3u;
  let at = {{ p[0] }}u + b * 32u + i * 8u + lane;
  let both = vec2<u32>({{ word(buf, "at") }}, {{ word(buf, "at + 4u") }});
  {#- Of the first 32 weights, then of the second. #}
  {%- set low = "(vec4<u32>(both, both >> vec2<u32>(4u)) & vec4<u32>(0x0f0f0f0fu))" %}
  {%- if ty == "Q5_K" %}
  let high_at = {{ p[1] }}u + b * 8u + lane;
  let high = vec2<u32>({{ word(buf, "high_at") }}, {{ word(buf, "high_at + 4u") }}) >> vec2<u32>(i * 2u);
  let q = {{ low }} | ((vec4<u32>(high, high >> vec2<u32>(1u)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u));
  {%- else %}
  let q = {{ low }};
  {%- endif %}
  let s = {{ buf }}[{{ p[-1] // 4 }}u + b];
  {#- Two bytes of each of the three words of scales. #}
  let bytes = s.yzw >> vec3<u32>((i & 1u) * 16u);
  let large = vec2<u32>(bytes.z & 0x0f0fu, (bytes.z >> 4u) & 0x0f0fu) | ((bytes.xy >> vec2<u32>(2u)) & vec2<u32>(0x3030u));
  let both_scales = select(large, bytes.xy & vec2<u32>(0x3f3fu), i < 2u);
  let dm = unpack2x16float(s.x);
  return {{ name }}_words(
    q,
    dm.x * vec2<f32>(vec2<u32>(both_scales.x & 0xffu, both_scales.x >> 8u)),
    -dm.y * vec2<f32>(vec2<u32>(both_scales.y & 0xffu, both_scales.y >> 8u)),
  );
}
{%- for i in range(4) %}
fn {{ name }}_piece_{{ i }}(w: {{ name }}_words) -> vec4<f32> {
  return fma(vec4<f32>(w.d[{{ i // 2 }}]), vec4<f32>(unpack4xU8(w.q[{{ i }}])), vec4<f32>(w.m[{{ i // 2 }}]));
}
{%- endfor %}
{%- elif ty == "Q6_K" %}
struct {{ name }}_words { q: vec4<u32>, d: vec4<f32> }
fn {{ name }}_read(row: u32, c: u32, lane: u32) -> {{ name }}_words {
  let b = (row >> 3u) + (c >> 2u);
  let n = (c >> 1u) & 1u;
  let k = c & 1u;
  let at = {{ p[0] }}u + b * 32u + n * 16u + k * 8u + lane;
  let both = vec2<u32>({{ word(buf, "at") }}, {{ word(buf, "at + 4u") }});
  let high_at = {{ p[1] }}u + b * 16u + n * 8u + lane;
  let high = vec2<u32>({{ word(buf, "high_at") }}, {{ word(buf, "high_at + 4u") }}) >> vec2<u32>(k * 2u);
  let q = (vec4<u32>(both, both >> vec2<u32>(4u)) & vec4<u32>(0x0f0f0f0fu))
    | ((vec4<u32>(high, high >> vec2<u32>(4u)) & vec4<u32>(0x03030303u)) << vec4<u32>(4u));
  let scales_at = {{ p[2] }}u + b * 4u + n * 2u;
  let scales = vec2<u32>({{ word(buf, "scales_at") }}, {{ word(buf, "scales_at + 1u") }}) >> vec2<u32>(k * 16u);
  let d = unpack2x16float({{ word(buf, p[3] ~ "u + (b >> 1u)") }} >> ((b & 1u) * 16u)).x;
  let of_16 = vec4<i32>(vec4<u32>(scales.x << 24u, scales.x << 16u, scales.y << 24u, scales.y << 16u)) >> vec4<u32>(24u);
  return {{ name }}_words(q, d * vec4<f32>(of_16));
}
{%- for i in range(4) %}
fn {{ name }}_piece_{{ i }}(w: {{ name }}_words) -> vec4<f32> {
  return w.d[{{ i }}] * (vec4<f32>(unpack4xU8(w.q[{{ i }}])) - vec4<f32>(32.0));
}
{%- endfor %}
{%- endif %}
{% endmacro -%}
