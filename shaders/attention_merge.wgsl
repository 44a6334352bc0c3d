// Puts together the splits of attention_gpu.wgsl, for rows of decoding that have more than one. An invocation is a vec4 of a head
// of a row. Splits are taken in ascending order.
{%- set each = heads * lanes %}
{% include "common/step.wgsl" %}
{% include "common/window.wgsl" %}
@group(0) @binding(2) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.y;
  if (id.x >= {{ each }}u) { return; }
  let position = rows[row].z;
  let begin = {{ "first_seen(position)" if window else "0u" }} / {{ split }}u;
  let end = position / {{ split }}u;
  if (begin == end) { return; }
  let at = (row * {{ heads }}u + id.x / {{ lanes }}u) * {{ splits }}u;
  var top = -3.0e38;
  for (var s = begin; s <= end; s++) { top = max(top, parts[(at + s) * {{ lanes + 1 }}u + {{ lanes }}u].x); }
  var sum = vec4<f32>(0.0);
  var total = 0.0;
  for (var s = begin; s <= end; s++) {
    let part = (at + s) * {{ lanes + 1 }}u;
    let of_split = parts[part + {{ lanes }}u];
    let weight = exp(of_split.x - top);
    sum += weight * parts[part + id.x % {{ lanes }}u];
    total += weight * of_split.y;
  }
  out[row * {{ each }}u + id.x] = sum / total;
}
