//! What a caller may set: the options of `Llm.load` and the parameters of a request, with vLLM's names and defaults.
//! They arrive as JSON. Every key is checked, and nothing is replaced by a default in silence: an unknown key, a wrong
//! type or a value out of range is an error that names the key, the value, and what would be right.

mod chat;
mod defaults;
mod pooling;
mod structured;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{Error, ErrorCode, Result};
use crate::format::quant::QuantType;
use crate::program::{CacheType, Draw, Numerics, Precision};
pub use chat::ChatOptions;
pub use defaults::{GenerationConfig, SamplingDefaults};
pub use pooling::{Pooling, PoolingParams};
pub use structured::StructuredOutputs;

/// Sizes end where positions, which are `u32`, end.
const MAX_SIZE: i128 = u32::MAX as i128;

/// Most sequences of one prompt, as OpenAI has it: each holds a copy of the prompt.
const MAX_N: i128 = 128;

/// Options of `Llm.load`, from vLLM's `EngineArgs`.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmConfig {
    /// Most tokens of a prompt and its output together, 1 or more. Default: what the model was trained for, or as many as
    /// the KV cache holds if those are fewer.
    pub max_model_len: Option<usize>,
    /// Most sequences in one step, 1 or more. Default 8.
    pub max_num_seqs: usize,
    /// Most sequences that wait for their first step, 1 or more. Default 16384.
    pub max_num_waiting: usize,
    /// Most rows in one step, at least `max_num_seqs`. Default 64, or `max_num_seqs` if that is more.
    pub max_num_batched_tokens: usize,
    /// Positions in a block of the KV cache: 8, 16, 32, 64 or 128. Default 16.
    pub block_size: usize,
    /// Most bytes for the KV cache, 1 or more, which are taken as its blocks come into use. Default: a quarter of a byte for each weight
    /// of the model, from 256 MiB to 1 GiB.
    pub kv_cache_memory_bytes: Option<u64>,
    /// How keys and values are kept: f32 or f16. Default f32.
    pub kv_cache_dtype: CacheType,
    /// Whether products with quantised weights take activations of eight bits. Default: no.
    pub precision: Precision,
    /// Whether prompts reuse the blocks of earlier prompts. Default true.
    pub enable_prefix_caching: bool,
    /// Whether a step may be submitted to a GPU before the one before it has ended. Default true.
    pub async_scheduling: bool,
    /// What the seeds of requests without one are derived from: each gets another, the same in each run. Default: random.
    pub seed: Option<u64>,
    /// The `model_name` in metrics, not empty. Default: the model's own name.
    pub served_model_name: Option<String>,
    /// The chat template, as Jinja. Default: the file's.
    pub chat_template: Option<String>,
    /// Whose sampling parameters a request takes for those that it leaves out. Default `"auto"`: the model's, then vLLM's.
    pub generation_config: GenerationConfig,
    /// The type that float matrices are quantised to while they are loaded: Q8_0 or Q4_0. Default: none, they stay as they are.
    pub quantization: Option<QuantType>,
    /// Speculation, an object that the proposer checks. Default: none.
    pub speculative_config: Option<Value>,
}

impl Default for LlmConfig {
    fn default() -> Self {
        Self {
            max_model_len: None,
            max_num_seqs: 8,
            max_num_waiting: 16384,
            max_num_batched_tokens: 64,
            block_size: 16,
            kv_cache_memory_bytes: None,
            kv_cache_dtype: CacheType::F32,
            precision: Precision::Full,
            enable_prefix_caching: true,
            async_scheduling: true,
            seed: None,
            served_model_name: None,
            chat_template: None,
            generation_config: GenerationConfig::Auto,
            quantization: None,
            speculative_config: None,
        }
    }
}

impl LlmConfig {
    /// Bytes for the KV cache of a model with so many weights.
    pub fn kv_budget(&self, parameters: u64) -> u64 {
        self.kv_cache_memory_bytes.unwrap_or((parameters / 4).clamp(256 << 20, 1 << 30))
    }

    const KEYS: [&str; 16] = [
        "max_model_len",
        "max_num_seqs",
        "max_num_waiting",
        "max_num_batched_tokens",
        "block_size",
        "kv_cache_memory_bytes",
        "kv_cache_dtype",
        "precision",
        "enable_prefix_caching",
        "async_scheduling",
        "seed",
        "served_model_name",
        "chat_template",
        "generation_config",
        "quantization",
        "speculative_config",
    ];

