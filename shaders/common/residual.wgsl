// Writes a vec4 of the residual stream or of a branch, `quad` of the row's, at `at`; its sum of squares; and where a norm follows,
// its product with that norm's gain, which is what the norm's reader multiplies with.
{%- if gain %}
@group(0) @binding({{ binding }}) var<storage, read> gain: array<vec4<f32>>;
@group(0) @binding({{ binding + 1 }}) var<storage, read_write> gained: array<vec4<f32>>;
{%- endif %}
fn keep(at: u32, quad: u32, v: vec4<f32>) {
  x[at] = v;
  squares[at] = dot(v, v);
  {%- if gain %}
  gained[at] = v * gain[quad];
  {%- endif %}
}
