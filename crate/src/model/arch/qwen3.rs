//! Qwen 3, dense.

use super::*;
use crate::program::QkNorm;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    Ok(ModelConfig { pairs: Pairs::Halves, qk_norm: Some(QkNorm::Head), ..keys.base()? })
}
