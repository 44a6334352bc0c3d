//! Metadata that would change the arithmetic: what the engine does not honour, it refuses, unless its value is neutral.

use super::ModelConfig;
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::{Metadata, Value};
use crate::program::Activation;

/// The values of a key under which the engine computes what the file means.
enum Neutral {
    /// All: the key is read, or says nothing of the arithmetic, or nothing without another one that is refused.
    Any,
    Numbers(Vec<f64>),
    /// This number or a higher one, or 0, which is none.
    AtLeast(f64),
    Flag(bool),
    Texts(&'static [&'static str]),
}

use Neutral::{Any, AtLeast, Flag, Numbers, Texts};

/// Keys of the architecture, without its prefix. What `arch` has read is neutral where the configuration has it; a key that is
/// not among them, where it is off: 0, false, or empty.
fn architecture_keys(config: &ModelConfig) -> Vec<(&'static str, Neutral)> {
    let head_dim = config.head_dim as f64;
    let rope = &config.ropes[0];
    let factor = |value: f32| Numbers(if value == 1.0 { vec![1.0, 0.0] } else { vec![f64::from(value)] });
    let cap = |cap: Option<f32>| Numbers(vec![cap.map_or(0.0, f64::from)]);
    let window = match config.layers.iter().find_map(|layer| layer.window) {
        Some(window) => Numbers(vec![window as f64]),
        // No position is farther than the context from another.
        None => AtLeast(config.context as f64),
    };
    let activation = match config.activation {
        Activation::Silu => Texts(&["silu", "swish"]),
        Activation::GeluTanh => Texts(&["gelu_pytorch_tanh"]),
    };
    vec![
        ("block_count", Any),
        ("context_length", Any),
        ("embedding_length", Any),
        ("embedding_length_out", Numbers(vec![config.d as f64])),
        ("feed_forward_length", Any),
        ("vocab_size", Any),
        ("hidden_activation", activation),
        ("tensor_data_layout", Any),
        ("embedding_scale", factor(config.scales.embedding)),
        ("residual_scale", factor(config.scales.residual)),
        ("logit_scale", factor(1.0 / config.scales.logits)),
        ("attn_logit_softcapping", cap(config.softcaps.attention)),
        ("final_logit_softcapping", cap(config.softcaps.logits)),
        ("attention.head_count", Any),
        ("attention.head_count_kv", Any),
        ("attention.key_length", Any),
        ("attention.value_length", Numbers(vec![head_dim])),
        ("attention.layer_norm_epsilon", Any),
        ("attention.layer_norm_rms_epsilon", Any),
        ("attention.causal", Flag(true)),
        ("attention.scale", Numbers(vec![f64::from(config.scales.attention), 0.0])),
        ("attention.output_scale", factor(1.0)),
        ("attention.sliding_window", window),
        ("attention.sliding_window_pattern", Any),
        ("attention.key_length_swa", Any),
        ("attention.value_length_swa", Any),
        ("rope.dimension_count", Numbers(vec![rope.dims as f64])),
        ("rope.dimension_count_swa", Any),
        ("rope.freq_base", Any),
        ("rope.freq_base_swa", Any),
        ("rope.scale_linear", factor(1.0)),
        // arch has refused what it does not know.
        ("rope.scaling.type", Any),
        ("rope.scaling.factor", factor(rope.factor)),
        ("rope.scaling.attn_factor", Numbers(vec![f64::from(rope.magnitude)])),
        ("rope.scaling.original_context_length", Any),
        ("rope.scaling.finetuned", Any),
        // All of these are yarn's.
        ("rope.scaling.yarn_attn_factor", Any),
        ("rope.scaling.yarn_beta_fast", Any),
        ("rope.scaling.yarn_beta_slow", Any),
        ("rope.scaling.yarn_ext_factor", Any),
        ("rope.scaling.yarn_log_multiplier", Any),
    ]
}

/// Keys of the tokenizer; those that are not among them are read, or say nothing of how a text is cut. Only SentencePiece's
/// tokenizers put a space first.
fn tokenizer_keys(sentencepiece: bool) -> Vec<(&'static str, Neutral)> {
    vec![
        ("add_eos_token", Flag(false)),
        ("add_sep_token", Flag(false)),
        ("add_space_prefix", if sentencepiece { Any } else { Flag(false) }),
        ("remove_extra_whitespaces", Flag(false)),
    ]
}

impl Neutral {
    fn holds(&self, value: &Value) -> bool {
        // Values are f32 in the file.
        let near = |x: f64, right: &f64| (x - right).abs() <= right.abs() * 1e-6;
        match self {
            Any => true,
            Numbers(all) => value.as_number().is_some_and(|x| all.iter().any(|right| near(x, right))),
            AtLeast(least) => value.as_number().is_some_and(|x| x == 0.0 || x >= *least),
            Flag(right) => value.as_bool() == Some(*right),
            Texts(all) => value.as_str().is_some_and(|text| all.contains(&text)),
        }
    }

    /// What would be right, for messages.
    fn right(&self) -> String {
        match self {
            Any => "any value".into(),
            Numbers(all) => all.iter().map(f64::to_string).collect::<Vec<_>>().join(" or "),
            AtLeast(least) => format!("{least} or more, or 0"),
            Flag(right) => right.to_string(),
            Texts(all) => all.join(" or "),
        }
    }
}

/// Whether a value says of something that it is not there.
fn is_off(value: &Value) -> bool {
    value.as_number() == Some(0.0) || value.as_bool() == Some(false) || value.as_str() == Some("")
}

/// Looks at all keys of the architecture and the tokenizer.
///
/// # Errors
/// `unsupported_model`, naming the key, for one that would change the arithmetic and that nothing here reads.
pub(super) fn check(m: &Metadata, config: &ModelConfig) -> Result<()> {
    let sentencepiece = m.opt_str("tokenizer.ggml.model")? == Some("llama");
    let (architecture, tokenizer) = (architecture_keys(config), tokenizer_keys(sentencepiece));
    let prefix = format!("{}.", config.arch);
    for (key, value) in m.iter() {
        let refused = if let Some(name) = key.strip_prefix(&prefix) {
            match architecture.iter().find(|(known, _)| *known == name) {
                Some((_, neutral)) => (!neutral.holds(value)).then(|| neutral.right()),
                None => (!is_off(value)).then(|| "0 or false, since the engine does not know the key".into()),
            }
        } else if let Some(name) = key.strip_prefix("tokenizer.ggml.") {
            let known = tokenizer.iter().find(|(known, _)| *known == name);
            known.filter(|(_, neutral)| !neutral.holds(value)).map(|(_, neutral)| neutral.right())
        } else {
            None
        };
        if let Some(right) = refused {
            let message = format!(
                "metadata '{}' is {value}, which the engine does not honour: the model would write nonsense; supported \
                 is {right}",
                excerpt(key)
            );
            return Err(Error::new(ErrorCode::UnsupportedModel, message));
        }
    }
    Ok(())
}
