//! Granite 3, dense: Llama with four constant factors.

use super::*;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "granite", model_types: &["granite"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
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

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    let scales = Scales {
        embedding: keys.number("embedding_multiplier")?,
        residual: keys.number("residual_multiplier")?,
        attention: keys.number("attention_multiplier")?,
        logits: 1.0 / keys.number("logits_scaling")?,
    };
    Ok(ModelConfig { scales, qkv_bias: keys.flag("attention_bias"), ..keys.base()? })
}
