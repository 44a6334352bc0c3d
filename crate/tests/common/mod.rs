//! What tests with a model on a real adapter share. All but `native` runs in a browser as well.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

pub mod draws;
#[cfg(not(target_arch = "wasm32"))]
pub mod grammars;
pub mod lossless;
#[cfg(not(target_arch = "wasm32"))]
mod native;
pub mod quant;
pub mod random;
pub mod requests;
pub mod rows;
pub mod schemas;

#[cfg(not(target_arch = "wasm32"))]
pub use native::{On, finish, full, gpu, load, read, tiny};
pub use random::Random;
pub use requests::{counter, metric, params, tokens};
