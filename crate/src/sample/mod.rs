//! From one row of logits to one token, on the CPU.
//!
//! The token depends on the row's logits, the request's parameters, the tokens before the row, and noise made of
//! (seed, position, token id) alone: never on what else is in the step. Lossless speculation rests on this.
//! A [`Constraint`] leaves some tokens out before all else.

mod changes;
mod constraint;
mod counts;
mod logits;
#[cfg(target_arch = "wasm32")]
mod page;
mod processor;
mod rng;
mod sampler;

pub use changes::{Change, changes, has_changes};
pub use constraint::{Constraint, Grammars, Mask};
pub use counts::TokenCounts;
pub use logits::MASK;
#[cfg(target_arch = "wasm32")]
pub use page::{PageGrammars, PageModule, PageProcessor};
pub use processor::LogitsProcessor;
pub use rng::{gumbel, request_seed, uniform};
pub use sampler::{Sampled, Sampler, TokenLogprob, needs_logits};
