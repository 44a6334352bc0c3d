// RMS norm, the q, k and v projections, RoPE on q and k (pairs 2i, 2i+1, as GGUF orders them), and k, v written to their
// places in the paged cache.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
{% include "common/cache.wgsl" %}
@group(0) @binding(5) var<storage, read> rope: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> q_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> kv: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> projections: array<vec4<u32>>;
{%- for n in ["q", "k", "v"] %}
{{ weights(n ~ "_group", "projections", w[loop.index0].ty, w[loop.index0].p) }}
{%- endfor %}
fn rotate(v: vec4<f32>, quad: u32, position: u32) -> vec4<f32> {
  let c = rope[position * {{ head_dim // 4 }}u + quad % {{ head_dim // 4 }}u];  // cos, sin, cos, sin
  return vec4<f32>(v.x * c.x - v.y * c.y, v.x * c.y + v.y * c.x, v.z * c.z - v.w * c.w, v.z * c.w + v.w * c.z);
}
fn finish_q(quad: u32, row: u32, v: vec4<f32>) {
  q_out[row * {{ q_d // 4 }}u + quad] = rotate(v, quad, rows[row].z);
}
fn finish_k(quad: u32, row: u32, v: vec4<f32>) {
  let r = rows[row];
  kv[cache_at(r.y, r.z) + quad] = rotate(v, quad, r.z);
}
fn finish_v(quad: u32, row: u32, v: vec4<f32>) {
  let r = rows[row];
  kv[VALUES + cache_at(r.y, r.z) + quad] = v;
}
{%- set input, norm, over = "x", true, "rows" %}
{%- set sections = [
  {"quads": q_d // 4, "weights": ["q_group"], "finish": "finish_q"},
  {"quads": kv_d // 4, "weights": ["k_group"], "finish": "finish_k"},
  {"quads": kv_d // 4, "weights": ["v_group"], "finish": "finish_v"}] %}
{% include "common/tile_" ~ tuning ~ ".wgsl" %}
