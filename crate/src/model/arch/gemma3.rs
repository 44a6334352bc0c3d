//! Gemma 3, text: four norms a layer and norms of q and k; most layers see a window and turn by a base of their own.

use super::*;
use crate::program::QkNorm;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "gemma3", model_types: &["gemma3_text"], read, read_folder };

/// One layer in so many sees the whole context.
const PATTERN: usize = 6;

/// What its two kinds of files have in common; `scores_over` is what the attention's scale is taken of.
fn of(
    base: ModelConfig,
    local: Rope,
    window: usize,
    sees_all: impl Fn(usize) -> bool,
    scores_over: usize,
) -> ModelConfig {
    let layer = |i: usize| match sees_all(i) {
        true => LayerConfig { window: None, rope: Some(0) },
        false => LayerConfig { window: Some(window), rope: Some(1) },
    };
    ModelConfig {
        layers: (0..base.layers.len()).map(layer).collect(),
        ropes: base.ropes.into_iter().chain([local]).collect(),
        pairs: Pairs::Halves,
        post_norm: true,
        qk_norm: Some(QkNorm::Head),
        activation: Activation::GeluTanh,
        scales: Scales { embedding: (base.d as f32).sqrt(), ..Scales::plain(scores_over) },
        ..base
    }
}

fn read(keys: &Keys) -> Result<ModelConfig> {
    let base = keys.base()?;
    let local = Rope::plain(keys.opt_number("rope.freq_base_swa")?.unwrap_or(10_000.0), base.head_dim);
    let pattern = keys.opt_size("attention.sliding_window_pattern")?.unwrap_or(PATTERN);
    let sees_all = |i: usize| pattern > 0 && (i + 1).is_multiple_of(pattern);
    // The 27B model's scale is not that of its heads, and no key says so.
    let scores_over = if base.layers.len() == 62 { base.d / base.heads.max(1) } else { base.head_dim };
    Ok(of(base, local, keys.size("attention.sliding_window")?, sees_all, scores_over))
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    let base = ModelConfig { gain_offset: 1.0, ..keys.base()? };
    let local = keys.rope("sliding_attention", base.head_dim)?;
    let kinds = keys.texts("layer_types")?;
    let sees_all = |i: usize| match &kinds {
        Some(kinds) => kinds.get(i).is_some_and(|kind| *kind == "full_attention"),
        None => (i + 1).is_multiple_of(PATTERN),
    };
    let scores_over = keys.size("query_pre_attn_scalar")?;
    let softcaps = Softcaps {
        attention: keys.opt_number("attn_logit_softcapping")?,
        logits: keys.opt_number("final_logit_softcapping")?,
    };
    Ok(ModelConfig { softcaps, ..of(base, local, keys.size("sliding_window")?, sees_all, scores_over) })
}
