//! OLMo 2: norms after attention and feed-forward only, and of q and k as a whole.

use super::*;
use crate::program::QkNorm;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "olmo2", model_types: &["olmo2"], read, read_folder };

fn of(base: ModelConfig) -> ModelConfig {
    ModelConfig { pairs: Pairs::Halves, pre_norm: false, post_norm: true, qk_norm: Some(QkNorm::Whole), ..base }
}

fn read(keys: &Keys) -> Result<ModelConfig> {
    keys.base().map(of)
}

fn read_folder(keys: &folder::Keys) -> Result<ModelConfig> {
    keys.base().map(of)
}
