{%- if enable_subgroups %}
enable subgroups;
{%- endif %}
// Counts, and where things lie in `rows`, in vec4. Rows of decoding come first, and so do their groups.
struct Step { rows: u32, outputs: u32, max_blocks: u32, table_at: u32, decode: u32, groups_at: u32, decode_groups: u32, changes: u32 }
@group(0) @binding(0) var<uniform> step: Step;
// (token, slot, position, row of output i); after the rows, their groups (attention_gpu.wgsl): the first row, and from bit 16 on how
// many; after those, the block tables (common/cache.wgsl)
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
