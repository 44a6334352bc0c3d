{#- What an architecture changes of attention. `first_seen` is the first position that a row sees. A capped score stays within
    plus and minus the cap: cap * tanh(s / cap), by way of exp, which must not overflow. -#}
{%- if window %}
fn first_seen(last: u32) -> u32 { return last - min(last, {{ window - 1 }}u); }
{%- endif %}
{%- if score_cap %}
fn capped(s: f32) -> f32 {
  let e = exp(clamp(2.0 / {{ score_cap }} * s, -80.0, 80.0));
  return {{ score_cap }} * (e - 1.0) / (e + 1.0);
}
{%- endif %}
