// The largest logit of each of 64 stretches of the vocabulary, the lowest id on ties: (id, bits of the logit).
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec2<u32>>;
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.y >= step.outputs) { return; }
  let first = min(id.x * {{ (vocab + 63) // 64 }}u, {{ vocab - 1 }}u);
  let end = min(first + {{ (vocab + 63) // 64 }}u, {{ vocab }}u);
  var best = first;
  var value = logits[id.y * {{ vocab }}u + first];
  for (var i = first + 1u; i < end; i++) {
    let v = logits[id.y * {{ vocab }}u + i];
    if (v > value) { value = v; best = i; }
  }
  parts[id.y * 64u + id.x] = vec2<u32>(best, bitcast<u32>(value));
}
