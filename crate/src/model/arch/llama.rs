//! Llama, and what is stored as one: Mistral 7B, TinyLlama, SmolLM2, DeepSeek-R1-Distill-Llama.

use super::*;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "llama", model_types: &["llama", "mistral"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut config = keys.base()?;
    config.qkv_bias = (keys.has_tensor)("blk.0.attn_q.bias");
    // Mistral 7B v0.1.
    config.set_window(keys.window()?);
    Ok(config)
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    let mut config = keys.base()?;
    config.qkv_bias = keys.flag("attention_bias");
    config.set_window(keys.opt_size("sliding_window")?);
    Ok(config)
}
