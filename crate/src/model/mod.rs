//! What a model is, by its files: an architecture as data, where every byte goes, the reader that takes them there, and the
//! program that a forward pass becomes. Knows no device.

pub mod arch;
pub mod config;
pub mod decoder;
mod keys;
pub mod layout;
pub mod reader;
#[cfg(feature = "reference")]
pub mod reference;
pub mod rope;
#[cfg(test)]
mod tests;
mod writer;

pub use config::ModelConfig;
pub use decoder::Decoder;
pub use layout::{Arrangement, BufferLayout, Layout, Limits};
pub use reader::{Described, Reader, Ropes};
