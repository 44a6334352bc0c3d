{#- Thirty-two weights of a quantised tensor, as f32: weights 32g .. 32g+31 of the tensor bound as `buf`, whose planes
    (format/quant.rs) start at the word offsets `p` (a multiple of four each). `words` reads what they are made of into names that
    begin with `n`; `piece` is their vec4 i, of eight. `fn NAME(g)` of `weights` returns all. The arithmetic is ggml's: scale * q,
    then the minimum, each rounded once, so that weights equal the file's dequantised values bit for bit.
    With a subgroup of four, `fn NAME(g, order)`, and the four vec4 of each half come in that order (common/lanes.wgsl). -#}
{%- macro word(buf, index) -%} {{ buf }}[({{ index }}) >> 2u][({{ index }}) & 3u] {%- endmacro -%}
{%- macro half_at(buf, plane, index) -%} unpack2x16float({{ word(buf, plane ~ "u + ((" ~ index ~ ") >> 1u)") }} >> ((({{ index }}) & 1u) * 16u)).x {%- endmacro -%}
{#- A word's four bytes, under a mask of a byte, as f32: each where it stands in the word, so times 2^8 for every byte below
    it. `per_byte` takes that out of the scale: powers of two change no rounding. A CPU adapter does a vector's shift lane by
    lane, and an unsigned conversion in several instructions; this is a mask and a signed conversion. A GPU converts a byte in
    one instruction. -#}
{%- macro bytes(e, mask, gpu) -%}
  {%- if gpu -%} vec4<f32>(unpack4xU8(({{ e }}) & 0x{{ mask }}{{ mask }}{{ mask }}{{ mask }}u))
  {%- else -%} vec4<f32>(bitcast<vec4<i32>>(vec4<u32>({{ e }}) & vec4<u32>(0x{{ mask }}u, 0x{{ mask }}00u, 0x{{ mask }}0000u, 0x{{ mask }}000000u))) {%- endif -%}
{%- endmacro -%}
{%- macro per_byte(e, gpu) -%} {{ e if gpu else "(" ~ e ~ ") * vec4<f32>(1.0, 0x1p-8, 0x1p-16, 0x1p-24)" }} {%- endmacro -%}
{%- macro in_place(number, gpu) -%}
  {%- if gpu -%} vec4<f32>({{ number }}.0) {%- else -%} vec4<f32>({{ number }}.0, {{ number }}.0 * 0x1p8, {{ number }}.0 * 0x1p16, {{ number }}.0 * 0x1p24) {%- endif -%}
{%- endmacro -%}
{#- Four words, each of another piece. -#}
{%- macro four(buf, at, ordered) -%}
  {%- if ordered -%} vec4<u32>({% for c in "xyzw" %}{{ buf }}[{{ at }}][order.{{ c }}]{{ ", " if not loop.last }}{% endfor %})
  {%- else -%} {{ buf }}[{{ at }}] {%- endif -%}
{%- endmacro -%}
{%- macro words(n, buf, ty, p, g, ordered=false, gpu=false) %}
{%- if ty == "F32" %}
  {%- for i in range(8) %}
  let {{ n }}v{{ i }} = bitcast<vec4<f32>>({{ buf }}[{{ p[0] // 4 }}u + {{ g }} * 8u + {{ i // 4 * 4 ~ "u + order[" ~ i % 4 ~ "]" if ordered else i ~ "u" }}]);
  {%- endfor %}
{%- elif ty == "F16" or ty == "BF16" %}
  let {{ n }}b = {{ p[0] // 4 }}u + {{ g }} * 4u;
  {%- for i in range(4) %}
  {%- if ordered %}
  {#- Two pieces of two words each, which begin at an even word of the half's eight. #}
  {%- set o0, o1 = "order[" ~ (i % 2 * 2) ~ "]", "order[" ~ (i % 2 * 2 + 1) ~ "]" %}
  let {{ n }}q{{ i }} = vec4<u32>(
  {%- for o in [o0, o1] %}{% for word in range(2) -%}
    {{ buf }}[{{ n }}b + {{ i // 2 * 2 }}u + ({{ o }} >> 1u)][({{ o }} & 1u) * 2u + {{ word }}u]{{ ", " if not (loop.last and o == o1) }}
  {%- endfor %}{% endfor %});
  {%- else %}
  let {{ n }}q{{ i }} = {{ buf }}[{{ n }}b + {{ i }}u];
  {%- endif %}
  {%- endfor %}
{%- elif ty == "Q8_0" %}
  let {{ n }}d = {{ per_byte(half_at(buf, p[1], g), gpu) }};
  {%- for i in [0, 1] %}
  let {{ n }}q{{ i }} = {{ four(buf, p[0] // 4 ~ "u + " ~ g ~ " * 2u + " ~ i ~ "u", ordered) }} ^ vec4<u32>(0x{{ "80808080" if gpu else "808080" }}u);
  {%- endfor %}
{%- elif ty in ["Q4_0", "Q4_1", "Q5_0", "Q5_1"] %}
  let {{ n }}q0 = {{ four(buf, p[0] // 4 ~ "u + " ~ g, ordered) }};
  let {{ n }}q1 = {{ n }}q0 >> vec4<u32>(4u);
  {%- if ty in ["Q5_0", "Q5_1"] %}
  {%- if ordered %}
  {#- Four bits a piece: neighbours change places where the lane is odd, then pairs where it is above one. #}
  let {{ n }}h0 = {{ word(buf, p[1] ~ "u + " ~ g) }};
  let {{ n }}h1 = select({{ n }}h0, (({{ n }}h0 & 0x0f0f0f0fu) << 4u) | (({{ n }}h0 >> 4u) & 0x0f0f0f0fu), (order.x & 1u) != 0u);
  let {{ n }}high = select({{ n }}h1, (({{ n }}h1 & 0x00ff00ffu) << 8u) | (({{ n }}h1 >> 8u) & 0x00ff00ffu), (order.x & 2u) != 0u);
  {%- else %}
  let {{ n }}high = {{ word(buf, p[1] ~ "u + " ~ g) }};
  {%- endif %}
  {%- endif %}
  {%- if ty in ["Q4_1", "Q5_1"] %}
  let {{ n }}s = unpack2x16float({{ word(buf, p[-1] ~ "u + " ~ g) }});
  let {{ n }}d = {{ per_byte(n ~ "s.x", gpu) }};
  {%- else %}
  let {{ n }}d = {{ per_byte(half_at(buf, p[-1], g), gpu) }};
  {%- endif %}
{%- elif ty in ["Q4_K", "Q5_K"] %}
  let {{ n }}b = ({{ g }}) >> 3u;
  let {{ n }}j = ({{ g }}) & 7u;
  let {{ n }}scales = {{ buf }}[{{ p[-1] // 4 }}u + {{ n }}b];
  let {{ n }}at = ({{ n }}j & 3u) * 8u;
  let {{ n }}s4 = vec3<u32>({{ n }}scales.y >> {{ n }}at, {{ n }}scales.z >> {{ n }}at, {{ n }}scales.w >> {{ n }}at) & vec3<u32>(0xffu);
  let {{ n }}scale = select(({{ n }}s4.z & 15u) | (({{ n }}s4.x >> 6u) << 4u), {{ n }}s4.x & 63u, {{ n }}j < 4u);
  let {{ n }}low = select(({{ n }}s4.z >> 4u) | (({{ n }}s4.y >> 6u) << 4u), {{ n }}s4.y & 63u, {{ n }}j < 4u);
  let {{ n }}dm = unpack2x16float({{ n }}scales.x);
  let {{ n }}d = {{ per_byte(n ~ "dm.x * f32(" ~ n ~ "scale)", gpu) }};
  let {{ n }}m = {{ n }}dm.y * f32({{ n }}low);
  let {{ n }}shift = ({{ n }}j & 1u) * 4u;
  {%- for i in [0, 1] %}
  let {{ n }}q{{ i }} = {{ four(buf, p[0] // 4 ~ "u + " ~ n ~ "b * 8u + (" ~ n ~ "j >> 1u) * 2u + " ~ i ~ "u", ordered) }} >> vec4<u32>({{ n }}shift);
  {%- if ty == "Q5_K" %}
  let {{ n }}h{{ i }} = {{ four(buf, p[1] // 4 ~ "u + " ~ n ~ "b * 2u + " ~ i ~ "u", ordered) }} >> vec4<u32>({{ n }}j);
  {%- endif %}
  {%- endfor %}
{%- elif ty == "Q6_K" %}
  let {{ n }}b = ({{ g }}) >> 3u;
  let {{ n }}h = (({{ g }}) >> 2u) & 1u;
  let {{ n }}k = ({{ g }}) & 3u;
  {%- for i in [0, 1] %}
  let {{ n }}l{{ i }} = {{ four(buf, p[0] // 4 ~ "u + " ~ n ~ "b * 8u + " ~ n ~ "h * 4u + (" ~ n ~ "k & 1u) * 2u + " ~ i ~ "u", ordered) }} >> vec4<u32>(({{ n }}k >> 1u) * 4u);
  let {{ n }}h{{ i }} = {{ four(buf, p[1] // 4 ~ "u + " ~ n ~ "b * 4u + " ~ n ~ "h * 2u + " ~ i ~ "u", ordered) }} >> vec4<u32>({{ n }}k * 2u);
  {%- endfor %}
  let {{ n }}scales = unpack4xI8({{ word(buf, p[2] ~ "u + " ~ n ~ "b * 4u + " ~ n ~ "h * 2u + (" ~ n ~ "k >> 1u)") }});
  let {{ n }}d = {{ half_at(buf, p[3], n ~ "b") }};
  let {{ n }}s0 = {{ per_byte(n ~ "d * f32(" ~ n ~ "scales[(" ~ n ~ "k & 1u) * 2u])", gpu) }};
  let {{ n }}s1 = {{ per_byte(n ~ "d * f32(" ~ n ~ "scales[(" ~ n ~ "k & 1u) * 2u + 1u])", gpu) }};
{%- endif %}
{%- endmacro -%}
{%- macro piece(n, ty, i, gpu=false) -%}
{%- set x, y = n ~ "q" ~ i // 2 ~ "." ~ "xz"[i % 2], n ~ "q" ~ i // 2 ~ "." ~ "yw"[i % 2] -%}
{%- set c = i // 4 ~ "." ~ "xyzw"[i % 4] -%}
{%- set q = n ~ "q" ~ c -%}
{%- if ty == "F32" -%} {{ n }}v{{ i }}
{%- elif ty == "F16" -%} vec4<f32>(unpack2x16float({{ x }}), unpack2x16float({{ y }}))
{%- elif ty == "BF16" -%} bitcast<vec4<f32>>(vec4<u32>({{ x }} << 16u, {{ x }} & 0xffff0000u, {{ y }} << 16u, {{ y }} & 0xffff0000u))
{#- The last byte has the word's sign; the others have 128 added to them. On a GPU all have. -#}
{%- elif ty == "Q8_0" -%} {{ n }}d * ({{ bytes(q, "ff", gpu) }} - {{ "vec4<f32>(128.0)" if gpu else "vec4<f32>(0x1p7, 0x1p15, 0x1p23, 0.0)" }})
{%- elif ty in ["Q4_0", "Q4_1"] -%} {{ offset(n, ty, bytes(q, "0f" if gpu else "f", gpu), gpu) }}
{%- elif ty in ["Q5_0", "Q5_1"] -%}
{#- The product puts bit n at 4 + 8n, among others. -#}
{%- set fifth = "(((" ~ n ~ "high >> " ~ i * 4 ~ "u) & 15u) * 0x2040810u) & 0x10101010u" -%}
{{ offset(n, ty, bytes("(" ~ q ~ " & 0x0f0f0f0fu) | (" ~ fifth ~ ")", "1f", gpu), gpu) }}
{%- elif ty == "Q4_K" -%} {{ n }}d * {{ bytes(q, "0f" if gpu else "f", gpu) }} - {{ n }}m
{%- elif ty == "Q5_K" -%} {{ n }}d * {{ bytes("(" ~ q ~ " & 0x0f0f0f0fu) | ((" ~ n ~ "h" ~ c ~ " & 0x01010101u) * 16u)", "1f", gpu) }} - {{ n }}m
{%- elif ty == "Q6_K" -%} {{ n }}s{{ i // 4 }} * ({{ bytes("(" ~ n ~ "l" ~ c ~ " & 0x0f0f0f0fu) | ((" ~ n ~ "h" ~ c ~ " & 0x03030303u) * 16u)", "3f", gpu) }} - {{ in_place(32, gpu) }})
{%- endif -%}
{%- endmacro -%}
{#- For GPUs: piece i as signed bytes. What those have too much, and the scales, are those of common/lane_weights.wgsl. -#}
{%- macro signed_piece(n, ty, i) -%}
{%- set c = i // 4 ~ "." ~ "xyzw"[i % 4] -%}
{%- set q = n ~ "q" ~ c -%}
{%- if ty == "Q8_0" -%} {{ q }} ^ 0x80808080u
{%- elif ty in ["Q4_0", "Q4_1", "Q4_K"] -%} {{ q }} & 0x0f0f0f0fu
{%- elif ty in ["Q5_0", "Q5_1"] -%} ({{ q }} & 0x0f0f0f0fu) | (((({{ n }}high >> {{ i * 4 }}u) & 15u) * 0x2040810u) & 0x10101010u)
{%- elif ty == "Q5_K" -%} ({{ q }} & 0x0f0f0f0fu) | (({{ n }}h{{ c }} & 0x01010101u) << 4u)
{%- elif ty == "Q6_K" -%} ({{ n }}l{{ c }} & 0x0f0f0f0fu) | (({{ n }}h{{ c }} & 0x03030303u) << 4u)
{%- endif -%}
{%- endmacro -%}
{#- Its minimum, where it has one. -#}
{%- macro minimum_piece(n, ty) -%}
  {%- if ty in ["Q4_1", "Q5_1"] -%} {{ n }}s.y {%- elif ty in ["Q4_K", "Q5_K"] -%} -{{ n }}m {%- endif -%}
{%- endmacro -%}
{%- macro offset(n, ty, q, gpu) -%}
  {%- if ty in ["Q4_1", "Q5_1"] -%} {{ n }}d * {{ q }} + {{ n }}s.y {%- else -%} {{ n }}d * ({{ q }} - {{ in_place(8 if ty == "Q4_0" else 16, gpu) }}) {%- endif -%}
{%- endmacro -%}
{%- macro weights(name, buf, ty, p, subgroup=0) %}
{%- set ordered = subgroup == 4 %}
fn {{ name }}(g: u32{{ ", order: vec4<u32>" if ordered }}) -> array<vec4<f32>, 8> {
  {{- words("", buf, ty, p, "g", ordered) }}
  return array<vec4<f32>, 8>({% for i in range(8) %}{{ piece("", ty, i) }}{{ ", " if not loop.last }}{% endfor %});
}
{% endmacro -%}