    /// What numbers are kept and multiplied as.
    pub fn numerics(&self) -> Numerics {
        Numerics { cache: self.kv_cache_dtype, precision: self.precision }
    }

    /// Reads and checks a JSON object. Absent keys take their defaults, as does `null` where the default is "none".
    pub fn from_json(value: &Value) -> Result<Self> {
        let keys = Keys::new(value, ErrorCode::InvalidConfig, "Llm.load option", &Self::KEYS)?;
        let default = Self::default();
        let max_num_seqs = keys.required_size("max_num_seqs", default.max_num_seqs, 1)?;
        let config = Self {
            max_model_len: keys.size("max_model_len", 1)?,
            max_num_seqs,
            max_num_waiting: keys.required_size("max_num_waiting", default.max_num_waiting, 1)?,
            max_num_batched_tokens: keys
                .size("max_num_batched_tokens", 1)?
                .unwrap_or(default.max_num_batched_tokens.max(max_num_seqs)),
            block_size: keys.read("block_size", default.block_size, "8, 16, 32, 64 or 128", |v| {
                let size = integer(v, 8..=128)? as usize;
                size.is_power_of_two().then_some(size)
            })?,
            kv_cache_memory_bytes: keys.unsigned("kv_cache_memory_bytes", 1)?,
            kv_cache_dtype: keys.read("kv_cache_dtype", default.kv_cache_dtype, "\"f32\" or \"f16\"", |v| {
                match v.as_str()? {
                    "f32" => Some(CacheType::F32),
                    "f16" => Some(CacheType::F16),
                    _ => None,
                }
            })?,
            precision: keys.read("precision", default.precision, "\"full\" or \"fast\"", |v| match v.as_str()? {
                "full" => Some(Precision::Full),
                "fast" => Some(Precision::Fast),
                _ => None,
            })?,
            enable_prefix_caching: keys.boolean("enable_prefix_caching", default.enable_prefix_caching)?,
            async_scheduling: keys.boolean("async_scheduling", default.async_scheduling)?,
            seed: keys.unsigned("seed", 0)?,
            served_model_name: keys.optional("served_model_name", "a string that is not empty", |v| {
                v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
            })?,
            chat_template: keys.optional("chat_template", "a string", |v| v.as_str().map(str::to_owned))?,
            generation_config: keys.read(
                "generation_config",
                default.generation_config,
                "\"auto\" or \"vllm\"",
                |v| match v.as_str()? {
                    "auto" => Some(GenerationConfig::Auto),
                    "vllm" => Some(GenerationConfig::Vllm),
                    _ => None,
                },
            )?,
            quantization: keys.optional("quantization", "\"q8_0\" or \"q4_0\"", |v| match v.as_str()? {
                "q8_0" => Some(QuantType::Q8_0),
                "q4_0" => Some(QuantType::Q4_0),
                _ => None,
            })?,
            speculative_config: keys
                .optional("speculative_config", "an object", |v| v.is_object().then(|| v.clone()))?,
        };
        if config.max_num_batched_tokens < max_num_seqs {
            let least = format!("at least max_num_seqs, {max_num_seqs}");
            return Err(keys.wrong("max_num_batched_tokens", &config.max_num_batched_tokens.into(), &least));
        }
        Ok(config)
    }
}

