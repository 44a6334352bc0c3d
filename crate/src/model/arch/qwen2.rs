//! Qwen 2 and 2.5, DeepSeek-R1-Distill-Qwen.

use super::*;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "qwen2", model_types: &["qwen2"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
    Ok(ModelConfig { pairs: Pairs::Halves, qkv_bias: true, ..keys.base()? })
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    keys.refuse("use_sliding_window")?;
    Ok(ModelConfig { qkv_bias: true, ..keys.base()? })
}
