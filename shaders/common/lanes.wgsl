{#- How the lanes of a subgroup pass round what each has loaded, for CPU adapters: a software driver loads for each lane on its
    own, also where all want the same value. In turn i of `subgroup` a lane gets `turn(e, i)`, the value of `e` in another
    lane, and so is at piece `piece(i)` of what they loaded together.
    Eight lanes (llvmpipe): a broadcast, and all are at the same piece. Four (SwiftShader): a swap inside a quad, and lane l
    is at piece i xor l, which `order` has: a swap is one instruction there, a broadcast of a vec4 over a hundred. -#}
{%- macro order(subgroup) -%}
  {%- if subgroup == 4 -%} let order = vec4<u32>(lane) ^ vec4<u32>(0u, 1u, 2u, 3u); {%- endif -%}
{%- endmacro -%}
{%- macro turn(subgroup, e, i) -%}
  {%- if subgroup == 4 -%} {{ ["", "quadSwapX", "quadSwapY", "quadSwapDiagonal"][i % 4] }}({{ e }})
  {%- else -%} subgroupBroadcast({{ e }}, {{ i % subgroup }}u) {%- endif -%}
{%- endmacro -%}
{%- macro piece(subgroup, i) -%}
  {%- if subgroup == 4 -%} {{ i // 4 * 4 }}u + order[{{ i % 4 }}] {%- else -%} {{ i }}u {%- endif -%}
{%- endmacro -%}
