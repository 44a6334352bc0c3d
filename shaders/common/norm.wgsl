// The residual stream, or its bytes (quantize.wgsl). Where it is normed: times the norm's gain, and its sums of squares, one for each vec4.
@group(0) @binding(2) var<storage, read> x: array<{{ "u32" if fast else "vec4<f32>" }}>;
{%- if norm %}
@group(0) @binding(3) var<storage, read> squares: array<vec4<f32>>;
{%- endif %}
