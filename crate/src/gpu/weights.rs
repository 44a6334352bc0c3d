//! A parameter on the GPU: a burn tensor of words, and the buffer behind it, which our passes bind.

use burn::tensor::{Int, Tensor};
use burn_wgpu::{AutoCompiler, Wgpu, WgpuResource, wgpu};
use cubecl::wgpu::WgpuServer;

use super::Gpu;
use crate::{Error, ErrorCode, Result};

/// `words` 32-bit words of device memory, owned by burn.
#[derive(Clone, Debug)]
pub struct DeviceWords {
    /// The tensor, shape `[words]`. It keeps the memory.
    pub tensor: Tensor<1, Int>,
    resource: WgpuResource,
}

impl DeviceWords {
    /// Memory for `bytes` bytes, rounded up to whole vec4 of words; the contents are undefined.
    ///
    /// # Errors
    /// `adapter_too_small` when one binding cannot hold it.
    pub fn empty(gpu: &Gpu, bytes: u64, what: &str) -> Result<Self> {
        let bytes = bytes.next_multiple_of(16);
        let limit = gpu.device.limits().max_storage_buffer_binding_size.min(gpu.device.limits().max_buffer_size);
        if bytes > limit {
            return Err(Error::new(
                ErrorCode::AdapterTooSmall,
                format!(
                    "{what} needs {bytes} bytes in one binding, but adapter '{}' allows {limit}. Use a smaller model or \
                     a smaller quantisation",
                    gpu.adapter.name
                ),
            ));
        }
        let internal = |e: String| Error::new(ErrorCode::Internal, format!("{what}: burn gave no buffer: {e}"));
        let tensor = Tensor::<1, Int>::empty([(bytes / 4) as usize], &gpu.burn);
        let primitive = tensor.clone().try_into_primitive::<Wgpu>().map_err(|e| internal(format!("{e:?}")))?;
        let managed = primitive
            .client
            .get_resource::<WgpuServer<AutoCompiler>>(primitive.handle.clone())
            .map_err(|e| internal(format!("{e:?}")))?;
        let resource = managed.resource().clone();
        Ok(Self { tensor, resource })
    }

    /// Copies `bytes` (a multiple of four) to `offset` (likewise).
    pub fn write(&self, gpu: &Gpu, offset: u64, bytes: &[u8]) {
        gpu.queue.write_buffer(&self.resource.buffer, self.resource.offset + offset, bytes);
    }

    /// What a bind group binds.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        self.resource.as_wgpu_bind_resource()
    }
}
