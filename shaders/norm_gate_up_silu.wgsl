// RMS norm, the gate and up projections, silu(gate) * up. One invocation makes four outputs: eight weight rows.
{% from "common/weights.wgsl" import weights %}
{% from "common/tile.wgsl" import zero, accumulate, inverse_rms %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> squares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> gate: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> up: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec2<f32>>;
{{ weights("gate_group", "gate", w[0].ty, w[0].p) }}
{{ weights("up_group", "up", w[1].ty, w[1].p) }}
fn silu(v: vec2<f32>) -> vec2<f32> { return v / (1.0 + exp(-v)); }
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= {{ ff // 2 }}u) { return; }
  let o = id.x * {{ d // 16 }}u;
  {%- for t in range(T) %}
  let row_{{ t }} = min(id.y * {{ T }}u + {{ t }}u, step.rows - 1u);
  let x_at_{{ t }} = row_{{ t }} * {{ d // 4 }}u;
  {%- endfor %}
  {{- inverse_rms(T, d, eps) }}
  {{- zero(T, ["a", "b", "c", "e"]) }}
  {{- accumulate(T, d // 32, "x", "gain", [("a", "gate_group", "o"), ("b", "gate_group", "o + " ~ d // 32 ~ "u"),
      ("c", "up_group", "o"), ("e", "up_group", "o + " ~ d // 32 ~ "u")]) }}
  {%- for t in range(T) %}
  if (id.y * {{ T }}u + {{ t }}u < step.rows) {
    out[row_{{ t }} * {{ ff // 2 }}u + id.x] = silu(vec2<f32>(a_{{ t }}, b_{{ t }}) * inv_{{ t }}) * (vec2<f32>(c_{{ t }}, e_{{ t }}) * inv_{{ t }});
  }
  {%- endfor %}
}
