// Final RMS norm and the output projection, a part of the vocabulary, for the rows that are sampled.
{% from "common/matrix.wgsl" import matrix %}
{% include "common/step.wgsl" %}
{%- set norm = true %}
{% include "common/norm.wgsl" %}
@group(0) @binding(4) var<storage, read> output_matrix: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;
{{ matrix(tile, "group", "output_matrix", w[0], subgroup) }}
fn finish(quad: u32, output: u32, sum: vec4<f32>) {
  {%- if cap %}
  {#- cap * tanh(v / cap), by way of exp, which must not overflow. #}
  let e = exp(clamp(2.0 / {{ cap }} * {{ scale ~ " * " if scale }}sum, vec4<f32>(-80.0), vec4<f32>(80.0)));
  let v = {{ cap }} * (e - 1.0) / (e + 1.0);
  {%- else %}
  let v = {{ scale ~ " * " if scale }}sum;
  {%- endif %}
  let at = output * {{ vocab }}u + {{ w[0].first }}u + quad * 4u;
  {%- for j in range(4) %}
  {{ "if (quad * 4u + " ~ j ~ "u < " ~ w[0].rows ~ "u) { " if w[0].rows % 4 }}logits[at + {{ j }}u] = v[{{ j }}];{{ " }" if w[0].rows % 4 }}
  {%- endfor %}
}
{%- set input, over = "x", "outputs" %}
{%- set sections = [{"quads": (w[0].rows + 3) // 4, "weights": ["group"], "types": [w[0].ty], "buffers": ["output_matrix"], "planes": [w[0].p], "last": w[0].rows - 1, "finish": "finish"}] %}
{% include "common/tile_" ~ tile ~ ".wgsl" %}
