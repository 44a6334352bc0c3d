//! What comes back from the device: one small read per step.

use burn_wgpu::wgpu;
use futures::channel::oneshot;

use super::Gpu;
use crate::{Error, ErrorCode, Result};

fn lost(e: &dyn std::fmt::Display) -> Error {
    let message = format!("the GPU device was lost while reading a result: {e}. Load the model again");
    Error::new(ErrorCode::DeviceLost, message)
}

/// The beginning of a buffer on its way to the CPU.
pub(super) struct Mapping {
    buffer: wgpu::Buffer,
    bytes: u64,
    submission: Option<wgpu::SubmissionIndex>,
    done: oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

/// Maps `buffer`'s first `bytes` bytes as soon as the work submitted before has ended. Natively `submission` is the work to wait for;
/// without it, all of it.
pub(super) fn map(buffer: &wgpu::Buffer, bytes: u64, submission: Option<wgpu::SubmissionIndex>) -> Mapping {
    let (sender, done) = oneshot::channel();
    buffer.slice(..bytes).map_async(wgpu::MapMode::Read, move |result| {
        let _ = sender.send(result);
    });
    Mapping { buffer: buffer.clone(), bytes, submission, done }
}

impl Mapping {
    /// Gives the bytes to `f` when they are there.
    ///
    /// # Errors
    /// `device_lost` when the device went away, and whatever [`Gpu::check`] knows of.
    pub async fn read<T>(self, gpu: &Gpu, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let Self { buffer, bytes, submission, done } = self;
        gpu.check()?;
        // Natively nothing calls back unless polled; in a browser this returns at once and the event loop does it.
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        gpu.device.poll(wait).map_err(|e| lost(&e))?;
        #[cfg(target_family = "wasm")]
        let done = super::firefox::nudged(&gpu.queue, done);
        done.await.map_err(|e| lost(&e))?.map_err(|e| lost(&e))?;
        gpu.check()?;
        let view = buffer.slice(..bytes).get_mapped_range().map_err(|e| lost(&e))?;
        let value = f(&view);
        drop(view);
        buffer.unmap();
        gpu.check()?;
        Ok(value)
    }
}

/// Reads `buffer`'s first `bytes` bytes when all work submitted before has ended.
///
/// # Errors
/// As [`Mapping::read`].
pub async fn read<T>(gpu: &Gpu, buffer: &wgpu::Buffer, bytes: u64, f: impl FnOnce(&[u8]) -> T) -> Result<T> {
    map(buffer, bytes, None).read(gpu, f).await
}
