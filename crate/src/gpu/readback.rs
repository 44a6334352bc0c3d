//! One small read a step.

use burn_wgpu::wgpu;
use futures::channel::oneshot;

use super::Gpu;
use crate::{Error, ErrorCode, Result};

/// Maps `buffer`'s first `bytes` bytes and gives them to `f`, when all work submitted before has ended.
///
/// # Errors
/// `device_lost` when the device went away, and whatever [`Gpu::check`] knows of.
pub async fn read<T>(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: u64, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let lost = |e: String| {
        Error::new(
            ErrorCode::DeviceLost,
            format!("the GPU device was lost while reading a result: {e}. Load the model again"),
        )
    };
    gpu.check()?;
    let slice = buffer.slice(..bytes);
    let (sender, receiver) = oneshot::channel();
    slice.map_async(wgpu::MapMode::Read, move |result| {
        let _ = sender.send(result);
    });
    // Natively nothing calls back unless polled; in a browser this returns at once and the event loop does it.
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| lost(e.to_string()))?;
    receiver.await.map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
    let view = slice.get_mapped_range().map_err(|e| lost(format!("{e:?}")))?;
    let value = f(&view);
    drop(view);
    buffer.unmap();
    gpu.check()?;
    Ok(value)
}
