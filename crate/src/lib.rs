//! Embergram: large language models inside a web page, with lossless n-gram speculation.
//!
//! The rooms, each knowing only those after it (`tests/arrows.rs`): [`llm`] -> [`engine`] -> [`speculate`], [`sample`],
//! [`metrics`]; [`llm`] -> [`model`], [`gpu`], [`cpu`] -> [`program`]; [`format`](mod@format) and [`text`] feed a model at load
//! time.

pub mod config;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod format;
pub mod gpu;
pub mod llm;
pub mod metrics;
pub mod model;
pub mod program;
pub mod sample;
pub mod speculate;
#[cfg(test)]
#[path = "../tests/support/gguf.rs"]
mod testing;
pub mod text;

pub use error::{Error, ErrorCode, Result};
pub use llm::{Llm, LlmLoader, Prompt};
