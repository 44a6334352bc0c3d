{#- Gumbel noise of (seed, position, token id), as sample/rng.rs has it: Philox4x32-10, four tokens to a block. The logarithms are written
    out, since a driver's own may be off by 2^-21 near 1, where the noise is largest. -#}
fn mul_high(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let other = a0 * b1 + (middle & 0xffffu);
  return a1 * b1 + (middle >> 16u) + (other >> 16u);
}
fn philox(block: u32, position: u32, seed: vec2<u32>) -> vec4<u32> {
  var c = vec4<u32>(block, position, 0u, 0u);
  var key = seed;
  for (var round = 0; round < 10; round++) {
    c = vec4<u32>(
      mul_high(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,
      mul_high(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x,
    );
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
// ln(1 + x) for 1 + x between the roots of 1/2 and 2: the polynomial of Cephes' logf.
fn ln_near_1(x: f32) -> f32 {
  var p = 7.0376836292e-2;
  {%- for c in ["-1.1514610310e-1", "1.1676998740e-1", "-1.2420140846e-1", "1.4249322787e-1", "-1.6668057665e-1", "2.0000714765e-1", "-2.4999993993e-1", "3.3333331174e-1"] %}
  p = fma(p, x, {{ c }});
  {%- endfor %}
  return x + fma(x * x * x, p, -0.5 * x * x);
}
// ln x for a normal x above 0.
fn ln(x: f32) -> f32 {
  // The mantissa is taken between the roots of 1/2 and 2.
  let bits = bitcast<u32>(x) - 0x3f3504f3u;
  let exponent = f32(bitcast<i32>(bits) >> 23u);
  let mantissa = bitcast<f32>((bits & 0x7fffffu) + 0x3f3504f3u);
  return fma(exponent, 0.69314718, ln_near_1(mantissa - 1.0));
}
// -ln(-ln(1 - u)), where u in (0, 1) has the leading 24 bits of these.
fn gumbel(bits: u32) -> f32 {
  let leading = bits & ~(0xffu >> min(countLeadingZeros(bits), 8u));
  let u = max(f32(leading), 0.5) * {{ 1 / 4294967296 }};
  let near = ln_near_1(-min(u, 0.25));
  let far = ln(1.0 - u);
  return -ln(-select(far, near, u <= 0.25));
}
