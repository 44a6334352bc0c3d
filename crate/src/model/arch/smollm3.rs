//! SmolLM3: Llama, but every fourth layer has no positions (NoPE).

use super::*;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut config = keys.base()?;
    for layer in config.layers.iter_mut().skip(3).step_by(4) {
        layer.rope = None;
    }
    Ok(config)
}
