//! What a model is, by its files: its shape, where every byte of them goes, and the reader that takes them there. Knows no
//! GPU.

pub mod config;
mod keys;
pub mod layout;
#[cfg(feature = "reference")]
pub mod llama;
pub mod reader;
pub mod rope;
#[cfg(test)]
mod tests;

pub use config::ModelConfig;
pub use layout::{BufferLayout, Layout, Limits, Matrix};
pub use reader::{Described, Reader};
