// x += RMS norm of the branch, with what the norm that follows needs.
// One invocation writes 32 values.
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> branch: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> branch_squares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> branch_gain: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> squares: array<f32>;
{%- set binding = 7 %}
{% include "common/residual.wgsl" %}
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let g = id.x;
  let row = id.y;
  if (g >= {{ d // 32 }}u || row >= step.rows) { return; }
  var total = 0.0;
  for (var i = 0u; i < {{ d // 16 }}u; i++) { total += dot(branch_squares[row * {{ d // 16 }}u + i], vec4<f32>(1.0)); }
  let inv = inverseSqrt(total / {{ d }}.0 + {{ eps }}){{ " * " ~ scale if scale }};
  for (var i = 0u; i < 8u; i++) {
    let at = row * {{ d // 4 }}u + g * 8u + i;
    keep(at, g * 8u + i, x[at] + branch[at] * inv * branch_gain[g * 8u + i]);
  }
}
