// The gate and up projections of the residual stream, with an RMS norm before them where the model has one, and
// activation(gate) * up. A quad is two outputs of each.
{% from "common/matrix.wgsl" import matrix %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
{%- set first = 4 if norm else 3 %}
@group(0) @binding({{ first }}) var<storage, read> gate: array<vec4<u32>>;
@group(0) @binding({{ first + 1 }}) var<storage, read> up: array<vec4<u32>>;
@group(0) @binding({{ first + 2 }}) var<storage, read_write> out: array<vec2<f32>>;
{{ matrix(tile, "gate_group", "gate", w[0], subgroup) }}
{{ matrix(tile, "up_group", "up", w[1], subgroup) }}
fn finish(quad: u32, row: u32, v: vec4<f32>) {
  {%- if activation == "silu" %}
  out[row * {{ ff // 2 }}u + quad] = v.xy / (1.0 + exp(-v.xy)) * v.zw;
  {%- else %}
  {#- GELU by tanh: 0.5 v (1 + tanh(u)) is v / (1 + exp(-2u)), u = sqrt(2 / pi) (v + 0.044715 v^3). #}
  let u = v.xy * (1.5957691216 + 0.0713548162726 * v.xy * v.xy);
  out[row * {{ ff // 2 }}u + quad] = v.xy / (1.0 + exp(-u)) * v.zw;
  {%- endif %}
}
{%- set input, over = "x", "rows" %}
{%- set sections = [{"quads": ff // 2, "weights": ["gate_group", "up_group"], "types": [w[0].ty, w[1].ty], "buffers": ["gate", "up"], "planes": [w[0].p, w[1].p], "last": none, "finish": "finish"}] %}
{% include "common/tile_" ~ tile ~ ".wgsl" %}
