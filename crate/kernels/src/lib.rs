//! Embergram's CPU kernels: a step over rows of a model, on 128-bit SIMD.
//!
//! Everything lies in one memory that the caller gives, and is named by 32-bit offsets into it: weights in panels
//! ([`format`](mod@format)), the KV cache, activations, and the step itself ([`step`]), a list of operations. Any number of threads [`run`] a
//! step together. In a page the memory is a shared `WebAssembly.Memory`, and each thread has an instance of the module on
//! it; natively the same source runs for tests and benchmarks. There is no allocation here, and no thread is made.
//!
//! A row's outputs are the same bits whatever other rows share the step, and whatever the number of threads.
#![cfg_attr(target_arch = "wasm32", no_std)]

mod attention;
mod cache;
mod decode;
mod fast;
mod finish;
pub mod format;
mod math;
mod matrices;
pub mod memory;
mod prompt;
mod rows;
mod run;
mod scratch;
pub mod step;
pub mod threads;
mod unpack;
mod vector;

pub use memory::Memory;
pub use run::{run, work};
pub use scratch::scratch_bytes;
