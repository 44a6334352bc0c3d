//! Keys of a Hugging Face folder's `config.json`, and its tensors' names.

use serde_json::Value;

use super::{ALL, Architecture};
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::model::config::{Divisors, LayerConfig, ModelConfig, Pairs, Rope};
use crate::program::{Activation, Scales, Softcaps};

/// Reads a model's shape out of `config.json`.
///
/// # Errors
/// `unsupported_model` for another architecture or what the engine does not honour; `invalid_file` for a missing key.
pub fn read(config: &Value) -> Result<ModelConfig> {
    let keys = Keys { config, arch: "" };
    let model_type = keys.text("model_type")?;
    let Some(Architecture { name, read_folder, .. }) = ALL.iter().find(|known| known.model_types.contains(&model_type))
    else {
        let known: Vec<_> = ALL.iter().flat_map(|known| known.model_types).copied().collect();
        let message = format!("config.json's model_type is '{}'; supported: {}", excerpt(model_type), known.join(", "));
        return Err(Error::new(ErrorCode::UnsupportedModel, message));
    };
    if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
        return Err(Error::new(
            ErrorCode::UnsupportedQuantization,
            "config.json has a quantization_config; load the model that it was made of, and set `quantization`, or a GGUF",
        ));
    }
    let model = read_folder(&Keys { config, arch: name })?;
    model.check()?;
    Ok(model)
}

