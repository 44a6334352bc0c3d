//! Qwen 2 and 2.5, DeepSeek-R1-Distill-Qwen.

use super::*;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    Ok(ModelConfig { pairs: Pairs::Halves, qkv_bias: true, ..keys.base()? })
}
