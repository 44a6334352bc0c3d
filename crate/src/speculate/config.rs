//! `speculative_config`, as vLLM takes it.

use crate::{Error, ErrorCode, Result};
use serde_json::Value;

/// How to speculate. Absent: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeculativeConfig {
    /// Most draft tokens in a step (K); 1 to [`SpeculativeConfig::MAX_TOKENS`].
    pub num_speculative_tokens: usize,
    /// Whether each step drafts only as many as pay, down to none: `num_speculative_tokens: "auto"`, with
    /// `max_speculative_tokens` as the K above.
    pub adaptive: bool,
    /// Shortest n-gram to look up; at least 1.
    pub prompt_lookup_min: usize,
    /// Longest n-gram to look up; at least `prompt_lookup_min`.
    pub prompt_lookup_max: usize,
}

const KEYS: [&str; 5] =
    ["method", "num_speculative_tokens", "max_speculative_tokens", "prompt_lookup_min", "prompt_lookup_max"];

const AUTO: &str = "auto";

/// The bound of `"auto"` where none is given.
const DEFAULT_AUTO_MAX: usize = 8;

/// What vLLM looks up when neither bound is given.
const DEFAULT_LOOKUP: usize = 5;

impl SpeculativeConfig {
    /// For a request with a prediction, where nothing else is configured: as many tokens as pay.
    pub const PREDICTION: Self =
        Self { num_speculative_tokens: 8, adaptive: true, prompt_lookup_min: 1, prompt_lookup_max: 1 };

    /// The only method.
    pub const METHOD: &'static str = "ngram";

    /// The most draft tokens that a step may have. vLLM sets no limit; here each is a row of a step and a place in a metric.
    pub const MAX_TOKENS: usize = 1024;

    /// Reads the object, with vLLM's defaults: neither lookup bound given, both are 5; one given, the other equals it.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Some(object) = value.as_object() else {
            return Err(invalid(format!(
                "speculative_config must be an object such as {{\"method\": \"ngram\", \"num_speculative_tokens\": 5}}, \
                 not {value}"
            )));
        };
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(invalid(format!("speculative_config.{key} is unknown; known are {}", KEYS.join(", "))));
        }
        match object.get("method").filter(|method| !method.is_null()) {
            Some(Value::String(method)) if method == Self::METHOD => {}
            Some(method) => {
                return Err(invalid(format!("speculative_config.method is {method}; it must be \"ngram\"")));
            }
            None => return Err(invalid("speculative_config.method is missing; write method: \"ngram\"".into())),
        }
        let at = |key| positive(key, object.get(key));
        let adaptive = object.get("num_speculative_tokens").is_some_and(|value| value == AUTO);
        let bound = at("max_speculative_tokens")?;
        let (key, num_speculative_tokens) = if adaptive {
            ("max_speculative_tokens", bound.unwrap_or(DEFAULT_AUTO_MAX))
        } else if bound.is_some() {
            return Err(invalid(
                "speculative_config.max_speculative_tokens goes with num_speculative_tokens: \"auto\"; leave it out, or \
                 write \"auto\""
                    .into(),
            ));
        } else if let Some(k) = at("num_speculative_tokens")? {
            ("num_speculative_tokens", k)
        } else {
            return Err(invalid(
                "speculative_config.num_speculative_tokens is missing; give the most draft tokens per step, for example 5, \
                 or \"auto\""
                    .into(),
            ));
        };
        if num_speculative_tokens > Self::MAX_TOKENS {
            return Err(invalid(format!(
                "speculative_config.{key} is {num_speculative_tokens}; it must be at most {}",
                Self::MAX_TOKENS
            )));
        }
        let (min, max) = (at("prompt_lookup_min")?, at("prompt_lookup_max")?);
        let prompt_lookup_min = min.or(max).unwrap_or(DEFAULT_LOOKUP);
        let prompt_lookup_max = max.or(min).unwrap_or(DEFAULT_LOOKUP);
        if prompt_lookup_min > prompt_lookup_max {
            return Err(invalid(format!(
                "speculative_config.prompt_lookup_min is {prompt_lookup_min}, above prompt_lookup_max, which is \
                 {prompt_lookup_max}; it must be at most that"
            )));
        }
        Ok(Self { num_speculative_tokens, adaptive, prompt_lookup_min, prompt_lookup_max })
    }
}

