// Final RMS norm and the output projection, for the rows that are sampled. One invocation makes four logits.
{% from "common/weights.wgsl" import weights %}
{% from "common/tile.wgsl" import zero, accumulate, inverse_rms %}
{% include "common/step.wgsl" %}
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> squares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> matrix: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> logits: array<f32>;
{{ weights("group", "matrix", w[0].ty, w[0].p) }}
@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let o = id.x * 4u;
  if (o >= {{ vocab }}u) { return; }
  {%- for j in range(4) %}
  let o{{ j }} = min(o + {{ j }}u, {{ vocab - 1 }}u) * {{ d // 32 }}u;
  {%- endfor %}
  {%- for t in range(T) %}
  let row_{{ t }} = rows[min(id.y * {{ T }}u + {{ t }}u, step.outputs - 1u)].w;
  let x_at_{{ t }} = row_{{ t }} * {{ d // 4 }}u;
  {%- endfor %}
  {{- inverse_rms(T, d, eps) }}
  {{- zero(T, ["a", "b", "c", "e"]) }}
  {{- accumulate(T, d // 32, "x", "gain", [("a", "group", "o0"), ("b", "group", "o1"), ("c", "group", "o2"), ("e", "group", "o3")]) }}
  {%- for t in range(T) %}
  if (id.y * {{ T }}u + {{ t }}u < step.outputs) {
    let at = (id.y * {{ T }}u + {{ t }}u) * {{ vocab }}u + o;
    {%- for n in ["a", "b", "c", "e"] %}
    if (o + {{ loop.index0 }}u < {{ vocab }}u) { logits[at + {{ loop.index0 }}u] = {{ n }}_{{ t }} * inv_{{ t }}; }
    {%- endfor %}
  }
  {%- endfor %}
}
