//! SmolLM3: Llama, but every fourth layer has no positions (NoPE).

use super::*;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "smollm3", model_types: &["smollm3"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
    let mut config = keys.base()?;
    for layer in config.layers.iter_mut().skip(3).step_by(4) {
        layer.rope = None;
    }
    Ok(config)
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    keys.refuse("use_sliding_window")?;
    let mut config = keys.base()?;
    let turning = keys.numbers("no_rope_layers")?;
    for (layer, turns) in config.layers.iter_mut().zip(turning) {
        // Its name says the opposite: 1 for a layer with positions.
        layer.rope = (turns != 0.0).then_some(0);
    }
    Ok(ModelConfig { qkv_bias: keys.flag("attention_bias"), ..config })
}
