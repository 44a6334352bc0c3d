// Grouped-query attention of each row over its own slot's cache, positions up to its own (of a window, where the layer has one),
// for GPUs. A workgroup is up to {{ row_count }} rows of a slot and {{ head_count }} heads that share keys and values. It takes {{ split }} positions at
// a time, split at multiples of {{ split }}: an invocation a position, for the scores; then an invocation a vec4 of the head and one in
// {{ split // lanes }} of those positions, for the values.
{%- if prompt %}
// For rows of prompts: a workgroup takes all splits of its rows.
{%- else %}
// For rows of decoding: a workgroup takes one split. A row of one split is finished; the splits of others are put together by
// attention_merge.wgsl.
{%- endif %}
// What is added in which order depends on the row's position alone. Positions that a row does not see are left out, never
// multiplied with zero: a cache place not yet written may hold anything.
{%- set queries = head_count * row_count %}
{%- set subs = split // lanes %}
{%- set quarter = split // 4 %}
{#- Queries whose sums fit the memory of the scores at once. #}
{%- set at_once = [queries * quarter // split, 1] | max %}
{%- set rounds = (queries + at_once - 1) // at_once %}
{% include "common/step.wgsl" %}
{% include "common/cache.wgsl" %}
{% include "common/window.wgsl" %}
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> kv: array<{{ "vec2<u32>" if half_cache else "vec4<f32>" }}>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
{%- if not prompt %}
// For each row, head and split: the sum of the weighted values, then (largest score, sum of the weights, 0, 0).
@group(0) @binding(5) var<storage, read_write> parts: array<vec4<f32>>;
{%- endif %}
const UNSEEN = -3.0e38;
var<workgroup> query: array<vec4<f32>, {{ queries * lanes }}>;
// Scores of a query's positions, then their weights (-1 where unseen), then sums of values.
var<workgroup> scores: array<vec4<f32>, {{ [queries * quarter, split] | max }}>;
var<workgroup> places: array<u32, {{ split }}>;
var<workgroup> tops: array<vec4<f32>, {{ queries * 8 }}>;
var<workgroup> totals: array<vec4<f32>, {{ queries * 8 }}>;
fn largest(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
// Of a query's 32.
fn top_of(i: u32) -> f32 {
  var top = tops[i * 8u];
  for (var n = 1u; n < 8u; n++) { top = max(top, tops[i * 8u + n]); }
  return largest(top);
}
fn total_of(i: u32) -> f32 {
  var total = totals[i * 8u];
  for (var n = 1u; n < 8u; n++) { total += totals[i * 8u + n]; }
  return dot(total, vec4<f32>(1.0));
}
// A vec4's weights, given the largest score; -1 where unseen.
fn weights_of(s: vec4<f32>, top: f32) -> vec4<f32> { return select(exp(s - top), vec4<f32>(-1.0), s <= vec4<f32>(UNSEEN)); }
@compute @workgroup_size({{ split }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  {%- set group_at = "step.decode_groups + wg.y" if prompt else "wg.y" %}
  let group = rows[step.groups_at + (({{ group_at }}) >> 2u)][({{ group_at }}) & 3u];
  let first_row = group & 0xffffu;
  let count = group >> 16u;
  let slot = rows[first_row].y;
  let last = rows[first_row + count - 1u].z;
  let first = {{ "first_seen(rows[first_row].z)" if window else "0u" }};
  {%- if prompt %}
  let begin_split = first / {{ split }}u;
  let end_split = last / {{ split }}u + 1u;
  {%- else %}
  let begin_split = wg.z;
  let end_split = wg.z + 1u;
  if (wg.z < first / {{ split }}u || wg.z > last / {{ split }}u) { return; }
  {%- endif %}
  let head = wg.x * {{ head_count }}u;
  let kv_at = (head / {{ heads // kv_heads }}u) * {{ lanes }}u;
  {%- for r in range(row_count) %}
  let position_{{ r }} = rows[first_row + min({{ r }}u, count - 1u)].z;
  {%- if window %}
  let first_{{ r }} = first_seen(position_{{ r }});
  {%- endif %}
  {%- endfor %}
  for (var i = local; i < {{ queries * lanes }}u; i += {{ split }}u) {
    let r = min(i / {{ head_count * lanes }}u, count - 1u);
    query[i] = q[(first_row + r) * {{ q_d // 4 }}u + head * {{ lanes }}u + i % {{ head_count * lanes }}u] * {{ score_scale }};
  }
  let lane = local % {{ lanes }}u;
  let sub = local / {{ lanes }}u;
  {%- if prompt %}
  {%- for n in range(rounds) %}
  var run_{{ n }} = vec4<f32>(0.0);
  var run_top_{{ n }} = UNSEEN;
  var run_total_{{ n }} = 0.0;
  {%- endfor %}
  {%- endif %}
  for (var at_split = begin_split; at_split < end_split; at_split++) {
    workgroupBarrier();
    let base = at_split * {{ split }}u;
    let p = base + local;
    {%- for i in range(queries) %}
    var s_{{ i }} = UNSEEN;
    {%- endfor %}
    if (p <= last && p >= first) {
      let place = cache_at(slot, p) + kv_at;
      places[local] = VALUES + place;
      {%- for i in range(queries) %}
      var dot_{{ i }} = 0.0;
      {%- endfor %}
      {%- set ahead = 4 if lanes % 4 == 0 else 1 %}
      for (var i = 0u; i < {{ lanes }}u; i += {{ ahead }}u) {
        {%- for u in range(ahead) %}
        let k_{{ u }} = cached(place + i + {{ u }}u);
        {%- endfor %}
        {%- for r in range(row_count) %}
        {{ "if (" ~ r ~ "u < count) {" if r > 0 }}
        {%- for h in range(head_count) %}{% set i = r * head_count + h %}{% for u in range(ahead) %}
        dot_{{ i }} += dot(query[{{ i * lanes + u }}u + i], k_{{ u }});
        {%- endfor %}{% endfor %}
        {{ "}" if r > 0 }}
        {%- endfor %}
      }
      {%- for r in range(row_count) %}
      let seen_{{ r }} = {{ r }}u < count && p <= position_{{ r }}{{ " && p >= first_" ~ r if window }};
      {%- for h in range(head_count) %}{% set i = r * head_count + h %}
      s_{{ i }} = select(UNSEEN, {{ "capped(dot_" ~ i ~ ")" if score_cap else "dot_" ~ i }}, seen_{{ r }});
      {%- endfor %}{% endfor %}
    }
    {%- for i in range(queries) %}
    scores[{{ i * quarter }}u + (local >> 2u)][local & 3u] = s_{{ i }};
    {%- endfor %}
    workgroupBarrier();
    // Thirty-two invocations a query: each has a few vec4 of its scores.
    for (var i = local; i < {{ queries * 32 }}u; i += {{ split }}u) {
      let at = (i / 32u) * {{ quarter }}u + i % 32u;
      tops[i >> 2u][i & 3u] = {{ "max(" if quarter == 64 }}largest(scores[at]){{ ", largest(scores[at + 32u]))" if quarter == 64 }};
    }
    workgroupBarrier();
    for (var i = local; i < {{ queries * 32 }}u; i += {{ split }}u) {
      let at = (i / 32u) * {{ quarter }}u + i % 32u;
      let top = top_of(i / 32u);
      let w = weights_of(scores[at], top);
      scores[at] = w;
      var total = dot(max(w, vec4<f32>(0.0)), vec4<f32>(1.0));
      {%- if quarter == 64 %}
      let more = weights_of(scores[at + 32u], top);
      scores[at + 32u] = more;
      total += dot(max(more, vec4<f32>(0.0)), vec4<f32>(1.0));
      {%- endif %}
      totals[i >> 2u][i & 3u] = total;
    }
    workgroupBarrier();
    {%- for i in range(queries) %}
    var sum_{{ i }} = vec4<f32>(0.0);
    {%- endfor %}
    if (sub < {{ subs }}u) {
      let end = min(last + 1u - base, {{ split }}u);
      for (var i = {{ "select(0u, (first - base + " ~ (subs - 1) ~ "u - sub) / " ~ subs ~ "u, first > base) * " ~ subs ~ "u + sub" if window else "sub" }}; i < end; i += {{ subs * 4 }}u) {
        {%- for u in range(4) %}
        let i_{{ u }} = {{ "i" if u == 0 else "min(i + " ~ u * subs ~ "u, end - 1u)" }};
        let v_{{ u }} = cached(places[i_{{ u }}] + lane);
        {%- endfor %}
        {%- for u in range(4) %}
        {{ "if (i + " ~ u * subs ~ "u < end) {" if u > 0 }}
        {%- for r in range(row_count) %}
        {{ "if (" ~ r ~ "u < count) {" if r > 0 }}
        {%- for h in range(head_count) %}{% set n = r * head_count + h %}
        let w_{{ u }}_{{ n }} = scores[{{ n * quarter }}u + (i_{{ u }} >> 2u)][i_{{ u }} & 3u];
        if (w_{{ u }}_{{ n }} >= 0.0) { sum_{{ n }} = fma(vec4<f32>(w_{{ u }}_{{ n }}), v_{{ u }}, sum_{{ n }}); }
        {%- endfor %}
        {{ "}" if r > 0 }}
        {%- endfor %}
        {{ "}" if u > 0 }}
        {%- endfor %}
      }
    }
    {%- for n in range(rounds) %}
    workgroupBarrier();
    {%- for i in range(at_once) %}{% if n * at_once + i < queries %}
    scores[{{ i * split }}u + local] = sum_{{ n * at_once + i }};
    {%- endif %}{% endfor %}
    workgroupBarrier();
    {
      let of_query = {{ n * at_once }}u + local / {{ lanes }}u;
      if (local < {{ at_once * lanes }}u && of_query < {{ queries }}u) {
        let at = (local / {{ lanes }}u) * {{ split }}u + lane;
        var sum = scores[at];
        for (var i = 1u; i < {{ subs }}u; i++) { sum += scores[at + i * {{ lanes }}u]; }
        let top = top_of(of_query);
        let total = total_of(of_query);
        {%- if prompt %}
        let new_top = max(run_top_{{ n }}, top);
        let keep = exp(run_top_{{ n }} - new_top);
        // A split of which the row sees nothing weighs nothing.
        let weight = select(exp(top - new_top), 0.0, top <= UNSEEN);
        run_{{ n }} = run_{{ n }} * keep + sum * weight;
        run_total_{{ n }} = run_total_{{ n }} * keep + total * weight;
        run_top_{{ n }} = new_top;
        {%- else %}
        let r = of_query / {{ head_count }}u;
        let row = first_row + r;
        if (r < count) {
          let position = rows[row].z;
          let begin = {{ "first_seen(position)" if window else "0u" }} / {{ split }}u;
          let end = position / {{ split }}u;
          let of_head = head + of_query % {{ head_count }}u;
          if (begin == end) {
            if (at_split == end) { out[row * {{ q_d // 4 }}u + of_head * {{ lanes }}u + lane] = sum / total; }
          } else {
            let part = ((row * {{ heads }}u + of_head) * {{ splits }}u + at_split) * {{ lanes + 1 }}u;
            parts[part + lane] = sum;
            if (lane == 0u) { parts[part + {{ lanes }}u] = vec4<f32>(top, total, 0.0, 0.0); }
          }
        }
        {%- endif %}
      }
    }
    {%- endfor %}
  }
  {%- if prompt %}
  {%- for n in range(rounds) %}
  {
    let of_query = {{ n * at_once }}u + local / {{ lanes }}u;
    let r = of_query / {{ head_count }}u;
    if (local < {{ at_once * lanes }}u && of_query < {{ queries }}u && r < count) {
      out[(first_row + r) * {{ q_d // 4 }}u + (head + of_query % {{ head_count }}u) * {{ lanes }}u + lane] = run_{{ n }} / run_total_{{ n }};
    }
  }
  {%- endfor %}
  {%- endif %}
}
