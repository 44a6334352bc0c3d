// RMS norm, the gate and up projections, silu(gate) * up. A quad is two outputs of each.
{% from "common/weights.wgsl" import weights %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
@group(0) @binding(5) var<storage, read> gate: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> up: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec2<f32>>;
{{ weights("gate_group", "gate", w[0].ty, w[0].p, subgroup) }}
{{ weights("up_group", "up", w[1].ty, w[1].p, subgroup) }}
fn finish(quad: u32, row: u32, v: vec4<f32>) {
  out[row * {{ ff // 2 }}u + quad] = v.xy / (1.0 + exp(-v.xy)) * v.zw;
}
{%- set input, norm, over = "x", true, "rows" %}
{%- set sections = [{"quads": ff // 2, "weights": ["gate_group", "up_group"], "finish": "finish"}] %}
{% include "common/tile_" ~ tuning ~ ".wgsl" %}
