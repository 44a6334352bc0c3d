// Final RMS norm and the output projection, a part of the vocabulary, for the rows that are sampled.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
@group(0) @binding(5) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> logits: array<f32>;
{{ weights("group", "matrix", w[0].ty, w[0].p, subgroup) }}
fn finish(quad: u32, output: u32, v: vec4<f32>) {
  let at = output * {{ vocab }}u + {{ w[0].first }}u + quad * 4u;
  {%- for j in range(4) %}
  {{ "if (quad * 4u + " ~ j ~ "u < " ~ w[0].rows ~ "u) { " if w[0].rows % 4 }}logits[at + {{ j }}u] = v[{{ j }}];{{ " }" if w[0].rows % 4 }}
  {%- endfor %}
}
{%- set input, norm, over = "x", true, "outputs" %}
{%- set sections = [{"quads": (w[0].rows + 3) // 4, "weights": ["group"], "last": w[0].rows - 1, "finish": "finish"}] %}
{% include "common/tile_" ~ tuning ~ ".wgsl" %}
