//! Rows in, sampled tokens out: the only room that knows sequences, KV blocks, drafts and the plan at once.
//!
//! [`sequence`] is one request's state, [`kv_cache`] owns the blocks, [`step`] is the loop's body.

pub mod kv_cache;
pub mod sequence;
pub mod step;

pub use sequence::{Sequence, SequenceOutput};
pub use step::Engine;
