//! Speculation: guess the next tokens cheaply, let one step of the model check all of them.
//!
//! A [`Proposer`] guesses from a sequence's own tokens, the engine runs the guesses as further rows of that sequence,
//! and [`verify`] keeps those the model would have sampled anyway. Nothing here touches a tensor, and nothing here can
//! change a token: a bad guess costs time only.

mod config;
mod ngram;
mod verify;

pub use config::SpeculativeConfig;
pub use ngram::NgramProposer;
pub use verify::{Verified, verify};

/// What guesses the tokens that follow a sequence. One value serves one sequence.
pub trait Proposer {
    /// Tells of tokens that have joined the sequence for good: the prompt, then whatever each step kept.
    fn extend(&mut self, tokens: &[u32]);

    /// Puts at most `max_draft` guessed tokens into `out`, which is cleared first. Empty: no guess this time.
    fn propose(&self, max_draft: usize, out: &mut Vec<u32>);
}

/// How many draft tokens may run in the next step of a sequence that holds `context_len` tokens.
///
/// vLLM's proposer offers at most `max_model_len - context_len`, and its scheduler then trims the step so that its last
/// row stays below `max_model_len - 1`, since that row's own sample still needs a place. The second rule implies the
/// first, so that with `k = 5` the last steps before the limit draft 5, 4, 3, 2, 1 and 0 tokens.
pub fn draft_limit(k: usize, max_model_len: usize, context_len: usize) -> usize {
    k.min(max_model_len.saturating_sub(context_len).saturating_sub(1))
}
