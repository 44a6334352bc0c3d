// The residual stream; and where it is normed, its sums of squares (one for each vec4) and the norm's weight.
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
{%- if norm %}
@group(0) @binding(3) var<storage, read> squares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;
{%- endif %}
