// RMS norm, the q, k and v projections, RoPE on q and k (pairs 2i, 2i+1, as GGUF orders them), and k, v written to their
// places in the paged cache. A workgroup is one head, an invocation four of its outputs: two pairs.
{% from "common/weights.wgsl" import weights %}
{% from "common/tile.wgsl" import zero, accumulate, inverse_rms %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> squares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> rope: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> block_table: array<u32>;
@group(0) @binding(7) var<storage, read_write> q_out: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> kv: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read> projections: array<vec4<u32>>;
{%- for n in ["q", "k", "v"] %}
{{ weights(n ~ "_group", "projections", w[loop.index0].ty, w[loop.index0].p) }}
{%- endfor %}
fn cache_at(row: u32) -> u32 {
  let r = rows[row];
  let block = block_table[r.y * step.max_blocks + r.z / {{ block_size }}u];
  return (block * {{ block_size }}u + r.z % {{ block_size }}u) * {{ kv_d // 4 }}u;
}
fn rotate(v: vec4<f32>, row: u32, lane: u32) -> vec4<f32> {
  let c = rope[rows[row].z * {{ head_dim // 4 }}u + lane];  // cos, sin, cos, sin
  return vec4<f32>(v.x * c.x - v.y * c.y, v.x * c.y + v.y * c.x, v.z * c.z - v.w * c.w, v.z * c.w + v.w * c.z);
}
@compute @workgroup_size({{ head_dim // 4 }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let lane = local.x;
  {%- for t in range(T) %}
  let row_{{ t }} = min(wg.y * {{ T }}u + {{ t }}u, step.rows - 1u);
  let x_at_{{ t }} = row_{{ t }} * {{ d // 4 }}u;
  {%- endfor %}
  {{- inverse_rms(T, d, eps) }}
  {{- zero(T, ["a", "b", "c", "e"]) }}
  {%- for n, first, count in [("q", 0, heads), ("k", heads, kv_heads), ("v", heads + kv_heads, kv_heads)] %}
  {{ "else " if not loop.first }}if (wg.x < {{ first + count }}u) {
    let head = wg.x - {{ first }}u;
    let o = (head * {{ head_dim }}u + lane * 4u) * {{ d // 32 }}u;
    {{- accumulate(T, d // 32, "x", "gain", [("a", n ~ "_group", "o"), ("b", n ~ "_group", "o + " ~ d // 32 ~ "u"),
        ("c", n ~ "_group", "o + " ~ d // 32 * 2 ~ "u"), ("e", n ~ "_group", "o + " ~ d // 32 * 3 ~ "u")]) }}
    {%- for t in range(T) %}
    if (wg.y * {{ T }}u + {{ t }}u < step.rows) {
      let v = vec4<f32>(a_{{ t }}, b_{{ t }}, c_{{ t }}, e_{{ t }}) * inv_{{ t }};
      {%- if n == "q" %}
      q_out[row_{{ t }} * {{ q_d // 4 }}u + head * {{ head_dim // 4 }}u + lane] = rotate(v, row_{{ t }}, lane);
      {%- elif n == "k" %}
      kv[cache_at(row_{{ t }}) + head * {{ head_dim // 4 }}u + lane] = rotate(v, row_{{ t }}, lane);
      {%- else %}
      kv[{{ v_offset // 4 }}u + cache_at(row_{{ t }}) + head * {{ head_dim // 4 }}u + lane] = v;
      {%- endif %}
    }
    {%- endfor %}
  }
  {%- endfor %}
}
