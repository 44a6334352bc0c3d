//! From one row of logits to one token, on the CPU.
//!
//! The token depends on the row's logits, the request's parameters, the tokens before the row, and noise made of
//! (seed, position, token id) alone: never on what else is in the step. Lossless speculation rests on this.

mod counts;
mod logits;
mod rng;
mod sampler;

pub use counts::TokenCounts;
pub use logits::MASK;
pub use rng::{gumbel, request_seed, uniform};
pub use sampler::{Sampled, Sampler, TokenLogprob, needs_logits};
