//! OLMo 2: norms after attention and feed-forward only, and of q and k as a whole.

use super::*;
use crate::program::QkNorm;

pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    let (pre_norm, post_norm) = (false, true);
    Ok(ModelConfig { pairs: Pairs::Halves, pre_norm, post_norm, qk_norm: Some(QkNorm::Whole), ..keys.base()? })
}