/// A whole number of at least 1; JavaScript may hand it over as a float. Null counts as not given.
fn positive(key: &str, value: Option<&Value>) -> Result<Option<usize>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) => {
            Ok(Some(number as usize))
        }
        _ => {
            let auto = if key == "num_speculative_tokens" { ", or \"auto\"" } else { "" };
            Err(invalid(format!("speculative_config.{key} is {value}; it must be a whole number of at least 1{auto}")))
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bounds(value: Value) -> (usize, usize) {
        let config = SpeculativeConfig::from_json(&value).unwrap();
        (config.prompt_lookup_min, config.prompt_lookup_max)
    }

    #[test]
    fn the_defaults_are_vllms() {
        assert_eq!(bounds(json!({"method": "ngram", "num_speculative_tokens": 3})), (5, 5));
        assert_eq!(bounds(json!({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 2})), (2, 2));
        assert_eq!(bounds(json!({"method": "ngram", "num_speculative_tokens": 3.0, "prompt_lookup_max": 4.0})), (4, 4));
        let both =
            json!({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 2, "prompt_lookup_max": 4});
        assert_eq!(bounds(both), (2, 4));
    }

    #[test]
    fn auto_has_a_bound() {
        let read = |value| SpeculativeConfig::from_json(&value).unwrap();
        let auto = read(json!({"method": "ngram", "num_speculative_tokens": "auto"}));
        assert!(auto.adaptive && auto.num_speculative_tokens == 8);
        let auto = read(json!({"method": "ngram", "num_speculative_tokens": "auto", "max_speculative_tokens": 3}));
        assert!(auto.adaptive && auto.num_speculative_tokens == 3);
        assert!(!read(json!({"method": "ngram", "num_speculative_tokens": 3})).adaptive);
    }

    #[test]
    fn an_error_names_the_key_and_what_would_be_right() {
        for (value, parts) in [
            (json!(5), vec!["must be an object"]),
            (json!({"num_speculative_tokens": 3}), vec!["method", "ngram"]),
            (json!({"method": "eagle", "num_speculative_tokens": 3}), vec!["eagle", "ngram"]),
            (json!({"method": "ngram"}), vec!["num_speculative_tokens", "missing"]),
            (json!({"method": "ngram", "num_speculative_tokens": "Auto"}), vec!["Auto", "whole number", "\"auto\""]),
            (
                json!({"method": "ngram", "num_speculative_tokens": 3, "max_speculative_tokens": 5}),
                vec!["max_speculative_tokens", "\"auto\""],
            ),
            (
                json!({"method": "ngram", "num_speculative_tokens": "auto", "max_speculative_tokens": 0}),
                vec!["max_speculative_tokens is 0", "at least 1"],
            ),
            (
                json!({"method": "ngram", "num_speculative_tokens": "auto", "max_speculative_tokens": 5000}),
                vec!["max_speculative_tokens is 5000", "1024"],
            ),
            (json!({"method": "ngram", "num_speculative_tokens": 0}), vec!["at least 1"]),
            (json!({"method": "ngram", "num_speculative_tokens": 1.5}), vec!["1.5"]),
            (json!({"method": "ngram", "num_speculative_tokens": 5000}), vec!["5000", "1024"]),
            (
                json!({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 0}),
                vec!["prompt_lookup_min"],
            ),
            (
                json!({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 4, "prompt_lookup_max": 2}),
                vec!["prompt_lookup_min", "prompt_lookup_max"],
            ),
            (
                json!({"method": "ngram", "num_speculative_tokens": 3, "lookup": 2}),
                vec!["lookup", "num_speculative_tokens", "prompt_lookup_max"],
            ),
        ] {
            let error = SpeculativeConfig::from_json(&value).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidConfig);
            for part in parts {
                assert!(error.message.contains(part), "{part:?} not in {:?}", error.message);
            }
        }
    }
}
