{%- if enable_subgroups %}
enable subgroups;
{%- endif %}
struct Step { rows: u32, outputs: u32, max_blocks: u32, table_at: u32, decode: u32 }
@group(0) @binding(0) var<uniform> step: Step;
// (token, slot, position, row of output i); behind the rows, the block tables (common/cache.wgsl)
@group(0) @binding(1) var<storage, read> rows: array<vec4<u32>>;