/// Parameters of a request, from vLLM's `SamplingParams`.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Sequences to generate, 1 or more; 1 when greedy. Sequence i uses `seed + i`. Default 1.
    pub n: usize,
    /// 0 is greedy; above, the higher the more random. As in vLLM what lies between 0 and 0.01 becomes 0.01, to keep
    /// the scaled logits in range. Default 1.
    pub temperature: f32,
    /// Samples from this many most likely tokens; 0 is all, and so is -1 in JSON. Default 0.
    pub top_k: u32,
    /// Samples from the most likely tokens that hold this much probability; above 0 and at most 1. Default 1.
    pub top_p: f32,
    /// Leaves out tokens less likely than this times the most likely one; 0 to 1. Default 0.
    pub min_p: f32,
    /// The seed; also -1 in JSON for none. Default: the engine's, or else a random one.
    pub seed: Option<u64>,
    /// Divides positive logits of the tokens of prompt and output, and multiplies negative ones; above 0. Default 1.
    pub repetition_penalty: f32,
    /// Taken off the logits of the tokens of the output; -2 to 2. Default 0.
    pub presence_penalty: f32,
    /// Taken off the logits of the tokens of the output for each occurrence; -2 to 2. Default 0.
    pub frequency_penalty: f32,
    /// Added to the logits of these token ids; each -100 to 100. Default: empty.
    pub logit_bias: BTreeMap<u32, f32>,
    /// How many most likely tokens to report besides the chosen one, 0 to 20. Default: no report.
    pub logprobs: Option<u32>,
    /// Most tokens to generate, 1 or more; `None`, JSON's `null`, is up to `max_model_len`. Default 16.
    pub max_tokens: Option<usize>,
    /// Tokens to generate before a stop token may come, at most `max_tokens`. Default 0.
    pub min_tokens: usize,
    /// Strings that end the output; in JSON also a single one. None may be empty. Default: none.
    pub stop: Vec<String>,
    /// Tokens that end the output. Default: none.
    pub stop_token_ids: Vec<u32>,
    /// Whether to go on after the end-of-sequence token. Default false.
    pub ignore_eos: bool,
    /// Whether the text keeps the stop string that ended it. Default false.
    pub include_stop_str_in_output: bool,
    /// Whether the text leaves special tokens out. Default true.
    pub skip_special_tokens: bool,
    /// How many most likely tokens to report for each token of the prompt but the first, 0 to 20. Default: no report.
    pub prompt_logprobs: Option<u32>,
    /// The only tokens that may be chosen, at least one, in rising order. Default: all.
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Words that the output does not have: their last token is masked where the ones before it are there. None may be empty.
    /// Default: none.
    pub bad_words: Vec<String>,
    /// The same as tokens, which the engine fills in.
    pub bad_words_token_ids: Vec<Vec<u32>>,
    /// What the output must fit. Default: nothing.
    pub structured_outputs: Option<StructuredOutputs>,
    /// A text that the output is likely to have much of, from OpenAI's `prediction`: where the output follows it, its tokens are
    /// drafts. Default: none.
    pub prediction: Option<String>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            n: 1,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            logprobs: None,
            max_tokens: Some(16),
            min_tokens: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            include_stop_str_in_output: false,
            skip_special_tokens: true,
            prompt_logprobs: None,
            allowed_token_ids: None,
            bad_words: Vec::new(),
            bad_words_token_ids: Vec::new(),
            structured_outputs: None,
            prediction: None,
        }
    }
}

impl SamplingParams {
    const KEYS: [&str; 23] = [
        "n",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "seed",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "min_tokens",
        "stop",
        "stop_token_ids",
        "ignore_eos",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "prompt_logprobs",
        "allowed_token_ids",
        "bad_words",
        "structured_outputs",
        "prediction",
    ];

    /// The lowest temperature above 0, vLLM's `_MAX_TEMP`.
    const LEAST_TEMPERATURE: f32 = 0.01;

