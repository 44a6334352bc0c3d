// Where a position of a slot lies in the keys, in vec4; its values lie `v_offset` floats further on.
fn cache_at(slot: u32, position: u32) -> u32 {
  let entry = slot * step.max_blocks + position / {{ block_size }}u;
  let block = rows[{{ table_at }}u + (entry >> 2u)][entry & 3u];
  return (block * {{ block_size }}u + position % {{ block_size }}u) * {{ kv_d // 4 }}u;
}
