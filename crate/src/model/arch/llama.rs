//! Llama, and what is stored as one: Mistral 7B, TinyLlama, SmolLM2, DeepSeek-R1-Distill-Llama.

use super::*;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut config = keys.base()?;
    config.qkv_bias = (keys.has_tensor)("blk.0.attn_q.bias");
    // Mistral 7B v0.1.
    config.set_window(keys.window()?);
    Ok(config)
}
