{#- The rotation of a head's vec4 `quad`, two pairs of neighbours, at a position. Bind `rope` first. -#}
fn rotate(v: vec4<f32>, quad: u32, position: u32) -> vec4<f32> {
  let c = rope[position * {{ head_dim // 4 }}u + quad % {{ head_dim // 4 }}u];  // cos, sin, cos, sin
  return vec4<f32>(v.x * c.x - v.y * c.y, v.x * c.y + v.y * c.x, v.z * c.z - v.w * c.w, v.z * c.w + v.w * c.z);
}
