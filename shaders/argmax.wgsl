// The token with the largest logit of each sampled row, the lowest id on ties.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> parts: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;
@compute @workgroup_size(4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.outputs) { return; }
  var best = parts[id.x * 64u];
  for (var i = 1u; i < 64u; i++) {
    let p = parts[id.x * 64u + i];
    if (bitcast<f32>(p.y) > bitcast<f32>(best.y)) { best = p; }
  }
  sampled[id.x] = best.x;
}
