{#- The paged cache of keys and values, bound as `kv`. Set `writes_cache` where it is written. -#}
// Where a position's keys lie in a layer's cache, in vec4: a block is its positions' keys, then their values, which so lie
// VALUES further on.
const VALUES = {{ block_size * kv_d // 4 }}u;
fn cache_at(slot: u32, position: u32) -> u32 {
  let entry = slot * step.max_blocks + position / {{ block_size }}u;
  let block = rows[step.table_at + (entry >> 2u)][entry & 3u];
  return (block * {{ 2 * block_size }}u + position % {{ block_size }}u) * {{ kv_d // 4 }}u;
}
{%- if half_cache %}
fn cached(at: u32) -> vec4<f32> { return vec4<f32>(unpack2x16float(kv[at].x), unpack2x16float(kv[at].y)); }
{%- else %}
fn cached(at: u32) -> vec4<f32> { return kv[at]; }
{%- endif %}
{%- if writes_cache is defined %}
fn cache(at: u32, v: vec4<f32>) { kv[at] = {{ "vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw))" if half_cache else "v" }}; }
{%- endif %}
