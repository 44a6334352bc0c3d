// Grouped-query attention of each row over its own slot's cache, positions up to its own (of a window, where the layer has one), with an online
// softmax, for CPU
// adapters with subgroups. A subgroup is one row of one key-value head, with all query heads that share it. It takes
// {{ subgroup }} positions at a time: a lane is first one position, for the scores, then a share of the head's values. What is added in
// which order depends on the row's position alone. Later positions are never read: a cache place not yet written may hold
// anything.
{%- set lanes = head_dim // 4 %}
{%- set group = heads // kv_heads %}
{%- set shares = lanes // subgroup %}
{% from "common/lanes.wgsl" import order, turn, piece %}
{% include "common/step.wgsl" %}
{% include "common/cache.wgsl" %}
{% include "common/window.wgsl" %}
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> kv: array<{{ "vec2<u32>" if half_cache else "vec4<f32>" }}>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@compute @workgroup_size({{ subgroup }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  {{ order(subgroup) }}
  let row = wg.y;
  let slot = rows[row].y;
  let last = rows[row].z;
  let at = row * {{ q_d // 4 }}u + wg.x * {{ group * lanes }}u + lane;
  {%- for h in range(group) %}
  var top_{{ h }} = -3.0e38;
  var total_{{ h }} = 0.0;
  {%- for s in range(shares) %}
  let q_{{ h }}_{{ s }} = q[at + {{ h * lanes + s * subgroup }}u] * {{ score_scale }};
  var o_{{ h }}_{{ s }} = vec4<f32>(0.0);
  {%- endfor %}{% endfor %}
  for (var first = {{ "first_seen(last)" if window else "0u" }}; first <= last; first += {{ subgroup }}u) {
    let seen = first + lane <= last;
    let place = cache_at(slot, min(first + lane, last)) + wg.x * {{ lanes }}u;
    {%- for h in range(group) %}
    var s_{{ h }} = 0.0;
    {%- endfor %}
    {%- for i in range(lanes) %}
    let k_{{ i }} = cached(place + {{ piece(subgroup, i) }});
    {%- for h in range(group) %}
    s_{{ h }} += dot({{ turn(subgroup, "q_" ~ h ~ "_" ~ i // subgroup, i) }}, k_{{ i }});
    {%- endfor %}{% endfor %}
    {%- for h in range(group) %}
    s_{{ h }} = select(-3.0e38, {{ "capped(s_" ~ h ~ ")" if score_cap else "s_" ~ h }}, seen);
    var new_top_{{ h }} = top_{{ h }};
    {%- for i in range(subgroup) %}
    new_top_{{ h }} = max(new_top_{{ h }}, {{ turn(subgroup, "s_" ~ h, i) }});
    {%- endfor %}
    let keep_{{ h }} = exp(top_{{ h }} - new_top_{{ h }});
    let w_{{ h }} = select(0.0, exp(s_{{ h }} - new_top_{{ h }}), seen);
    top_{{ h }} = new_top_{{ h }};
    total_{{ h }} *= keep_{{ h }};
    {%- for s in range(shares) %}
    o_{{ h }}_{{ s }} *= keep_{{ h }};
    {%- endfor %}{% endfor %}
    {%- for i in range(subgroup) %}
    let place_{{ i }} = VALUES + {{ turn(subgroup, "place", i) }} + lane;
    {%- for h in range(group) %}
    let w_{{ h }}_{{ i }} = {{ turn(subgroup, "w_" ~ h, i) }};
    total_{{ h }} += w_{{ h }}_{{ i }};
    {%- endfor %}
    {%- for s in range(shares) %}
    let v_{{ i }}_{{ s }} = cached(place_{{ i }} + {{ s * subgroup }}u);
    {%- for h in range(group) %}
    o_{{ h }}_{{ s }} += w_{{ h }}_{{ i }} * v_{{ i }}_{{ s }};
    {%- endfor %}{% endfor %}{% endfor %}
  }
  {%- for h in range(group) %}{% for s in range(shares) %}
  out[at + {{ h * lanes + s * subgroup }}u] = o_{{ h }}_{{ s }} / total_{{ h }};
  {%- endfor %}{% endfor %}
}
