// The token with the largest logit of each sampled row, the lowest id on ties; {{ corrupted }} where a part has it.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> parts: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let va = bitcast<f32>(a.y);
  let vb = bitcast<f32>(b.y);
  return select(a, b, b.x == {{ corrupted }}u || (a.x != {{ corrupted }}u && (vb > va || (vb == va && b.x < a.x))));
}
{%- if tuning == "gpu" %}
var<workgroup> bests: array<vec2<u32>, 64>;
{%- endif %}
@compute @workgroup_size({{ 64 if tuning == "gpu" else 1 }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = wg.y * {{ parts }}u;
  var best = parts[at + local];
  for (var i = local; i < {{ parts }}u; i += {{ 64 if tuning == "gpu" else 1 }}u) { best = better(best, parts[at + i]); }
  {%- if tuning == "gpu" %}
  bests[local] = best;
  workgroupBarrier();
  if (local != 0u) { return; }
  for (var i = 1u; i < 64u; i++) { best = better(best, bests[i]); }
  {%- endif %}
  sampled[wg.y] = best.x;
}
