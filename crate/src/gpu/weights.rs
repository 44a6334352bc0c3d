//! A parameter on the GPU: a burn tensor of words, and the buffer behind it, which our passes bind.

use std::num::NonZeroU64;

use burn::tensor::{Int, Tensor};
use burn_wgpu::{AutoCompiler, Wgpu, WgpuResource, wgpu};
use cubecl::wgpu::WgpuServer;

use super::Gpu;
use super::recorder::Binding;
use crate::{Error, ErrorCode, Result};

/// Device memory in 32-bit words, owned by burn where burn has the device.
#[derive(Clone, Debug)]
pub struct DeviceWords {
    /// The tensor, shape `[words]`; it keeps the memory. None where the buffer is our own.
    pub tensor: Option<Tensor<1, Int>>,
    buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl DeviceWords {
    /// Memory for `bytes` bytes, rounded up to whole vec4 of words; the contents are undefined.
    ///
    /// # Errors
    /// `adapter_too_small` when one binding cannot hold it.
    pub fn empty(gpu: &Gpu, bytes: u64, what: &str) -> Result<Self> {
        let bytes = bytes.next_multiple_of(16);
        gpu.fits(bytes, what, "use a smaller model or quantisation")?;
        let Some(burn) = &gpu.burn else {
            let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            return Ok(Self { tensor: None, buffer, offset: 0, bytes });
        };
        let internal = |e: String| Error::new(ErrorCode::Internal, format!("{what}: burn gave no buffer: {e}"));
        let tensor = Tensor::<1, Int>::empty([(bytes / 4) as usize], burn);
        let primitive = tensor.clone().try_into_primitive::<Wgpu>().map_err(|e| internal(format!("{e:?}")))?;
        let managed = primitive
            .client
            .get_resource::<WgpuServer<AutoCompiler>>(primitive.handle.clone())
            .map_err(|e| internal(format!("{e:?}")))?;
        let WgpuResource { buffer, offset, size, .. } = managed.resource().clone();
        Ok(Self { tensor: Some(tensor), buffer, offset, bytes: size })
    }

    /// Copies `bytes` (a multiple of four) to `offset` (likewise).
    pub fn write(&self, gpu: &Gpu, offset: u64, bytes: &[u8]) {
        gpu.queue.write_buffer(&self.buffer, self.offset + offset, bytes);
    }

    /// Bytes of device memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its buffer, and where it begins in it.
    pub(super) fn place(&self) -> (&wgpu::Buffer, u64) {
        (&self.buffer, self.offset)
    }

    /// What a bind group binds.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: NonZeroU64::new(self.bytes),
        })
    }

    /// The same, to be kept.
    pub(super) fn part(&self) -> Binding {
        Binding { buffer: self.buffer.clone(), offset: self.offset, size: NonZeroU64::new(self.bytes) }
    }
}
