// The token with the largest logit of each sampled row, the lowest id on ties; {{ corrupted }} where a part has it.
{%- set size = parts if part_size > 1 else 1 %}
{% include "common/step.wgsl" %}
{% include "common/best.wgsl" %}
@group(0) @binding(2) var<storage, read> parts: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;
@compute @workgroup_size({{ size }})
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = wg.y * {{ parts }}u;
  {%- if size > 1 %}
  let best = best_of(local, parts[at + local]);
  if (local == 0u) { sampled[wg.y] = best.x; }
  {%- else %}
  var best = parts[at];
  for (var i = 1u; i < {{ parts }}u; i++) { best = better(best, parts[at + i]); }
  sampled[wg.y] = best.x;
  {%- endif %}
}
