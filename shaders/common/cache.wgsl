// Where a position's keys lie in a layer's cache, in vec4: a block is its positions' keys, then their values, which so lie
// VALUES further on.
const VALUES = {{ block_size * kv_d // 4 }}u;
fn cache_at(slot: u32, position: u32) -> u32 {
  let entry = slot * step.max_blocks + position / {{ block_size }}u;
  let block = rows[step.table_at + (entry >> 2u)][entry & 3u];
  return (block * {{ 2 * block_size }}u + position % {{ block_size }}u) * {{ kv_d // 4 }}u;
}
