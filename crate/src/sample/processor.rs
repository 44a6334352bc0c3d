//! A caller's own hand in what is sampled: vLLM's `logits_processors`.

use std::future::Future;
use std::pin::Pin;

use crate::error::Result;

/// Changes the logits of a row before penalties, temperature and all else. What it makes of a row must depend on its arguments
/// alone: rows of drafts are shown to it too, and come again.
pub trait LogitsProcessor {
    /// Changes the logits of the token after a prompt and so many tokens of its output. Log probabilities stay those of the
    /// model's own logits, as in vLLM.
    ///
    /// # Errors
    /// Whatever it says; the sequence ends with it.
    fn process<'a>(
        &'a self,
        prompt: &'a [u32],
        output: &'a [u32],
        logits: &'a mut [f32],
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
}
