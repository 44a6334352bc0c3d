// x += W input, or x = W input: the attention's output projection, or the feed-forward's down projection. Writes the sum of
// squares of each vec4 of the new x for the norm that follows.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> activations: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;
{{ weights("group", "matrix", w[0].ty, w[0].p, subgroup) }}
fn finish(quad: u32, row: u32, sum: vec4<f32>) {
  let at = row * {{ d // 4 }}u + quad;
  let v = {{ "x[at] + " if adds }}{{ scale ~ " * " if scale }}sum;
  x[at] = v;
  squares[at] = dot(v, v);
}
{%- set input, norm, over = "activations", false, "rows" %}
{%- set sections = [{"quads": d // 4, "weights": ["group"], "last": none, "finish": "finish"}] %}
{% include "common/tile_" ~ tuning ~ ".wgsl" %}
