{#- Thirty-two weights of a quantised tensor, as f32. `fn NAME(g)` returns weights 32g .. 32g+31 of the tensor bound as
    `buf`, whose planes (format/quant.rs) start at the word offsets `p` (a multiple of four each). The arithmetic is ggml's: scale * q, then the
    minimum, each rounded once, so that weights equal the file's dequantised values bit for bit.
    With a subgroup of four, `fn NAME(g, order)`, and the four vec4 of each half come in that order (common/lanes.wgsl). -#}
{%- macro word(buf, index) -%} {{ buf }}[({{ index }}) >> 2u][({{ index }}) & 3u] {%- endmacro -%}
{%- macro half_at(buf, plane, index) -%} unpack2x16float({{ word(buf, plane ~ "u + ((" ~ index ~ ") >> 1u)") }})[({{ index }}) & 1u] {%- endmacro -%}
{#- A word's four bytes, under a mask of a byte, as f32: each where it stands in the word, so times 2^8 for every byte below
    it. `per_byte` takes that out of the scale: powers of two change no rounding. A CPU adapter does a vector's shift lane by
    lane, and an unsigned conversion in several instructions; this is a mask and a signed conversion. -#}
{%- macro bytes(e, mask) -%} vec4<f32>(bitcast<vec4<i32>>(vec4<u32>({{ e }}) & vec4<u32>(0x{{ mask }}u, 0x{{ mask }}00u, 0x{{ mask }}0000u, 0x{{ mask }}000000u))) {%- endmacro -%}
{%- macro per_byte(e) -%} ({{ e }}) * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24) {%- endmacro -%}
{%- macro in_place(number) -%} vec4<f32>({{ number }}.0, {{ number }}.0 * 0x1p8, {{ number }}.0 * 0x1p16, {{ number }}.0 * 0x1p24) {%- endmacro -%}
{#- Four words, each of another piece. -#}
{%- macro four(buf, at, ordered) -%}
  {%- if ordered -%} vec4<u32>({% for c in "xyzw" %}{{ buf }}[{{ at }}][order.{{ c }}]{{ ", " if not loop.last }}{% endfor %})
  {%- else -%} {{ buf }}[{{ at }}] {%- endif -%}
{%- endmacro -%}
{%- macro weights(name, buf, ty, p, subgroup=0) %}
{%- set ordered = subgroup == 4 %}
fn {{ name }}(g: u32{{ ", order: vec4<u32>" if ordered }}) -> array<vec4<f32>, 8> {
{%- if ty == "F32" %}
  let b = {{ p[0] // 4 }}u + g * 8u;
  return array<vec4<f32>, 8>({% for i in range(8) %}bitcast<vec4<f32>>({{ buf }}[b + {{ i // 4 * 4 ~ "u + order[" ~ i % 4 ~ "]" if ordered else i ~ "u" }}]){{ ", " if not loop.last }}{% endfor %});
{%- elif ty == "F16" or ty == "BF16" %}
  let b = {{ p[0] // 4 }}u + g * 4u;
  {%- for i in range(4) %}
  {%- if ordered %}
  {#- Two pieces of two words each, which begin at an even word of the half's eight. #}
  {%- set o0, o1 = "order[" ~ (i % 2 * 2) ~ "]", "order[" ~ (i % 2 * 2 + 1) ~ "]" %}
  let q{{ i }} = vec4<u32>(
  {%- for o in [o0, o1] %}{% for word in range(2) -%}
    {{ buf }}[b + {{ i // 2 * 2 }}u + ({{ o }} >> 1u)][({{ o }} & 1u) * 2u + {{ word }}u]{{ ", " if not (loop.last and o == o1) }}
  {%- endfor %}{% endfor %});
  {%- else %}
  let q{{ i }} = {{ buf }}[b + {{ i }}u];
  {%- endif %}
  {%- endfor %}
  return array<vec4<f32>, 8>(
  {%- for i in range(4) %}{% for c in [["x", "y"], ["z", "w"]] %}
    {%- if ty == "F16" %}
    vec4<f32>(unpack2x16float(q{{ i }}.{{ c[0] }}), unpack2x16float(q{{ i }}.{{ c[1] }}))
    {%- else %}
    bitcast<vec4<f32>>(vec4<u32>(q{{ i }}.{{ c[0] }} << 16u, q{{ i }}.{{ c[0] }} & 0xffff0000u, q{{ i }}.{{ c[1] }} << 16u, q{{ i }}.{{ c[1] }} & 0xffff0000u))
    {%- endif %}{{ "," if not (loop.last and i == 3) }}
  {%- endfor %}{% endfor %});
{%- elif ty == "Q8_0" %}
  let d = {{ per_byte(half_at(buf, p[1], "g")) }};
  {%- for i in [0, 1] %}
  let q{{ i }} = {{ four(buf, p[0] // 4 ~ "u + g * 2u + " ~ i ~ "u", ordered) }} ^ vec4<u32>(0x808080u);
  {%- endfor %}
  return array<vec4<f32>, 8>(
  {#- The last byte has the word's sign; the others have 128 added to them. #}
  {%- for i in [0, 1] %}{% for c in ["x", "y", "z", "w"] %}
    d * ({{ bytes("q" ~ i ~ "." ~ c, "ff") }} - vec4<f32>(0x1p7, 0x1p15, 0x1p23, 0.0)){{ "," if not (loop.last and i == 1) }}
  {%- endfor %}{% endfor %});
{%- elif ty in ["Q4_0", "Q4_1", "Q5_0", "Q5_1"] %}
  let q0 = {{ four(buf, p[0] // 4 ~ "u + g", ordered) }};
  let q1 = q0 >> vec4<u32>(4u);
  {%- if ty in ["Q5_0", "Q5_1"] %}
  {%- if ordered %}
  {#- Four bits a piece: neighbours change places where the lane is odd, then pairs where it is above one. #}
  let h0 = {{ word(buf, p[1] ~ "u + g") }};
  let h1 = select(h0, ((h0 & 0x0f0f0f0fu) << 4u) | ((h0 >> 4u) & 0x0f0f0f0fu), (order.x & 1u) != 0u);
  let high = select(h1, ((h1 & 0x00ff00ffu) << 8u) | ((h1 >> 8u) & 0x00ff00ffu), (order.x & 2u) != 0u);
  {%- else %}
  let high = {{ word(buf, p[1] ~ "u + g") }};
  {%- endif %}
  {%- endif %}
  {%- if ty in ["Q4_1", "Q5_1"] %}
  let s = unpack2x16float({{ word(buf, p[-1] ~ "u + g") }});
  let d = {{ per_byte("s.x") }};
  {%- else %}
  let d = {{ per_byte(half_at(buf, p[-1], "g")) }};
  {%- endif %}
  return array<vec4<f32>, 8>(
  {%- for i in [0, 1] %}{% for c in ["x", "y", "z", "w"] %}
    {%- if ty in ["Q4_0", "Q4_1"] %}
    {%- set q = bytes("q" ~ i ~ "." ~ c, "f") %}
    {%- else %}
    {#- The product puts bit n at 4 + 8n, among others. #}
    {%- set fifth = "((((high >> " ~ (i * 16 + loop.index0 * 4) ~ "u) & 15u) * 0x2040810u) & 0x10101010u)" %}
    {%- set q = bytes("(q" ~ i ~ "." ~ c ~ " & 0x0f0f0f0fu) | " ~ fifth, "1f") %}
    {%- endif %}
    {%- if ty in ["Q4_1", "Q5_1"] %}
    d * {{ q }} + s.y
    {%- else %}
    d * ({{ q }} - {{ in_place(8 if ty == "Q4_0" else 16) }})
    {%- endif %}{{ "," if not (loop.last and i == 1) }}
  {%- endfor %}{% endfor %});
{%- elif ty in ["Q4_K", "Q5_K"] %}
  let b = g >> 3u;
  let j = g & 7u;
  let scales = {{ buf }}[{{ p[-1] // 4 }}u + b];
  let at = (j & 3u) * 8u;
  let s4 = vec3<u32>(scales.y >> at, scales.z >> at, scales.w >> at) & vec3<u32>(0xffu);
  let scale = select((s4.z & 15u) | ((s4.x >> 6u) << 4u), s4.x & 63u, j < 4u);
  let low = select((s4.z >> 4u) | ((s4.y >> 6u) << 4u), s4.y & 63u, j < 4u);
  let dm = unpack2x16float(scales.x);
  let d = {{ per_byte("dm.x * f32(scale)") }};
  let m = dm.y * f32(low);
  let shift = (j & 1u) * 4u;
  let q0 = {{ four(buf, p[0] // 4 ~ "u + b * 8u + (j >> 1u) * 2u", ordered) }} >> vec4<u32>(shift);
  let q1 = {{ four(buf, p[0] // 4 ~ "u + b * 8u + (j >> 1u) * 2u + 1u", ordered) }} >> vec4<u32>(shift);
  {%- if ty == "Q5_K" %}
  let h0 = {{ four(buf, p[1] // 4 ~ "u + b * 2u", ordered) }} >> vec4<u32>(j);
  let h1 = {{ four(buf, p[1] // 4 ~ "u + b * 2u + 1u", ordered) }} >> vec4<u32>(j);
  {%- endif %}
  return array<vec4<f32>, 8>(
  {%- for i in [0, 1] %}{% for c in ["x", "y", "z", "w"] %}
    {%- set q = "q" ~ i ~ "." ~ c %}
    {%- if ty == "Q4_K" %}
    d * {{ bytes(q, "f") }} - m
    {%- else %}
    d * {{ bytes("(" ~ q ~ " & 0x0f0f0f0fu) | ((h" ~ i ~ "." ~ c ~ " & 0x01010101u) * 16u)", "1f") }} - m
    {%- endif %}{{ "," if not (loop.last and i == 1) }}
  {%- endfor %}{% endfor %});
{%- elif ty == "Q6_K" %}
  let b = g >> 3u;
  let n = (g >> 2u) & 1u;
  let k = g & 3u;
  let ql = {{ p[0] // 4 }}u + b * 8u + n * 4u + (k & 1u) * 2u;
  let l0 = {{ four(buf, "ql", ordered) }} >> vec4<u32>((k >> 1u) * 4u);
  let l1 = {{ four(buf, "ql + 1u", ordered) }} >> vec4<u32>((k >> 1u) * 4u);
  let qh = {{ p[1] // 4 }}u + b * 4u + n * 2u;
  let h0 = {{ four(buf, "qh", ordered) }} >> vec4<u32>(k * 2u);
  let h1 = {{ four(buf, "qh + 1u", ordered) }} >> vec4<u32>(k * 2u);
  let scales = unpack4xI8({{ word(buf, p[2] ~ "u + b * 4u + n * 2u + (k >> 1u)") }});
  let d = {{ half_at(buf, p[3], "b") }};
  let s0 = {{ per_byte("d * f32(scales[(k & 1u) * 2u])") }};
  let s1 = {{ per_byte("d * f32(scales[(k & 1u) * 2u + 1u])") }};
  return array<vec4<f32>, 8>(
  {%- for i in [0, 1] %}{% for c in ["x", "y", "z", "w"] %}
    s{{ i }} * ({{ bytes("(l" ~ i ~ "." ~ c ~ " & 0x0f0f0f0fu) | ((h" ~ i ~ "." ~ c ~ " & 0x03030303u) * 16u)", "3f") }} - {{ in_place(32) }}){{ "," if not (loop.last and i == 1) }}
  {%- endfor %}{% endfor %});
{%- endif %}
}
{% endmacro -%}
