// The largest logit of each of {{ parts }} parts of the vocabulary, the lowest id on ties: (id, bits of the logit).
// Part i has the ids i, i + {{ parts }} and so on, so that neighbours read neighbouring words.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec2<u32>>;
@compute @workgroup_size({{ parts_per_workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let at = id.y * {{ vocab }}u;
  var best = min(id.x, {{ vocab - 1 }}u);
  var value = logits[at + best];
  for (var i = best + {{ parts }}u; i < {{ vocab }}u; i += {{ parts }}u) {
    let v = logits[at + i];
    if (v > value) { value = v; best = i; }
  }
  parts[id.y * {{ parts }}u + id.x] = vec2<u32>(best, bitcast<u32>(value));
}
