//! What a model is: its shape, out of the file's metadata, and its parameters on the GPU.

pub mod config;
#[cfg(feature = "reference")]
pub mod llama;
pub mod loader;
pub mod rope;

pub use config::ModelConfig;
pub use loader::{Loader, Weights};