/// The keys of `config.json`.
pub(super) struct Keys<'a> {
    config: &'a Value,
    arch: &'static str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, what: &str) -> Error {
        let message = match self.get(key) {
            Some(value) => format!("config.json's {key} is {}; it must be {what}", excerpt(&value.to_string())),
            None => format!("config.json has no {key}; it must be {what}"),
        };
        Error::new(ErrorCode::InvalidFile, message)
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.get(key).and_then(Value::as_str).ok_or_else(|| self.wrong(key, "a text"))
    }

    pub fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Refuses a model for which this is true.
    pub fn refuse(&self, key: &str) -> Result<()> {
        match self.flag(key) {
            true => {
                Err(Error::new(ErrorCode::UnsupportedModel, format!("config.json's {key} is true; supported is false")))
            }
            false => Ok(()),
        }
    }

    pub fn opt_number(&self, key: &str) -> Result<Option<f32>> {
        number(self.config, key).map(|value| value.map(|value| value as f32)).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub fn number(&self, key: &str) -> Result<f32> {
        self.opt_number(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    pub fn opt_size(&self, key: &str) -> Result<Option<usize>> {
        let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.get(key).map(|value| size(value).ok_or_else(|| self.wrong(key, "a whole number"))).transpose()
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        self.opt_size(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub fn numbers(&self, key: &str) -> Result<Vec<f32>> {
        numbers(self.config, key).ok_or_else(|| self.wrong(key, "a list of numbers"))
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let all = value.as_array().and_then(|all| all.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        all.map(Some).ok_or_else(|| self.wrong(key, "a list of texts"))
    }

    /// The shape that most architectures have; see [`super::Keys::base`]. Halves of a head turn together in all of them.
    pub fn base(&self) -> Result<ModelConfig> {
        let (d, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        let head_dim = match self.opt_size("head_dim")? {
            Some(width) => width,
            None => d.checked_div(heads).unwrap_or(0),
        };
        let activation = match self.get("hidden_activation").or(self.get("hidden_act")).and_then(Value::as_str) {
            None | Some("silu") => Activation::Silu,
            Some("gelu_pytorch_tanh") => Activation::GeluTanh,
            Some(other) => {
                let message =
                    format!("config.json's hidden_act is '{}'; supported: silu, gelu_pytorch_tanh", excerpt(other));
                return Err(Error::new(ErrorCode::UnsupportedModel, message));
            }
        };
        let layers = self.size("num_hidden_layers")?;
        Ok(ModelConfig {
            arch: self.arch,
            d,
            ff: self.size("intermediate_size")?,
            heads,
            kv_heads: self.opt_size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: self.size("vocab_size")?,
            context: self.size("max_position_embeddings")?,
            eps: self.number("rms_norm_eps")?,
            // More than there can be are refused by their number.
            layers: vec![LayerConfig { window: None, rope: Some(0) }; layers.min(1 << 16)],
            ropes: vec![self.rope("full_attention", head_dim)?],
            pairs: Pairs::Halves,
            pre_norm: true,
            post_norm: false,
            qk_norm: None,
            qkv_bias: false,
            fused: false,
            activation,
            scales: Scales::plain(head_dim),
            softcaps: Softcaps::default(),
            gain_offset: 0.0,
        })
    }

    /// The rotary table of layers of this kind. transformers 5 writes `rope_parameters`, for each kind of layer where they
    /// differ; before it wrote `rope_theta` and `rope_scaling`.
    pub fn rope(&self, kind: &str, head_dim: usize) -> Result<Rope> {
        let parameters = self.get("rope_parameters").map(|all| all.get(kind).unwrap_or(all));
        let of_locals = kind == "sliding_attention" && parameters.is_none();
        let scaling = parameters.or(self.get("rope_scaling").filter(|_| !of_locals)).unwrap_or(&Value::Null);
        let base = match (number(scaling, "rope_theta").flatten(), of_locals) {
            (Some(base), _) => base as f32,
            (None, true) => self.opt_number("rope_local_base_freq")?.unwrap_or(10_000.0),
            (None, false) => self.opt_number("rope_theta")?.unwrap_or(10_000.0),
        };
        let partial = number(scaling, "partial_rotary_factor").flatten().map(|v| v as f32);
        let partial = partial.or(self.opt_number("partial_rotary_factor")?).unwrap_or(1.0);
        let rope = Rope { dims: (head_dim as f32 * partial) as usize, ..Rope::plain(base, head_dim) };
        let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
        let of = |key: &str| {
            let missing =
                || Error::new(ErrorCode::InvalidFile, format!("config.json's rope scaling '{kind}' has no {key}"));
            number(scaling, key).flatten().ok_or_else(missing)
        };
        match kind {
            "default" => Ok(rope),
            "linear" => Ok(Rope { factor: of("factor")? as f32, ..rope }),
            "llama3" => {
                let values = [of("factor")?, of("low_freq_factor")?, of("high_freq_factor")?];
                let divisors = llama3(&rope, values, of("original_max_position_embeddings")?);
                Ok(Rope { divisors: Some(Divisors::Values(divisors)), ..rope })
            }
            "longrope" | "su" => self.longrope(scaling, rope),
            other => {
                let message = format!(
                    "config.json's rope scaling is '{}'; supported: default, linear, llama3, longrope",
                    excerpt(other)
                );
                Err(Error::new(ErrorCode::UnsupportedModel, message))
            }
        }
    }

    fn longrope(&self, scaling: &Value, rope: Rope) -> Result<Rope> {
        let factors = |key: &str| {
            let all = numbers(scaling, key).filter(|all| all.len() == rope.dims / 2);
            all.map(Divisors::Values).ok_or_else(|| {
                let message = format!("config.json's longrope has no {key} of {} numbers", rope.dims / 2);
                Error::new(ErrorCode::InvalidFile, message)
            })
        };
        let original = match number(scaling, "original_max_position_embeddings").flatten() {
            Some(original) => original as usize,
            None => self.size("original_max_position_embeddings")?,
        };
        let extension = self.size("max_position_embeddings")? as f64 / original as f64;
        let computed = if extension > 1.0 { (1.0 + extension.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
        let magnitude = number(scaling, "attention_factor").flatten().unwrap_or(computed) as f32;
        let (divisors, long) = (Some(factors("short_factor")?), Some((original, factors("long_factor")?)));
        Ok(Rope { magnitude, divisors, long, ..rope })
    }
}

/// The number of this key: none where there is none, nothing where it is something else.
fn number(value: &Value, key: &str) -> Option<Option<f64>> {
    match value.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_f64().map(Some),
    }
}

fn numbers(value: &Value, key: &str) -> Option<Vec<f32>> {
    value.get(key)?.as_array()?.iter().map(|value| value.as_f64().map(|v| v as f32)).collect()
}

/// Llama 3's scaling: wavelengths that the original context holds few of are stretched by the factor, short ones not at all.
fn llama3(rope: &Rope, [factor, low, high]: [f64; 3], original: f64) -> Vec<f32> {
    let divisor = |i: usize| {
        let wavelength = 2.0 * std::f64::consts::PI * f64::from(rope.base).powf(2.0 * i as f64 / rope.dims as f64);
        let smooth = (original / wavelength - low) / (high - low);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..rope.dims / 2).map(|i| divisor(i) as f32).collect()
}

/// GGUF's name of a tensor of a model of this shape; `None` for one that no architecture has.
pub fn gguf_name(name: &str, config: &ModelConfig) -> Option<String> {
    let (stem, end) = name.rsplit_once('.')?;
    let name = match stem {
        "model.embed_tokens" => "token_embd".to_string(),
        "model.norm" => "output_norm".to_string(),
        "lm_head" => "output".to_string(),
        _ => {
            let (layer, part) = stem.strip_prefix("model.layers.")?.split_once('.')?;
            let part = match part {
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.qkv_proj" => "attn_qkv",
                "self_attn.o_proj" => "attn_output",
                "self_attn.q_norm" => "attn_q_norm",
                "self_attn.k_norm" => "attn_k_norm",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                "input_layernorm" => "attn_norm",
                // What it comes before where nothing else does.
                "post_attention_layernorm" if config.post_norm => "post_attention_norm",
                "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
                "post_feedforward_layernorm" => "post_ffw_norm",
                _ => return None,
            };
            format!("blk.{}.{part}", layer.parse::<usize>().ok()?)
        }
    };
    Some(format!("{name}.{end}"))
}
