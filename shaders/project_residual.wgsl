// x += W input: the attention's output projection, or the feed-forward's down projection. Writes the sum of squares of
// each vec4 of the new x for the norm that follows. One invocation makes four outputs.
{% from "common/weights.wgsl" import weights %}
{% from "common/tile.wgsl" import zero, accumulate %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;
{{ weights("group", "matrix", w[0].ty, w[0].p) }}
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= {{ d // 4 }}u) { return; }
  let o = id.x * {{ inner // 8 }}u;
  {%- for t in range(T) %}
  let row_{{ t }} = min(id.y * {{ T }}u + {{ t }}u, step.rows - 1u);
  let x_at_{{ t }} = row_{{ t }} * {{ inner // 4 }}u;
  {%- endfor %}
  {{- zero(T, ["a", "b", "c", "e"]) }}
  {{- accumulate(T, inner // 32, "input", none, [("a", "group", "o"), ("b", "group", "o + " ~ inner // 32 ~ "u"),
      ("c", "group", "o + " ~ inner // 32 * 2 ~ "u"), ("e", "group", "o + " ~ inner // 32 * 3 ~ "u")]) }}
  {%- for t in range(T) %}
  if (id.y * {{ T }}u + {{ t }}u < step.rows) {
    let at = row_{{ t }} * {{ d // 4 }}u + id.x;
    let v = x[at] + vec4<f32>(a_{{ t }}, b_{{ t }}, c_{{ t }}, e_{{ t }});
    x[at] = v;
    squares[at] = dot(v, v);
  }
  {%- endfor %}
}
