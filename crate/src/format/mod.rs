//! The file format: GGUF taken apart as its bytes arrive, and quantised blocks laid out for the GPU.
//!
//! A download is fed to [`Parser`] until it has the [`Header`], then to [`DataCursor`], which says which tensor each
//! byte belongs to, then to one [`PlaneSplitter`] per tensor, which turns the blocks into aligned writes of the
//! tensor's GPU buffer ([`PlaneLayout`]). Tensor data is never collected: at most about 1 MiB waits in a splitter.

pub mod gguf;
pub mod quant;
pub mod safetensors;

pub use gguf::{Array, DataCursor, Header, Metadata, Parser, TensorInfo, Value};
pub use quant::{PlaneLayout, PlaneSpec, PlaneSplitter, QuantType, dequantize};
