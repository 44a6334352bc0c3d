// Changes logits before anything is sampled from them (sample/changes.rs). An invocation changes one: (its place, bias, factor, less).
// One that is no finite number stays what it is, for argmax_part.wgsl to find.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> changes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> logits: array<u32>;
const MOST = 3.40282346638528859812e+38f;
fn finite(x: f32) -> f32 { return clamp(x, -MOST, MOST); }
@compute @workgroup_size({{ change_size }})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= step.changes) { return; }
  let change = changes[id.x];
  let bits = logits[change.x];
  if ((bits & 0x7fffffffu) >= 0x7f800000u) { return; }
  let factor = bitcast<f32>(change.z);
  var v = -MOST;
  if (factor > 0.0) {
    v = finite(bitcast<f32>(bits) + bitcast<f32>(change.y));
    v = finite(select(v * factor, v / factor, v > 0.0) - bitcast<f32>(change.w));
  }
  logits[change.x] = bitcast<u32>(v);
}
