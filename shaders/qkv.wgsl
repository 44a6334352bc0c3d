// The q, k and v projections of the residual stream (one matrix where their types are the same), with an RMS norm before
// them where the model has one. v goes to its place in the paged cache. q and k turn (RoPE) and go to `q_out` and the cache;
// where they are normed before they turn, they go to `q_out` as they are, q then k.
{% from "common/matrix.wgsl" import matrix %}
{% include "common/step.wgsl" %}
{% include "common/norm.wgsl" %}
{%- set writes_cache = true %}
{% include "common/cache.wgsl" %}
{%- set at = namespace(binding=4 if norm else 3) %}
{%- if rotates %}
@group(0) @binding({{ at.binding }}) var<storage, read> rope: array<vec4<f32>>;
{%- set at.binding = at.binding + 1 %}
{%- endif %}
@group(0) @binding({{ at.binding }}) var<storage, read_write> q_out: array<vec4<f32>>;
@group(0) @binding({{ at.binding + 1 }}) var<storage, read_write> kv: array<{{ "vec2<u32>" if half_cache else "vec4<f32>" }}>;
@group(0) @binding({{ at.binding + 2 }}) var<storage, read> projections: array<vec4<u32>>;
{%- for m in w %}
{{ matrix(tile, "group_" ~ loop.index0, "projections", m, subgroup) }}
{%- endfor %}
{%- if rotates %}
{% include "common/rotate.wgsl" %}
{%- endif %}
// `quad` counts through q, k and v.
fn finish(quad: u32, row: u32, sum: vec4<f32>) {
  let r = rows[row];
  let v = sum{{ " + bitcast<vec4<f32>>(projections[" ~ bias ~ "u + quad])" if bias is not none }};
  if (quad >= {{ (q_d + kv_d) // 4 }}u) {
    cache(VALUES + cache_at(r.y, r.z) + quad - {{ (q_d + kv_d) // 4 }}u, v);
    return;
  }
  {%- if raw %}
  q_out[row * {{ (q_d + kv_d) // 4 }}u + quad] = v;
  {%- else %}
  let turned = {{ "rotate(v, quad, r.z)" if rotates else "v" }};
  if (quad < {{ q_d // 4 }}u) { q_out[row * {{ q_d // 4 }}u + quad] = turned; }
  else { cache(cache_at(r.y, r.z) + quad - {{ q_d // 4 }}u, turned); }
  {%- endif %}
}
{%- set input, over = "x", "rows" %}
{%- set of = namespace(sections=[], quads=0) %}
{%- for m in w %}
fn finish_{{ loop.index0 }}(quad: u32, row: u32, sum: vec4<f32>) { finish({{ of.quads }}u + quad, row, sum); }
{%- set of.sections = of.sections + [{"quads": m.rows // 4, "weights": ["group_" ~ loop.index0], "types": [m.ty], "buffers": ["projections"], "planes": [m.p], "last": none, "finish": "finish_" ~ loop.index0}] %}
{%- set of.quads = of.quads + m.rows // 4 %}
{%- endfor %}
{%- set sections = of.sections %}
{% include "common/tile_" ~ tile ~ ".wgsl" %}
