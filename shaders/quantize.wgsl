// Activations as signed bytes (`precision: "fast"`): of each 32 a scale, by which the largest is 127. An invocation takes 32 of a row. A
// row of `bytes` is its words of four bytes, then for each 32 the scale, and the sums of the bytes of both halves, 16 bits each.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bytes: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let row = id.x / {{ inner // 32 }}u;
  let g = id.x % {{ inner // 32 }}u;
  if (row >= step.rows) { return; }
  let at_values = row * {{ inner // 4 }}u + g * 8u;
  let to = row * {{ inner // 4 + inner // 16 }}u;
  // As words, since a compiler may assume that no float is a NaN; one makes the scale a NaN, and so the sums.
  var largest = vec4<u32>(0u);
  {%- for i in range(8) %}
  let v_{{ i }} = values[at_values + {{ i }}u];
  largest = max(largest, bitcast<vec4<u32>>(v_{{ i }}) & vec4<u32>(0x7fffffffu));
  {%- endfor %}
  let most = bitcast<f32>(max(max(largest.x, largest.y), max(largest.z, largest.w)));
  let inverse = select(0.0, 127.0 / most, most > 0.0);
  var sums = vec2<i32>(0);
  {%- for i in range(8) %}
  let q_{{ i }} = vec4<i32>(round(v_{{ i }} * inverse));
  bytes[to + g * 8u + {{ i }}u] = pack4xI8(q_{{ i }});
  sums[{{ i // 4 }}] += q_{{ i }}.x + q_{{ i }}.y + q_{{ i }}.z + q_{{ i }}.w;
  {%- endfor %}
  let at = to + {{ inner // 4 }}u + g * 2u;
  bytes[at] = bitcast<u32>(most / 127.0);
  bytes[at + 1u] = (bitcast<u32>(sums.x) & 0xffffu) | (bitcast<u32>(sums.y) << 16u);
}
