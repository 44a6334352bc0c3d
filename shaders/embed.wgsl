// x[row] = embedding[token of row], times a constant, with what the norm that follows needs.
// One invocation writes 32 values. The table is a part of the vocabulary: its tokens' rows are written.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;
// The tokens of the step before: a row's is one of them where it has bit 31, and the rest is its place.
@group(0) @binding(5) var<storage, read> sampled: array<u32>;
{%- set binding = 6 %}
{% include "common/residual.wgsl" %}
{{ weights("table_group", "table", w[0].ty, w[0].p) }}
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let g = id.x;
  let row = id.y;
  var token = rows[row].x;
  if (token >> 31u == 1u) { token = sampled[token & 0x7fffffffu]; }
  token -= {{ w[0].first }}u;
  if (g >= {{ d // 32 }}u || row >= step.rows || token >= {{ w[0].rows }}u) { return; }
  let v = table_group(token * {{ d // 32 }}u + g);
  let at = row * {{ d // 4 }}u + g * 8u;
  {%- for i in range(8) %}
  keep(at + {{ i }}u, g * 8u + {{ i }}u, {{ scale ~ " * " if scale }}v[{{ i }}]);
  {%- endfor %}
}
