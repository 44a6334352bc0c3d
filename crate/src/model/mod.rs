//! What a model is: an architecture as data, its parameters by field, and the program that its forward pass becomes.

pub mod arch;
pub mod config;
pub mod decoder;
pub mod loader;
mod placement;
#[cfg(feature = "reference")]
pub mod reference;
pub mod rope;

pub use config::ModelConfig;
pub use decoder::Decoder;
pub use loader::{Loader, Model};
