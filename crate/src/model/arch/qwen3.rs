//! Qwen 3, dense.

use super::*;
use crate::program::QkNorm;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "qwen3", model_types: &["qwen3"], read, read_folder };

fn read(keys: &Keys) -> Result<ModelConfig> {
    Ok(ModelConfig { pairs: Pairs::Halves, qk_norm: Some(QkNorm::Head), ..keys.base()? })
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    keys.refuse("use_sliding_window")?;
    Ok(ModelConfig { qk_norm: Some(QkNorm::Head), qkv_bias: keys.flag("attention_bias"), ..keys.base()? })
}