    /// Reads and checks a JSON object. Absent keys take their defaults, as does `null` where the default is "none";
    /// `max_tokens: null` is no limit.
    pub fn from_json(value: &Value) -> Result<Self> {
        let keys = Keys::new(value, ErrorCode::InvalidParams, "sampling parameter", &Self::KEYS)?;
        let default = Self::default();
        let penalty = |key| keys.number(key, 0.0, "a number from -2 to 2", |x| (-2.0..=2.0).contains(&x));
        let params = Self {
            n: keys.read("n", default.n, &whole(1, MAX_N), |v| integer(v, 1..=MAX_N).map(|n| n as usize))?,
            temperature: match keys.number("temperature", default.temperature, "a number, 0 or more", |x| x >= 0.0)? {
                0.0 => 0.0,
                temperature => temperature.max(Self::LEAST_TEMPERATURE),
            },
            top_k: keys.read("top_k", default.top_k, "a whole number, 1 or more, or 0 or -1 for all", |v| {
                integer(v, -1..=MAX_SIZE).map(|k| k.max(0) as u32)
            })?,
            top_p: keys.number("top_p", default.top_p, "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?,
            min_p: keys.number("min_p", default.min_p, "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?,
            seed: keys
                .optional("seed", &format!("a whole number from 0 to {}, or -1 for none", u64::MAX), |v| {
                    integer(v, -1..=u64::MAX.into())
                })?
                .and_then(|seed| u64::try_from(seed).ok()),
            repetition_penalty: keys.number(
                "repetition_penalty",
                default.repetition_penalty,
                "a number above 0",
                |x| x > 0.0,
            )?,
            presence_penalty: penalty("presence_penalty")?,
            frequency_penalty: penalty("frequency_penalty")?,
            logit_bias: keys
                .optional("logit_bias", "an object that maps token ids to numbers from -100 to 100", bias)?
                .unwrap_or_default(),
            logprobs: keys
                .optional("logprobs", "a whole number from 0 to 20", |v| integer(v, 0..=20).map(|n| n as u32))?,
            max_tokens: if keys.map.is_some_and(|map| map.contains_key("max_tokens")) {
                keys.size("max_tokens", 1)?
            } else {
                default.max_tokens
            },
            min_tokens: keys.required_size("min_tokens", default.min_tokens, 0)?,
            stop: keys
                .optional("stop", "a string that is not empty, or a list of such", |v| {
                    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
                    v.as_array().map_or_else(|| text(v).map(|s| vec![s]), |list| list.iter().map(text).collect())
                })?
                .unwrap_or_default(),
            stop_token_ids: keys.optional("stop_token_ids", "a list of token ids", token_ids)?.unwrap_or_default(),
            ignore_eos: keys.boolean("ignore_eos", default.ignore_eos)?,
            include_stop_str_in_output: keys
                .boolean("include_stop_str_in_output", default.include_stop_str_in_output)?,
            skip_special_tokens: keys.boolean("skip_special_tokens", default.skip_special_tokens)?,
            prompt_logprobs: keys
                .optional("prompt_logprobs", "a whole number from 0 to 20", |v| integer(v, 0..=20).map(|n| n as u32))?,
            allowed_token_ids: keys.optional("allowed_token_ids", "a list of at least one token id", |v| {
                let mut ids = token_ids(v).filter(|ids| !ids.is_empty())?;
                ids.sort_unstable();
                ids.dedup();
                Some(ids)
            })?,
            bad_words: keys
                .optional("bad_words", "a list of strings that are not empty", |v| {
                    let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
                    v.as_array()?.iter().map(text).collect()
                })?
                .unwrap_or_default(),
            bad_words_token_ids: default.bad_words_token_ids,
            structured_outputs: match keys.map.and_then(|map| map.get("structured_outputs")) {
                None | Some(Value::Null) => None,
                Some(outputs) => Some(StructuredOutputs::from_json(outputs)?),
            },
            prediction: keys.optional("prediction", "a text", |v| v.as_str().map(str::to_owned))?,
        };
        if let Some(most) = params.max_tokens
            && params.min_tokens > most
        {
            return Err(keys.wrong("min_tokens", &params.min_tokens.into(), &format!("at most max_tokens, {most}")));
        }
        if params.n > 1 && params.is_greedy() {
            return Err(keys.wrong("n", &params.n.into(), "1 when temperature is 0, since all n would be the same"));
        }
        Ok(params)
    }

    /// Whether the most likely token is chosen, without noise.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// How a runner that [draws](crate::program::Runner::draws) samples the token at `position` with this seed, for the row with this
    /// place among those with output.
    pub fn draw(&self, output: u32, position: u32, seed: u64) -> Draw {
        let Self { temperature, min_p, top_k, top_p, .. } = *self;
        Draw { output, position, seed, temperature, min_p, top_k, top_p }
    }

    /// Checks that the token ids named here are in a vocabulary of this many tokens.
    pub fn check_vocabulary(&self, size: usize) -> Result<()> {
        let named = self.logit_bias.keys().map(|id| ("logit_bias", id));
        let stops = self.stop_token_ids.iter().map(|id| ("stop_token_ids", id));
        let allowed = self.allowed_token_ids.iter().flatten().map(|id| ("allowed_token_ids", id));
        for (key, &id) in named.chain(stops).chain(allowed) {
            if id as usize >= size {
                return Err(Error::new(
                    ErrorCode::InvalidParams,
                    format!("{key} names token {id}, but the model's token ids end before {size}"),
                ));
            }
        }
        Ok(())
    }
}

fn token_ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| integer(id, 0..=MAX_SIZE).map(|id| id as u32)).collect()
}

