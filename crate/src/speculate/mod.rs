//! Speculation: guess the next tokens cheaply, let one step of the model check all of them.
//!
//! A [`Proposer`] guesses from a sequence's own tokens, a [`DraftWindow`] fits the guess to what is left of the context,
//! the engine runs it as further rows of that sequence, and [`verify()`] keeps what the model would have sampled anyway.
//! With `"auto"`, [`choose_bids`] weighs what each row costs ([`StepCosts`]) against what it is likely to bring
//! ([`Acceptance`]).
//! Nothing here touches a tensor, and nothing here can change a token: a bad guess costs time only.

mod config;
mod cost;
mod depth;
mod draft;
mod ngram;
mod prediction;
mod verify;

pub use config::SpeculativeConfig;
pub use cost::{StepCost, StepCosts};
pub use depth::{Acceptance, Bid, HoldRates, choose_bids};
pub use draft::DraftWindow;
pub use ngram::NgramProposer;
pub use prediction::Prediction;
pub use verify::verify;

/// What guesses the tokens that follow a sequence. One value serves one sequence.
pub trait Proposer {
    /// Tells of tokens that have joined the sequence for good: the prompt, then whatever each step kept.
    fn extend(&mut self, tokens: &[u32]);

    /// Puts at most `max_draft` guessed tokens into `out`, which is cleared first. Empty: no guess this time.
    fn propose(&self, max_draft: usize, out: &mut Vec<u32>) {
        self.propose_after(&[], max_draft, out);
    }

    /// The same, were these tokens to follow first.
    fn propose_after(&self, tail: &[u32], max_draft: usize, out: &mut Vec<u32>);
}
