//! The one error type of the engine. A message says what was wrong, where, and what would be right; the code is
//! stable, for programs.

use std::fmt::{self, Display, Formatter, Write};

use serde::Serialize;

/// What kind of thing went wrong. The snake_case name is what JavaScript sees as `error.code`; names never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The bytes are not a GGUF file, or contradict themselves.
    InvalidFile,
    /// The file or the stream ended before everything in it had arrived.
    TruncatedFile,
    /// A tensor type the engine has no kernel for.
    UnsupportedQuantization,
    /// A model architecture, tokenizer, template or piece of metadata the engine does not know.
    UnsupportedModel,
    /// A tensor is missing, has another shape than the metadata promises, or is not used by any parameter.
    InvalidTensor,
    /// An option of `Llm.load` is unknown or out of range.
    InvalidConfig,
    /// A sampling parameter is unknown or out of range.
    InvalidParams,
    /// The prompt is empty, malformed, or holds tokens outside the vocabulary.
    InvalidPrompt,
    /// The prompt leaves no room in `max_model_len`, or the request can never fit the KV cache.
    PromptTooLong,
    /// As many sequences wait as may; see `max_num_waiting`.
    QueueFull,
    /// The model gave NaN or an infinity, so that there is no next token.
    CorruptedLogits,
    /// The grammar of a request became too complex, or no token of the vocabulary goes on as it wants.
    GrammarFailed,
    /// There is no WebGPU, or no adapter.
    NoWebgpu,
    /// The adapter's limits are below what the model needs.
    AdapterTooSmall,
    /// The device was lost; load again.
    DeviceLost,
    /// The server answered with an error status.
    Http,
    /// The connection broke or could not be made.
    Network,
    /// The caller aborted.
    Aborted,
    /// A fault of the engine's own.
    Internal,
}

impl ErrorCode {
    /// The stable snake_case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidFile => "invalid_file",
            Self::TruncatedFile => "truncated_file",
            Self::UnsupportedQuantization => "unsupported_quantization",
            Self::UnsupportedModel => "unsupported_model",
            Self::InvalidTensor => "invalid_tensor",
            Self::InvalidConfig => "invalid_config",
            Self::InvalidParams => "invalid_params",
            Self::InvalidPrompt => "invalid_prompt",
            Self::PromptTooLong => "prompt_too_long",
            Self::QueueFull => "queue_full",
            Self::CorruptedLogits => "corrupted_logits",
            Self::GrammarFailed => "grammar_failed",
            Self::NoWebgpu => "no_webgpu",
            Self::AdapterTooSmall => "adapter_too_small",
            Self::DeviceLost => "device_lost",
            Self::Http => "http",
            Self::Network => "network",
            Self::Aborted => "aborted",
            Self::Internal => "internal",
        }
    }
}

/// An error with a stable code and a message that says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The stable code.
    pub code: ErrorCode,
    /// What was wrong, where, and what would be right.
    pub message: String,
}

impl Error {
    /// An error of this code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Of a grammar that does not compile, and why.
    pub fn refused_grammar(why: &str) -> Self {
        Self::new(ErrorCode::InvalidParams, format!("structured_outputs cannot be used: {why}"))
    }

    /// Of a grammar that failed while a request ran, and why.
    pub fn failed_grammar(why: &str) -> Self {
        let message = format!("the request's structured_outputs cannot go on from here: {why}; give a simpler grammar");
        Self::new(ErrorCode::GrammarFailed, message)
    }
}

/// `Result` with the engine's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Most characters of a text that [`excerpt`] shows.
const EXCERPT: usize = 64;

/// A text out of a file, a name or a value, as a message may show it: its first 64 characters, and what would move a
/// terminal's cursor or hide itself escaped. Files may have names of megabytes.
pub fn excerpt(text: &str) -> impl Display + '_ {
    struct Excerpt<'a>(&'a str);
    impl Display for Excerpt<'_> {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            let mut chars = self.0.chars();
            for c in chars.by_ref().take(EXCERPT) {
                match c {
                    '\'' | '"' => f.write_char(c)?,
                    _ => write!(f, "{}", c.escape_debug())?,
                }
            }
            if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
        }
    }
    Excerpt(text)
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn excerpts_are_short_and_plain() {
        assert_eq!(excerpt("blk.0.attn_q.weight").to_string(), "blk.0.attn_q.weight");
        assert_eq!(excerpt("it's \"Grüße\"").to_string(), "it's \"Grüße\"");
        assert_eq!(excerpt("a\u{1b}[31m\n\u{202e}").to_string(), r"a\u{1b}[31m\n\u{202e}");
        assert_eq!(excerpt(&"é".repeat(64)).to_string(), "é".repeat(64));
        assert_eq!(excerpt(&"é".repeat(65)).to_string(), "é".repeat(64) + "…");
    }
}
