//! The one error type of the engine. A message says what was wrong, where, and what would be right; the code is
//! stable, for programs.

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
    /// A model architecture, tokenizer or template the engine does not know.
    UnsupportedModel,
    /// A tensor is missing or has another shape than the metadata promises.
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
}

/// `Result` with the engine's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
