//! Buffers, kernels and the recorded step. Knows no token's meaning.
//!
//! [`device`] opens the adapter and hands it to burn; [`weights`] are burn tensors whose buffers our passes bind, and
//! [`loader`] fills them; [`kernels`] makes pipelines out of `shaders/`, written out for the adapter's [`Tuning`]; [`plan`] records one step;
//! [`readback`] brings its result home.

pub mod device;
pub mod kernels;
pub mod loader;
pub mod plan;
pub mod readback;
mod recorder;
#[cfg(target_family = "wasm")]
mod subgroups;
mod timing;
mod tuning;
pub mod weights;

pub use device::Gpu;
pub use loader::Loader;
pub use plan::{Plan, Row};
pub use tuning::Tuning;
