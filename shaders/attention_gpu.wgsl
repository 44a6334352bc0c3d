// Grouped-query attention of each row over its own slot's cache, positions up to its own (of a window, where the layer has one), with an online
// softmax.
// A workgroup is one head of one row. It takes {{ threads }} positions at a time: first an invocation a position, for the scores; then
// an invocation a vec4 of the head and one in {{ subs }} of those positions, for the values. What is added in which order depends on
// the row's position alone. Later positions are never read: a cache place not yet written may hold anything.
{%- set lanes = head_dim // 4 %}
{% include "common/step.wgsl" %}
{% include "common/cache.wgsl" %}
{% include "common/window.wgsl" %}
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> kv: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
var<workgroup> query: array<vec4<f32>, {{ lanes }}>;
var<workgroup> scores: array<f32, {{ threads }}>;
var<workgroup> weights: array<f32, {{ threads }}>;
var<workgroup> places: array<u32, {{ threads }}>;
var<workgroup> sums: array<vec4<f32>, {{ threads }}>;
var<workgroup> totals: array<f32, {{ threads }}>;
@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = wg.x;
  let row = wg.y;
  let slot = rows[row].y;
  let count = rows[row].z + 1u;
  let at = row * {{ q_d // 4 }}u + head * {{ lanes }}u;
  let kv_head = (head / {{ heads // kv_heads }}u) * {{ lanes }}u;
  let lane = local % {{ lanes }}u;
  let sub = local / {{ lanes }}u;
  if (local < {{ lanes }}u) { query[local] = q[at + local] * {{ score_scale }}; }
  workgroupBarrier();
  var top = -3.0e38;
  var total = 0.0;
  var sum = vec4<f32>(0.0);
  for (var first = {{ "first_seen(count - 1u)" if window else "0u" }}; first < count; first += {{ threads }}u) {
    let here = min(count - first, {{ threads }}u);
    var score = -3.0e38;
    var k_at = 0u;
    if (local < here) {
      k_at = cache_at(slot, first + local) + kv_head;
      score = 0.0;
      for (var i = 0u; i < {{ lanes }}u; i++) { score += dot(query[i], kv[k_at + i]); }
      {%- if score_cap %}
      score = capped(score);
      {%- endif %}
    }
    scores[local] = score;
    workgroupBarrier();
    var new_top = top;
    for (var i = 0u; i < here; i++) { new_top = max(new_top, scores[i]); }
    places[local] = VALUES + k_at;
    weights[local] = select(0.0, exp(score - new_top), local < here);
    workgroupBarrier();
    let keep = exp(top - new_top);
    top = new_top;
    total *= keep;
    sum *= keep;
    if (sub < {{ subs }}u) {
      for (var i = sub; i < here; i += {{ subs }}u) {
        total += weights[i];
        sum += weights[i] * kv[places[i] + lane];
      }
    }
  }
  sums[local] = sum;
  totals[local] = total;
  workgroupBarrier();
  if (local < {{ lanes }}u) {
    {%- for s in range(1, subs) %}
    sum += sums[local + {{ s * lanes }}u];
    total += totals[local + {{ s * lanes }}u];
    {%- endfor %}
    out[at + local] = sum / total;
  }
}