/// `{ "50256": -100 }`. An id must be written as plain digits, so that no two keys are the same token.
fn bias(value: &Value) -> Option<BTreeMap<u32, f32>> {
    let entry = |(key, value): (&String, &Value)| {
        let id = key.parse::<u32>().ok().filter(|id| id.to_string() == *key)?;
        Some((id, float(value).filter(|x| (-100.0..=100.0).contains(x))?))
    };
    value.as_object()?.iter().map(entry).collect()
}

/// A whole number in this range. JavaScript has only doubles, so `8.0` is whole too.
fn integer(value: &Value, range: RangeInclusive<i128>) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let whole = value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from)).or_else(|| {
        let x = value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() <= EXACT)?;
        Some(x as i128)
    })?;
    range.contains(&whole).then_some(whole)
}

/// A number that is finite as `f32` too.
fn float(value: &Value) -> Option<f32> {
    value.as_f64().map(|x| x as f32).filter(|x| x.is_finite())
}

/// A JSON object whose keys are known; `undefined` and `null` are an empty one.
struct Keys<'a> {
    map: Option<&'a Map<String, Value>>,
    code: ErrorCode,
    what: &'static str,
}

impl<'a> Keys<'a> {
    fn new(value: &'a Value, code: ErrorCode, what: &'static str, known: &[&str]) -> Result<Self> {
        let map = match value {
            Value::Null => None,
            Value::Object(map) => Some(map),
            other => return Err(Error::new(code, format!("{what}s must be an object, not {}", shown(other)))),
        };
        if let Some(key) = map.into_iter().flat_map(Map::keys).find(|key| !known.contains(&key.as_str())) {
            let hint = nearest(key, known).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            let key = shown(&Value::from(key.as_str()));
            return Err(Error::new(code, format!("unknown {what} {key}{hint} (known: {})", known.join(", "))));
        }
        Ok(Self { map, code, what })
    }

    fn wrong(&self, key: &str, value: &Value, right: &str) -> Error {
        Error::new(self.code, format!("{} {key} is {}, but must be {right}", self.what, shown(value)))
    }

    /// The value of a key that has a default. `null` is wrong here.
    fn read<T>(&self, key: &str, default: T, right: &str, parse: impl FnOnce(&Value) -> Option<T>) -> Result<T> {
        match self.map.and_then(|map| map.get(key)) {
            None => Ok(default),
            Some(value) => parse(value).ok_or_else(|| self.wrong(key, value, right)),
        }
    }

    /// The value of a key that may be `null`.
    fn optional<T>(&self, key: &str, right: &str, parse: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>> {
        self.read(key, None, right, |value| if value.is_null() { Some(None) } else { parse(value).map(Some) })
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool> {
        self.read(key, default, "true or false", Value::as_bool)
    }

    fn number(&self, key: &str, default: f32, right: &str, fits: impl FnOnce(f32) -> bool) -> Result<f32> {
        self.read(key, default, right, |value| float(value).filter(|x| fits(*x)))
    }

    fn size(&self, key: &str, least: i128) -> Result<Option<usize>> {
        self.optional(key, &whole(least, MAX_SIZE), |v| integer(v, least..=MAX_SIZE).map(|x| x as usize))
    }

    fn required_size(&self, key: &str, default: usize, least: i128) -> Result<usize> {
        self.read(key, default, &whole(least, MAX_SIZE), |v| integer(v, least..=MAX_SIZE).map(|x| x as usize))
    }

    fn unsigned(&self, key: &str, least: i128) -> Result<Option<u64>> {
        let most = i128::from(u64::MAX);
        self.optional(key, &whole(least, most), |v| integer(v, least..=most).map(|x| x as u64))
    }
}

fn whole(least: i128, most: i128) -> String {
    format!("a whole number from {least} to {most}")
}

/// A value as JSON, cut short if it is long.
fn shown(value: &Value) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The known name that a misspelt or camelCase key most likely stands for.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    const LONGEST: usize = 64;
    let plain = |name: &str| -> Vec<char> { name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    let key = plain(key);
    if key.len() > LONGEST {
        return None;
    }
    let (distance, name) = known.iter().map(|name| (edits(&key, &plain(name)), *name)).min()?;
    (distance <= key.len() / 3).then_some(name)
}

/// Levenshtein's distance: the fewest insertions, deletions and replacements that turn `a` into `b`.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn params_error(value: Value) -> String {
        let error = SamplingParams::from_json(&value).expect_err(&value.to_string());
        assert_eq!(error.code, ErrorCode::InvalidParams);
        error.message
    }

