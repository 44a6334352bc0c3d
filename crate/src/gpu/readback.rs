//! One small read a step.

use burn_wgpu::wgpu;
use futures::channel::oneshot;

use super::Gpu;
use crate::{Error, ErrorCode, Result};

fn lost(e: &dyn std::fmt::Display) -> Error {
    let message = format!("the GPU device was lost while reading a result: {e}. Load the model again");
    Error::new(ErrorCode::DeviceLost, message)
}

/// Waits until `done` is sent by a callback of the queue or the device.
///
/// # Errors
/// `device_lost` when the device went away.
pub(super) async fn wait<T>(gpu: &Gpu, done: oneshot::Receiver<T>) -> Result<T> {
    // Natively nothing calls back unless polled; in a browser this returns at once and the event loop does it.
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| lost(&e))?;
    #[cfg(target_family = "wasm")]
    let done = super::firefox::nudged(&gpu.queue, done);
    let value = done.await.map_err(|e| lost(&e))?;
    gpu.check()?;
    Ok(value)
}

/// Maps `buffer`'s first `bytes` bytes and gives them to `f`, when all work submitted before has ended.
///
/// # Errors
/// `device_lost` when the device went away, and whatever [`Gpu::check`] knows of.
pub async fn read<T>(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: u64, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    gpu.check()?;
    let slice = buffer.slice(..bytes);
    let (sender, receiver) = oneshot::channel();
    slice.map_async(wgpu::MapMode::Read, move |result| {
        let _ = sender.send(result);
    });
    wait(gpu, receiver).await?.map_err(|e| lost(&e))?;
    let view = slice.get_mapped_range().map_err(|e| lost(&e))?;
    let value = f(&view);
    drop(view);
    buffer.unmap();
    gpu.check()?;
    Ok(value)
}
