{#- What a product's tile reads a matrix's weights by. -#}
{%- from "common/weights.wgsl" import weights -%}
{%- from "common/lane_weights.wgsl" import lane_weights -%}
{%- macro matrix(tile, name, buf, w, subgroup) -%}
  {%- if tile == "gpu" -%} {{ lane_weights(name, buf, w.ty, w.p) }} {%- elif tile == "cpu" -%} {{ weights(name, buf, w.ty, w.p, subgroup) }} {%- endif -%}
{%- endmacro -%}