    fn config_error(value: Value) -> String {
        let error = LlmConfig::from_json(&value).expect_err(&value.to_string());
        assert_eq!(error.code, ErrorCode::InvalidConfig);
        error.message
    }

    #[test]
    fn nothing_set_is_the_defaults() {
        for nothing in [json!({}), json!(null)] {
            assert_eq!(LlmConfig::from_json(&nothing), Ok(LlmConfig::default()));
            assert_eq!(SamplingParams::from_json(&nothing), Ok(SamplingParams::default()));
        }
    }

    #[test]
    fn rows_are_as_many_as_sequences_by_default() {
        let rows = |value| LlmConfig::from_json(&value).unwrap().max_num_batched_tokens;
        assert_eq!(rows(json!({ "max_num_seqs": 100 })), 100);
        assert_eq!(rows(json!({ "max_num_seqs": 4, "max_num_batched_tokens": null })), 64);
        assert_eq!(rows(json!({ "max_num_seqs": 4, "max_num_batched_tokens": 8 })), 8);
    }

    #[test]
    fn the_cache_grows_with_the_model() {
        let bytes = |value, parameters| LlmConfig::from_json(&value).unwrap().kv_budget(parameters);
        for (parameters, expected) in [(135_000_000, 256 << 20), (3_200_000_000, 800_000_000), (8_000_000_000, 1 << 30)]
        {
            assert_eq!(bytes(json!({ "kv_cache_memory_bytes": null }), parameters), expected);
            assert_eq!(bytes(json!({ "kv_cache_memory_bytes": 5000 }), parameters), 5000);
        }
    }

    #[test]
    fn every_option_is_read() {
        let value = json!({
            "max_model_len": 2048, "max_num_seqs": 4.0, "max_num_batched_tokens": 64, "block_size": 32,
            "kv_cache_memory_bytes": 5_000_000_000_u64, "kv_cache_dtype": "f16", "enable_prefix_caching": false, "async_scheduling": false, "seed": u64::MAX,
            "served_model_name": "m", "speculative_config": { "method": "ngram" }, "max_num_waiting": 9,
            "chat_template": "x", "generation_config": "vllm", "quantization": "q4_0", "precision": "fast",
        });
        assert_eq!(value.as_object().unwrap().len(), LlmConfig::KEYS.len());
        let expected = LlmConfig {
            max_model_len: Some(2048),
            max_num_seqs: 4,
            max_num_waiting: 9,
            max_num_batched_tokens: 64,
            block_size: 32,
            kv_cache_memory_bytes: Some(5_000_000_000),
            kv_cache_dtype: CacheType::F16,
            precision: Precision::Fast,
            enable_prefix_caching: false,
            async_scheduling: false,
            seed: Some(u64::MAX),
            served_model_name: Some("m".into()),
            chat_template: Some("x".into()),
            generation_config: GenerationConfig::Vllm,
            quantization: Some(QuantType::Q4_0),
            speculative_config: Some(json!({ "method": "ngram" })),
        };
        assert_eq!(LlmConfig::from_json(&value), Ok(expected));
    }

