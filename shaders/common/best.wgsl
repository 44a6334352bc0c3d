{#- The better of two (id, bits of the logit): the larger logit, the lower id on ties; {{ corrupted }} where one is. With `best_of`, the
    best of a workgroup's `size` invocations, a power of two. -#}
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let va = bitcast<f32>(a.y);
  let vb = bitcast<f32>(b.y);
  return select(a, b, b.x == {{ corrupted }}u || (a.x != {{ corrupted }}u && (vb > va || (vb == va && b.x < a.x))));
}
{%- if size > 1 %}
var<workgroup> bests: array<vec2<u32>, {{ size }}>;
fn best_of(local: u32, own: vec2<u32>) -> vec2<u32> {
  bests[local] = own;
  for (var width = {{ size // 2 }}u; width > 0u; width >>= 1u) {
    workgroupBarrier();
    if (local < width) { bests[local] = better(bests[local], bests[local + width]); }
  }
  return bests[0];
}
{%- endif %}
