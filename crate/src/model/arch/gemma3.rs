//! Gemma 3, text: four norms a layer and norms of q and k; five layers in six see a window and turn by a base of their own.

use super::*;
use crate::program::QkNorm;

/// Every so many layers one sees the whole context.
const PATTERN: usize = 6;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let base = keys.base()?;
    let head_dim = base.head_dim;
    let local = Rope::plain(keys.opt_number("rope.freq_base_swa")?.unwrap_or(10_000.0), head_dim);
    let window = Some(keys.size("attention.sliding_window")?);
    let pattern = keys.opt_size("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
    let layer = |i: usize| match pattern > 0 && (i + 1).is_multiple_of(pattern) {
        true => LayerConfig { window: None, rope: Some(0) },
        false => LayerConfig { window, rope: Some(1) },
    };
    // The 27B model's scale is not that of its heads, and no key says so.
    let scores_over = if base.layers.len() == 62 { base.d / base.heads.max(1) } else { head_dim };
    let scales = Scales { embedding: (base.d as f32).sqrt(), ..Scales::plain(scores_over) };
    Ok(ModelConfig {
        layers: (0..base.layers.len()).map(layer).collect(),
        ropes: base.ropes.into_iter().chain([local]).collect(),
        pairs: Pairs::Halves,
        post_norm: true,
        qk_norm: Some(QkNorm::Head),
        activation: Activation::GeluTanh,
        scales,
        ..base
    })
}
