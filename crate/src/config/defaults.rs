//! Sampling parameters that a model recommends, for requests that leave them out.

use serde::Serialize;
use serde_json::{Map, Value};

use super::SamplingParams;
use crate::error::{Error, ErrorCode, Result};

/// Whose sampling parameters a request takes for those that it leaves out, from vLLM's `generation_config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenerationConfig {
    /// The model's, then vLLM's.
    #[default]
    Auto,
    /// vLLM's.
    Vllm,
}

/// The sampling parameters that a model recommends, as vLLM's `get_diff_sampling_param`: any of `temperature`, `top_k`,
/// `top_p`, `min_p`, `repetition_penalty` and `max_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SamplingDefaults(Map<String, Value>);

/// What of `generation_config.json` is taken, and the sampling parameter that it is.
const GENERATION_CONFIG: [(&str, &str); 6] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repetition_penalty", "repetition_penalty"),
    ("max_new_tokens", "max_tokens"),
];

/// The same of a GGUF's metadata, where llama.cpp's converter puts it.
const GGUF: [(&str, &str); 5] = [
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.penalty_repeat", "repetition_penalty"),
];

impl SamplingDefaults {
    /// Those of a folder's `generation_config.json`.
    ///
    /// # Errors
    /// `invalid_file` for a value that no request could have.
    pub fn of_generation_config(file: &Value) -> Result<Self> {
        Self::of("generation_config.json", GENERATION_CONFIG, |key| file.get(key).cloned())
    }

    /// Those of a GGUF, whose numbers `metadata` gives.
    ///
    /// # Errors
    /// See [`Self::of_generation_config`].
    pub fn of_gguf(metadata: impl Fn(&str) -> Option<Value>) -> Result<Self> {
        Self::of("the file's general.sampling", GGUF, metadata)
    }

    fn of<const N: usize>(
        place: &str,
        names: [(&str, &str); N],
        value: impl Fn(&str) -> Option<Value>,
    ) -> Result<Self> {
        let named = names.iter().map(|(theirs, ours)| (ours.to_string(), value(theirs).unwrap_or_default()));
        let given: Map<String, Value> = named.filter(|(_, value)| !value.is_null()).collect();
        SamplingParams::from_json(&Value::Object(given.clone())).map_err(|e| {
            let message = format!("{place}: {}; load with generation_config: \"vllm\" to leave it out", e.message);
            Error::new(ErrorCode::InvalidFile, message)
        })?;
        Ok(Self(given))
    }

    /// A request's parameters: its own, then these, then vLLM's.
    ///
    /// # Errors
    /// `invalid_params`, see [`SamplingParams::from_json`].
    pub fn params(&self, given: &Value) -> Result<SamplingParams> {
        let mut all = self.0.clone();
        match given {
            Value::Null => {}
            Value::Object(given) => all.extend(given.clone()),
            _ => return SamplingParams::from_json(given),
        }
        SamplingParams::from_json(&Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_takes_what_it_leaves_out_from_the_model() {
        let defaults = SamplingDefaults::of_generation_config(&json!({
            "bos_token_id": 1, "do_sample": true, "eos_token_id": [2, 7], "temperature": 0.7, "top_k": 20, "top_p": 0.8,
            "min_p": null, "repetition_penalty": 1.05, "max_new_tokens": 2048, "transformers_version": "4.51.0",
        }))
        .unwrap();
        let told =
            json!({ "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05, "max_tokens": 2048 });
        assert_eq!(serde_json::to_value(&defaults).unwrap(), told);
        for nothing in [json!(null), json!({})] {
            assert_eq!(defaults.params(&nothing), SamplingParams::from_json(&told));
        }
        let own = json!({ "temperature": 0, "max_tokens": null, "top_k": -1, "seed": 5 });
        let params = defaults.params(&own).unwrap();
        assert_eq!((params.temperature, params.max_tokens, params.top_k, params.seed), (0.0, None, 0, Some(5)));
        assert_eq!((params.top_p, params.repetition_penalty, params.min_p), (0.8, 1.05, 0.0));
        assert!(defaults.params(&json!({ "topp": 1 })).unwrap_err().message.contains("did you mean top_p?"));
        assert_eq!(SamplingDefaults::default().params(&own), SamplingParams::from_json(&own));
    }

    #[test]
    fn llama_cpp_has_its_own_names() {
        let metadata = json!({
            "general.sampling.temp": 0.6, "general.sampling.top_k": 40, "general.sampling.top_p": 0.95,
            "general.sampling.min_p": 0.05, "general.sampling.penalty_repeat": 1.1, "general.sampling.mirostat": 2,
        });
        let defaults = SamplingDefaults::of_gguf(|key| metadata.get(key).cloned()).unwrap();
        let expected =
            json!({ "temperature": 0.6, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1 });
        assert_eq!(serde_json::to_value(defaults).unwrap(), expected);
        assert_eq!(SamplingDefaults::of_gguf(|_| None), Ok(SamplingDefaults::default()));
    }

    #[test]
    fn a_default_that_cannot_be_is_an_error_of_the_file() {
        let error = SamplingDefaults::of_generation_config(&json!({ "top_p": 1.5 })).unwrap_err();
        let words = ["generation_config.json: sampling parameter top_p is 1.5", "generation_config: \"vllm\""];
        assert!(error.code == ErrorCode::InvalidFile && words.iter().all(|w| error.message.contains(w)), "{error}");
    }
}
