{#- Samples the rows of `draws` (program/runner.rs), each by a workgroup of its own: the token with the largest
    logit / temperature + gumbel of those that min_p, top_k and top_p leave. A token's distance is how much less likely it is than the
    most likely one: a whole number, so that its sums and comparisons have no order. Tokens at the distance of the last that is
    kept are kept too. -#}
{%- set size = draw_size %}
{% include "common/step.wgsl" %}
{% include "common/best.wgsl" %}
{% include "common/noise.wgsl" %}
// Of each draw: (output, position, seed), then (1 / temperature, largest distance, top_k, top_p).
@group(0) @binding(2) var<storage, read> draws: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
// The most likely tokens, which the drawn ones replace.
@group(0) @binding(4) var<storage, read_write> sampled: array<u32>;

const PER_NAT = 67108864.0;
// Weights of tokens by the next eight bits of their distances, in two halves of thirteen bits: no sum of a vocabulary's overflows.
var<workgroup> low: array<atomic<u32>, 256>;
var<workgroup> high: array<atomic<u32>, 256>;

// In nats.
fn distance_of(logit: f32, most_likely: f32, scale: f32) -> f32 { return (most_likely - logit) * scale; }
// What 64 nats and more have is one number: such tokens are never drawn.
fn whole(nats: f32) -> u32 { return u32(min(nats * PER_NAT, 4294967040.0)); }

// The distance up to which the most likely tokens are `wanted` many, or with `by_weight` have this share of the probability.
fn cut(row: u32, local: u32, most_likely: f32, scale: f32, most: u32, wanted: f32, by_weight: bool) -> u32 {
  var prefix = 0u;
  var missing = wanted;
  for (var shift = 24; shift >= 0; shift -= 8) {
    let shifted = u32(shift);
    for (var i = local; i < 256u; i += {{ size }}u) {
      atomicStore(&low[i], 0u);
      atomicStore(&high[i], 0u);
    }
    workgroupBarrier();
    for (var i = local; i < {{ vocab }}u; i += {{ size }}u) {
      let distance = whole(distance_of(logits[row + i], most_likely, scale));
      if (distance <= most && ((distance >> shifted) >> 8u) == prefix) {
        let bin = (distance >> shifted) & 255u;
        if (by_weight) {
          let weight = u32(exp(-f32(distance) / PER_NAT) * PER_NAT);
          atomicAdd(&low[bin], weight & 8191u);
          atomicAdd(&high[bin], weight >> 13u);
        } else {
          atomicAdd(&low[bin], 1u);
        }
      }
    }
    workgroupBarrier();
    if (by_weight && shift == 24) {
      var total = 0.0;
      for (var i = 0u; i < 256u; i++) { total += weight_of(i); }
      missing *= total;
    }
    var bin = 0u;
    var before = 0.0;
    var sum = 0.0;
    for (var i = 0u; i < 256u; i++) {
      let own = weight_of(i);
      if (own > 0.0) {
        bin = i;
        before = sum;
        sum += own;
        if (sum >= missing) { break; }
      }
    }
    // Where fewer are left than are wanted, all are kept.
    missing = select(3e38, missing - before, sum >= missing);
    prefix = (prefix << 8u) | bin;
    workgroupBarrier();
  }
  return prefix;
}
fn weight_of(bin: u32) -> f32 { return f32(atomicLoad(&low[bin])) + 8192.0 * f32(atomicLoad(&high[bin])); }

@compute @workgroup_size({{ size }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let which = draws[2u * wg.y];
  let how = draws[2u * wg.y + 1u];
  let row = which.x * {{ vocab }}u;
  let greedy = sampled[which.x];
  let most_likely = logits[row + min(greedy, {{ vocab - 1 }}u)];
  let scale = bitcast<f32>(how.x);
  var most = how.y;
  if (how.z > 0u) { most = min(most, cut(row, local, most_likely, scale, most, f32(how.z), false)); }
  let top_p = bitcast<f32>(how.w);
  if (top_p < 1.0) { most = min(most, cut(row, local, most_likely, scale, most, top_p, true)); }
  var best = vec2<u32>({{ vocab - 1 }}u, bitcast<u32>(-3e38f));
  for (var block = local; block < {{ (vocab + 3) // 4 }}u; block += {{ size }}u) {
    var distances: vec4<f32>;
    var kept: vec4<bool>;
    for (var i = 0u; i < 4u; i++) {
      let token = block * 4u + i;
      distances[i] = distance_of(logits[row + min(token, {{ vocab - 1 }}u)], most_likely, scale);
      kept[i] = token < {{ vocab }}u && whole(distances[i]) <= most;
    }
    if (any(kept)) {
      let noise = philox(block, which.y, which.zw);
      for (var i = 0u; i < 4u; i++) {
        if (kept[i]) { best = better(best, vec2<u32>(block * 4u + i, bitcast<u32>(gumbel(noise[i]) - distances[i]))); }
      }
    }
  }
  let drawn = best_of(local, best);
  if (local == 0u && greedy != {{ corrupted }}u) { sampled[which.x] = drawn.x; }
}