    #[test]
    fn every_parameter_is_read() {
        let value = json!({
            "n": 2, "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "seed": 7, "repetition_penalty": 1.5,
            "presence_penalty": -2, "frequency_penalty": 2, "logit_bias": { "5": -100, "0": 1.5 }, "logprobs": 20,
            "max_tokens": 9, "min_tokens": 9, "stop": ["a", "b"], "stop_token_ids": [1, 2], "ignore_eos": true,
            "include_stop_str_in_output": true, "skip_special_tokens": false, "prompt_logprobs": 3,
            "allowed_token_ids": [9, 4, 9], "bad_words": ["c"], "structured_outputs": { "regex": "a" }, "prediction": "b",
        });
        assert_eq!(value.as_object().unwrap().len(), SamplingParams::KEYS.len());
        let expected = SamplingParams {
            n: 2,
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.1,
            seed: Some(7),
            repetition_penalty: 1.5,
            presence_penalty: -2.0,
            frequency_penalty: 2.0,
            logit_bias: [(0, 1.5), (5, -100.0)].into(),
            logprobs: Some(20),
            max_tokens: Some(9),
            min_tokens: 9,
            stop: vec!["a".into(), "b".into()],
            stop_token_ids: vec![1, 2],
            ignore_eos: true,
            include_stop_str_in_output: true,
            skip_special_tokens: false,
            prompt_logprobs: Some(3),
            allowed_token_ids: Some(vec![4, 9]),
            bad_words: vec!["c".into()],
            bad_words_token_ids: Vec::new(),
            structured_outputs: StructuredOutputs::from_json(&json!({ "regex": "a" })).ok(),
            prediction: Some("b".into()),
        };
        assert_eq!(SamplingParams::from_json(&value), Ok(expected));
    }

