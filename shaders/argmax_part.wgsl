// The largest logit of each of {{ parts }} parts of the vocabulary, the lowest id on ties: (id, bits of the logit).
// Invocation i takes the ids i, i + {{ parts * part_size }} and so on, so that neighbours read neighbouring words; a part is {{ part_size }} of them. A
// part with a NaN or an infinity gives the id {{ corrupted }}. A compiler may assume that no float is one, so the words themselves are
// looked at.
{%- set size = part_size %}
{% include "common/step.wgsl" %}
{% include "common/best.wgsl" %}
@group(0) @binding(2) var<storage, read> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec2<u32>>;
@compute @workgroup_size({{ [part_size, 16] | max }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = id.y * {{ vocab }}u;
  var best = min(id.x, {{ vocab - 1 }}u);
  var bits = logits[at + best];
  var largest = bits & 0x7fffffffu;
  for (var i = best + {{ parts * part_size }}u; i < {{ vocab }}u; i += {{ parts * part_size }}u) {
    let b = logits[at + i];
    largest = max(largest, b & 0x7fffffffu);
    if (bitcast<f32>(b) > bitcast<f32>(bits)) { bits = b; best = i; }
  }
  if (largest >= 0x7f800000u) { best = {{ corrupted }}u; bits = 0u; }
  {%- if size > 1 %}
  let of_part = best_of(local, vec2<u32>(best, bits));
  if (local == 0u) { parts[id.y * {{ parts }}u + wg.x] = of_part; }
  {%- else %}
  parts[id.y * {{ parts }}u + id.x] = vec2<u32>(best, bits);
  {%- endif %}
}
