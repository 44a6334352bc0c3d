//! Granite 3, dense: Llama with four constant factors.

use super::*;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let base = keys.base()?;
    let scale = |key| keys.opt_number(key).map(|v| v.unwrap_or(1.0));
    let scales = Scales {
        embedding: scale("embedding_scale")?,
        residual: scale("residual_scale")?,
        attention: keys.opt_number("attention.scale")?.unwrap_or(base.scales.attention),
        logits: 1.0 / scale("logit_scale")?,
    };
    Ok(ModelConfig { scales, ..base })
}
