// RMS norms of q and of k, each over every head by itself or over all its heads; then they turn (RoPE) and go to `q_out`
// and the paged cache. An invocation is one head of one row, q's heads before k's.
{%- set lanes = head_dim // 4 %}
{% include "common/step.wgsl" %}
{%- set writes_cache = true %}
{% include "common/cache.wgsl" %}
@group(0) @binding(2) var<storage, read> raw: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gains: array<vec4<f32>>;  // q's, then k's
@group(0) @binding(4) var<storage, read_write> q_out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> kv: array<{{ "vec2<u32>" if half_cache else "vec4<f32>" }}>;
{%- if rotates %}
@group(0) @binding(6) var<storage, read> rope: array<vec4<f32>>;
{% include "common/rotate.wgsl" %}
{%- endif %}
@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.x % {{ heads + kv_heads }}u;
  let row = id.x / {{ heads + kv_heads }}u;
  if (row >= step.rows) { return; }
  let r = rows[row];
  let is_k = head >= {{ heads }}u;
  let own = row * {{ (q_d + kv_d) // 4 }}u + head * {{ lanes }}u;
  {%- if by_head %}
  let first = own;
  let count = {{ lanes }}u;
  let gain = select(0u, {{ lanes }}u, is_k);
  {%- else %}
  let first = row * {{ (q_d + kv_d) // 4 }}u + select(0u, {{ q_d // 4 }}u, is_k);
  let count = select({{ q_d // 4 }}u, {{ kv_d // 4 }}u, is_k);
  let gain = head * {{ lanes }}u;
  {%- endif %}
  var sum = 0.0;
  for (var i = 0u; i < count; i++) { sum += dot(raw[first + i], raw[first + i]); }
  let inv = inverseSqrt(sum / f32(count * 4u) + {{ eps }});
  let q_at = row * {{ q_d // 4 }}u + head * {{ lanes }}u;
  let k_at = cache_at(r.y, r.z) + (head - {{ heads }}u) * {{ lanes }}u;
  for (var i = 0u; i < {{ lanes }}u; i++) {
    let v = raw[own + i] * inv * gains[gain + i];
    let turned = {{ "rotate(v, i, r.z)" if rotates else "v" }};
    if (is_k) { cache(k_at + i, turned); } else { q_out[q_at + i] = turned; }
  }
}
