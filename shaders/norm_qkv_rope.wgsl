// RMS norm, the q, k and v projections (one matrix where their types are the same), RoPE on q and k (pairs 2i, 2i+1, as
// GGUF orders them), and k, v written to their places in the paged cache.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
{% include "common/cache.wgsl" %}
@group(0) @binding(5) var<storage, read> rope: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> q_out: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> kv: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> projections: array<vec4<u32>>;
{%- for m in w %}
{{ weights("group_" ~ loop.index0, "projections", m.ty, m.p, subgroup) }}
{%- endfor %}
fn rotate(v: vec4<f32>, quad: u32, position: u32) -> vec4<f32> {
  let c = rope[position * {{ head_dim // 4 }}u + quad % {{ head_dim // 4 }}u];  // cos, sin, cos, sin
  return vec4<f32>(v.x * c.x - v.y * c.y, v.x * c.y + v.y * c.x, v.z * c.z - v.w * c.w, v.z * c.w + v.w * c.z);
}
// `quad` counts through q, k and v.
fn finish(quad: u32, row: u32, sum: vec4<f32>) {
  let r = rows[row];
  if (quad >= {{ (q_d + kv_d) // 4 }}u) {
    kv[VALUES + cache_at(r.y, r.z) + quad - {{ (q_d + kv_d) // 4 }}u] = sum;
    return;
  }
  let turned = rotate(sum, quad, r.z);
  if (quad < {{ q_d // 4 }}u) { q_out[row * {{ q_d // 4 }}u + quad] = turned; }
  else { kv[cache_at(r.y, r.z) + quad - {{ q_d // 4 }}u] = turned; }
}
{%- set input, norm, over = "x", true, "rows" %}
{%- set of = namespace(sections=[], quads=0) %}
{%- for m in w %}
fn finish_{{ loop.index0 }}(quad: u32, row: u32, sum: vec4<f32>) { finish({{ of.quads }}u + quad, row, sum); }
{%- set of.sections = of.sections + [{"quads": m.rows // 4, "weights": ["group_" ~ loop.index0], "finish": "finish_" ~ loop.index0}] %}
{%- set of.quads = of.quads + m.rows // 4 %}
{%- endfor %}
{%- set sections = of.sections %}
{% include "common/tile_" ~ tuning ~ ".wgsl" %}