    #[test]
    fn vllm_s_other_spellings_are_read() {
        let read = |value| SamplingParams::from_json(&value).unwrap();
        assert_eq!(read(json!({ "top_k": -1, "seed": -1 })), SamplingParams::default());
        assert_eq!(read(json!({ "stop": "x" })).stop, ["x"]);
        assert_eq!(read(json!({ "stop": null, "logprobs": null, "logit_bias": null })), SamplingParams::default());
        assert_eq!(read(json!({ "max_tokens": null, "min_tokens": 100 })).max_tokens, None);
        assert_eq!(read(json!({ "temperature": 1e-7 })).temperature, 0.01);
        assert!(read(json!({ "temperature": 0 })).is_greedy() && read(json!({ "temperature": -0.0 })).is_greedy());
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest_known_one() {
        assert_eq!(
            config_error(json!({ "maxModelLen": 1 })),
            format!(
                r#"unknown Llm.load option "maxModelLen"; did you mean max_model_len? (known: {})"#,
                LlmConfig::KEYS.join(", ")
            )
        );
        for (wrong, right) in [("temprature", "temperature"), ("maxTokens", "max_tokens"), ("topk", "top_k")] {
            assert!(params_error(json!({ wrong: 1 })).contains(&format!("did you mean {right}?")), "{wrong}");
        }
        let long = "x".repeat(1 << 20);
        for strange in ["", "best_of_everything", "🦀", &long] {
            let message = params_error(json!({ strange: 1 }));
            assert!(message.starts_with("unknown sampling parameter \"") && message.len() < 600, "{message}");
            assert!(!message.contains("did you mean"), "{message}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(params_error(json!([1])), "sampling parameters must be an object, not [1]");
        assert_eq!(config_error(json!("a")), "Llm.load options must be an object, not \"a\"");
    }

    #[test]
    fn wrong_options_are_named_with_value_and_range() {
        let size = "a whole number from 1 to 4294967295";
        for (key, values, right) in [
            ("max_model_len", vec![json!(0), json!(-1), json!(1.5), json!("8"), json!(1u64 << 32)], size),
            ("max_num_seqs", vec![json!(0), json!(null), json!(true)], size),
            ("max_num_waiting", vec![json!(0), json!(null)], size),
            ("chat_template", vec![json!(1)], "a string"),
            ("generation_config", vec![json!(null), json!("none")], "\"auto\" or \"vllm\""),
            ("max_num_batched_tokens", vec![json!(0), json!([])], size),
            ("max_num_batched_tokens", vec![json!(7)], "at least max_num_seqs, 8"),
            ("block_size", vec![json!(4), json!(24), json!(256), json!(null), json!("16")], "8, 16, 32, 64 or 128"),
            ("kv_cache_memory_bytes", vec![json!(0), json!(1e300)], "a whole number from 1 to 18446744073709551615"),
            ("kv_cache_dtype", vec![json!(16), json!("auto"), json!(null)], "\"f32\" or \"f16\""),
            ("precision", vec![json!("f32"), json!(8), json!(null)], "\"full\" or \"fast\""),
            ("enable_prefix_caching", vec![json!(1), json!(null), json!("true")], "true or false"),
            ("async_scheduling", vec![json!(0), json!("yes")], "true or false"),
            ("seed", vec![json!(-1), json!(0.5)], "a whole number from 0 to 18446744073709551615"),
            ("served_model_name", vec![json!(""), json!(["a"])], "a string that is not empty"),
            ("speculative_config", vec![json!("ngram"), json!([])], "an object"),
        ] {
            for value in values {
                let expected = format!("Llm.load option {key} is {value}, but must be {right}");
                assert_eq!(config_error(json!({ key: value })), expected);
            }
        }
    }

    #[test]
    fn wrong_parameters_are_named_with_value_and_range() {
        let (two, ids) = ("a number from -2 to 2", "an object that maps token ids to numbers from -100 to 100");
        let size = "a whole number from 1 to 4294967295";
        for (key, values, right) in [
            ("n", vec![json!(0), json!(null), json!(1.5), json!(129)], "a whole number from 1 to 128"),
            ("temperature", vec![json!(-0.1), json!(1e300), json!(null), json!("1")], "a number, 0 or more"),
            ("top_k", vec![json!(-2), json!(0.5), json!(null)], "a whole number, 1 or more, or 0 or -1 for all"),
            ("top_p", vec![json!(0), json!(1.1), json!(1e-60), json!(null)], "a number above 0 and at most 1"),
            ("min_p", vec![json!(-0.1), json!(1.1)], "a number from 0 to 1"),
            ("seed", vec![json!(-2), json!("x")], "a whole number from 0 to 18446744073709551615, or -1 for none"),
            ("repetition_penalty", vec![json!(0), json!(-1), json!(1e39)], "a number above 0"),
            ("presence_penalty", vec![json!(2.1), json!(false)], two),
            ("frequency_penalty", vec![json!(-2.1), json!(null)], two),
            (
                "logit_bias",
                vec![json!({ "1": 101 }), json!({ "1": null }), json!({ "a": 1 }), json!({ "+1": 1 }), json!([1])],
                ids,
            ),
            ("logprobs", vec![json!(21), json!(-1), json!(true)], "a whole number from 0 to 20"),
            ("max_tokens", vec![json!(0), json!("16")], size),
            ("min_tokens", vec![json!(-1), json!(null)], "a whole number from 0 to 4294967295"),
            ("min_tokens", vec![json!(17)], "at most max_tokens, 16"),
            (
                "stop",
                vec![json!(""), json!([""]), json!([1]), json!(1)],
                "a string that is not empty, or a list of such",
            ),
            ("stop_token_ids", vec![json!([-1]), json!(["a"]), json!(1)], "a list of token ids"),
            ("ignore_eos", vec![json!(0)], "true or false"),
            ("include_stop_str_in_output", vec![json!(null)], "true or false"),
            ("skip_special_tokens", vec![json!("no")], "true or false"),
        ] {
            for value in values {
                let expected = format!("sampling parameter {key} is {value}, but must be {right}");
                assert_eq!(params_error(json!({ key: value })), expected);
            }
        }
        assert!(params_error(json!({ "n": 2, "temperature": 0 })).contains("must be 1 when temperature is 0"));
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        assert!(params_error(json!({ "n": "é".repeat(10_000) })).len() < 300);
    }

    #[test]
    fn token_ids_outside_the_vocabulary_are_named() {
        let params = SamplingParams { stop_token_ids: vec![9], logit_bias: [(7, 1.0)].into(), ..Default::default() };
        assert_eq!(params.check_vocabulary(10), Ok(()));
        let message = |size| params.check_vocabulary(size).unwrap_err().message;
        assert_eq!(message(9), "stop_token_ids names token 9, but the model's token ids end before 9");
        assert_eq!(message(7), "logit_bias names token 7, but the model's token ids end before 7");
    }

    proptest! {
        #[test]
        fn edits_is_a_distance(a in "[abc]{0,6}", b in "[abc]{0,6}", c in "[abc]{0,6}") {
            let d = |x: &str, y: &str| edits(&x.chars().collect::<Vec<_>>(), &y.chars().collect::<Vec<_>>());
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
        }
    }
}
