//! Runs a program with SIMD on the CPU: kernels of the crate `embergram-kernels`, in a memory of their own, by as many threads as
//! there are. Knows no architecture.

mod kernels;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod page;
mod record;
mod runner;

pub use kernels::{Kernels, SharedKernels, reserve};
#[cfg(not(target_arch = "wasm32"))]
pub use native::NativeKernels;
#[cfg(target_arch = "wasm32")]
pub use page::{PageKernels, PageMemory};
pub use runner::CpuRunner;
