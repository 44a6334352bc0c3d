//! Buffers, kernels and the recorded step. Knows no token's meaning.
//!
//! [`device`] opens the adapter and hands it to burn; [`weights`] are burn tensors whose buffers our passes bind;
//! [`kernels`] makes pipelines out of `shaders/`, written out for the adapter's [`Tuning`]; [`plan`] records a program's step;
//! [`readback`] brings its result home.

#[cfg(target_family = "wasm")]
mod browser;
pub mod device;
#[cfg(target_family = "wasm")]
mod firefox;
mod kernel;
pub mod kernels;
pub mod plan;
pub mod readback;
mod record;
mod recorder;
mod timing;
mod tuning;
pub mod weights;

pub use device::Gpu;
pub use plan::Plan;
pub use tuning::Tuning;
