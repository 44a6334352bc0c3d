// x += W input, or x = W input: the attention's output projection, or the feed-forward's down projection. Writes what
// the norm that follows needs.
{% from "common/matrix.wgsl" import matrix %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> activations: array<{{ "u32" if fast else "vec4<f32>" }}>;
@group(0) @binding(3) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> squares: array<f32>;
{%- set binding = 6 %}
{% include "common/residual.wgsl" %}
{{ matrix(tile, "group", "matrix", w[0], subgroup) }}
fn finish(quad: u32, row: u32, sum: vec4<f32>) {
  let at = row * {{ d // 4 }}u + quad;
  keep(at, quad, {{ "x[at] + " if adds }}{{ scale ~ " * " if scale }}sum);
}
{%- set input, norm, over = "activations", false, "rows" %}
{%- set sections = [{"quads": d // 4, "weights": ["group"], "types": [w[0].ty], "buffers": ["matrix"], "planes": [w[0].p], "last": none, "finish": "finish"}] %}
{% include "common/tile_" ~ tile ~ ".wgsl" %}
