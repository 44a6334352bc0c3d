// Grouped-query attention of each row over its own slot's cache, positions up to its own (of a window, where the layer has one), with an online
// softmax.
// One invocation is one head of one row; positions are taken in ascending order, so a row's result depends on nothing
// but its slot's cache. Later positions are never read: a cache place not yet written may hold anything.
{% include "common/step.wgsl" %}
{% include "common/cache.wgsl" %}
{% include "common/window.wgsl" %}
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> kv: array<{{ "vec2<u32>" if half_cache else "vec4<f32>" }}>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.x % {{ heads }}u;
  let row = id.x / {{ heads }}u;
  if (row >= step.rows) { return; }
  let slot = rows[row].y;
  let last = rows[row].z;
  let at = row * {{ q_d // 4 }}u + head * {{ head_dim // 4 }}u;
  let kv_head = (head / {{ heads // kv_heads }}u) * {{ head_dim // 4 }}u;
  {%- for i in range(head_dim // 4) %}
  let q{{ i }} = q[at + {{ i }}u] * {{ score_scale }};
  var o{{ i }} = vec4<f32>(0.0);
  {%- endfor %}
  var top = -3.0e38;
  var total = 0.0;
  for (var p = {{ "first_seen(last)" if window else "0u" }}; p <= last; p++) {
    let k_at = cache_at(slot, p) + kv_head;
    var s = 0.0;
    {%- for i in range(head_dim // 4) %}
    s += dot(q{{ i }}, cached(k_at + {{ i }}u));
    {%- endfor %}
    {%- if score_cap %}
    s = capped(s);
    {%- endif %}
    let new_top = max(top, s);
    let keep = exp(top - new_top);
    let weight = exp(s - new_top);
    total = total * keep + weight;
    top = new_top;
    let v_at = VALUES + k_at;
    {%- for i in range(head_dim // 4) %}
    o{{ i }} = o{{ i }} * keep + weight * cached(v_at + {{ i }}u);
    {%- endfor %}
  }
  {%- for i in range(head_dim // 4) %}
  out[at + {{ i }}u] = o{{ i }} / total;
  {%- endfor %}
}
