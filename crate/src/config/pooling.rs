//! What an embedding is made of.

use serde_json::Value;

use super::{Keys, MAX_SIZE, integer, whole};
use crate::error::{ErrorCode, Result};

/// Parameters of an embedding, from vLLM's `PoolingParams` and `PoolerConfig`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolingParams {
    /// Which hidden states become one. Default `"last"`, as in vLLM for models that generate.
    pub pooling: Pooling,
    /// Whether the embedding's length is made 1. Default true.
    pub normalize: bool,
    /// How many values are kept, the first; of a length of 1 then too. For models that were trained for it (Matryoshka). Default:
    /// all.
    pub dimensions: Option<usize>,
}

/// Which hidden states become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The last token's.
    #[default]
    Last,
    /// The mean of all tokens'.
    Mean,
}

impl Default for PoolingParams {
    fn default() -> Self {
        Self { pooling: Pooling::Last, normalize: true, dimensions: None }
    }
}

impl PoolingParams {
    const KEYS: [&str; 3] = ["pooling", "normalize", "dimensions"];

    /// Reads and checks a JSON object.
    ///
    /// # Errors
    /// `invalid_params`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let keys = Keys::new(value, ErrorCode::InvalidParams, "pooling parameter", &Self::KEYS)?;
        let default = Self::default();
        Ok(Self {
            pooling: keys.read("pooling", default.pooling, "\"last\" or \"mean\"", |v| match v.as_str()? {
                "last" => Some(Pooling::Last),
                "mean" => Some(Pooling::Mean),
                _ => None,
            })?,
            normalize: keys.boolean("normalize", default.normalize)?,
            dimensions: keys
                .optional("dimensions", &whole(1, MAX_SIZE), |v| integer(v, 1..=MAX_SIZE).map(|n| n as usize))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_is_vllms() {
        assert_eq!(PoolingParams::from_json(&json!({})).unwrap(), PoolingParams::default());
        let all = json!({ "pooling": "mean", "normalize": false, "dimensions": 8 });
        let expected = PoolingParams { pooling: Pooling::Mean, normalize: false, dimensions: Some(8) };
        assert_eq!(PoolingParams::from_json(&all).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (wrong, names) in [
            (json!({ "pooling": "cls" }), "pooling parameter pooling is \"cls\", but must be \"last\" or \"mean\""),
            (json!({ "dimensions": 0 }), "dimensions is 0"),
            (json!({ "normalise": true }), "did you mean normalize?"),
        ] {
            let error = PoolingParams::from_json(&wrong).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidParams);
            assert!(error.message.contains(names), "{error}");
        }
    }
}
