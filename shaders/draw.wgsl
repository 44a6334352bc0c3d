{#- Samples the rows of `draws` (program/runner.rs), each by a workgroup of its own: the token with the largest
    logit / temperature + gumbel of those that min_p, top_k and top_p leave. A token's distance is how much less likely it is than the
    most likely one: a whole number, so that its sums and comparisons have no order. Tokens at the distance of the last that is
    kept are kept too. -#}
{%- set size = draw_size %}
{%- set loads = 8 %}
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

// Nats as a distance. What 64 nats and more have is one number: such tokens are never drawn.
fn whole(nats: f32) -> u32 { return u32(min(nats * PER_NAT, 4294967040.0)); }

// Adds a token to its bin, where it is among those that are looked at.
fn count(distance: u32, most: u32, shift: u32, prefix: u32, by_weight: bool) {
  if (distance > most || ((distance >> shift) >> 8u) != prefix) { return; }
  let bin = (distance >> shift) & 255u;
  if (!by_weight) {
    atomicAdd(&low[bin], 1u);
    return;
  }
  let weight = u32(exp(-f32(distance) / PER_NAT) * PER_NAT);
  atomicAdd(&low[bin], weight & 8191u);
  atomicAdd(&high[bin], weight >> 13u);
}

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
    for (var i = local; i < {{ vocab }}u; i += {{ size * loads }}u) {
      // All loads first, since their latency is most of the time.
      {%- for u in range(loads) %}
      let logit_{{ u }} = logits[row + min(i + {{ u * size }}u, {{ vocab - 1 }}u)];
      {%- endfor %}
      {%- for u in range(loads) %}
      let distance_{{ u }} = select(0xffffffffu, whole((most_likely - logit_{{ u }}) * scale), i + {{ u * size }}u < {{ vocab }}u);
      count(distance_{{ u }}, most, shifted, prefix, by_weight);
      {%- endfor %}
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

// Of four neighbouring tokens, as many as there are.
fn distances(row: u32, block: u32, most_likely: f32, scale: f32) -> vec4<f32> {
  let token = block * 4u + vec4<u32>(0u, 1u, 2u, 3u);
  let at = row + min(token, vec4<u32>({{ vocab - 1 }}u));
  let four = vec4<f32>(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
  return select(vec4<f32>(3e38), (most_likely - four) * scale, token < vec4<u32>({{ vocab }}u));
}

// The better of the best so far and those of a block that are kept.
fn best_of_block(so_far: vec2<u32>, block: u32, distances: vec4<f32>, most: u32, which: vec4<u32>) -> vec2<u32> {
  var best = so_far;
  var kept: vec4<bool>;
  for (var i = 0u; i < 4u; i++) { kept[i] = whole(distances[i]) <= most && block * 4u + i < {{ vocab }}u; }
  if (any(kept)) {
    let noise = philox(block, which.y, which.zw);
    for (var i = 0u; i < 4u; i++) {
      if (kept[i]) { best = better(best, vec2<u32>(block * 4u + i, bitcast<u32>(gumbel(noise[i]) - distances[i]))); }
    }
  }
  return best;
}

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
  for (var block = local; block < {{ (vocab + 3) // 4 }}u; block += {{ size * loads // 4 }}u) {
    {%- for u in range(loads // 4) %}
    let block_{{ u }} = block + {{ u * size }}u;
    let distances_{{ u }} = distances(row, block_{{ u }}, most_likely, scale);
    {%- endfor %}
    {%- for u in range(loads // 4) %}
    best = best_of_block(best, block_{{ u }}, distances_{{ u }}, most, which);
    {%- endfor %}
  }
  let drawn = best_of(local, best);
  if (local == 0u && greedy != {{ corrupted }}u) { sampled[which.x] = drawn.x; }
}
