{#- A register tile: `outs` output rows of a weight times `T` activation rows, without barriers. Every activation row
    is summed in the same order whatever T is: over groups of 32, in each over its eight vec4. -#}
{%- macro zero(T, names) -%}
{%- for t in range(T) %}{% for n in names %}
  var {{ n }}_{{ t }} = 0.0;
{%- endfor %}{% endfor %}
{%- endmacro -%}
{#- For each name: weight function, first weight group. `x` is the activation buffer, `gain` the norm weight or none. -#}
{%- macro accumulate(T, groups, x, gain, terms) %}
  for (var g = 0u; g < {{ groups }}u; g++) {
    {%- for n, f, first in terms %}
    let w_{{ n }} = {{ f }}({{ first }} + g);
    {%- endfor %}
    {%- for i in range(8) %}
    {%- if gain %}
    let gain_{{ i }} = {{ gain }}[g * 8u + {{ i }}u];
    {%- endif %}
    {%- for t in range(T) %}
    let x_{{ i }}_{{ t }} = {{ x }}[x_at_{{ t }} + g * 8u + {{ i }}u]{{ " * gain_" ~ i if gain }};
    {%- for n, f, first in terms %}
    {{ n }}_{{ t }} += dot(w_{{ n }}[{{ i }}], x_{{ i }}_{{ t }});
    {%- endfor %}{% endfor %}{% endfor %}
  }
{%- endmacro -%}
{#- 1 / rms of row `row_{{ t }}`, from the partial sums of squares that the kernel before wrote, one for each vec4. -#}
{%- macro inverse_rms(T, d, eps) %}
{%- for t in range(T) %}
  var inv_{{ t }} = 0.0;
  for (var i = 0u; i < {{ d // 16 }}u; i++) { inv_{{ t }} += dot(squares[row_{{ t }} * {{ d // 16 }}u + i], vec4<f32>(1.0)); }
  inv_{{ t }} = inverseSqrt(inv_{{ t }} / {{ d }}.0 + {{ eps }});
{%- endfor %}
{%- endmacro -%}
