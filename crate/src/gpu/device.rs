//! One adapter, one device, shared with burn: burn owns the memory of the parameters, our passes run on its queue.

use burn::tensor::Device;
use burn_wgpu::{MemoryConfiguration, WgpuSetup, wgpu};

use super::tuning::{Tuning, fixed_subgroup};
use crate::{Error, ErrorCode, Result};

/// An open device: wgpu's handles, and burn's device on the same queue.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// The logical device.
    pub device: wgpu::Device,
    /// Its queue, which burn submits to as well.
    pub queue: wgpu::Queue,
    /// burn's name for the same device.
    pub burn: Device,
    /// Name, vendor and kind of the adapter.
    pub adapter: wgpu::AdapterInfo,
    /// How kernels are written out; set before a plan is made to try the other.
    pub tuning: Tuning,
    /// Lanes of a subgroup where kernels may rely on it, else 0.
    pub subgroup: u32,
}

impl Gpu {
    /// Opens the adapter with the largest limits it offers.
    ///
    /// # Errors
    /// `no_webgpu` where there is no adapter or it gives no device.
    pub async fn open() -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|e| {
                Error::new(
                    ErrorCode::NoWebgpu,
                    format!(
                        "no WebGPU adapter ({e}). Use a browser with WebGPU (Chrome 113, Safari 26, Firefox 141 or \
                         newer) with hardware acceleration on; natively, install a Vulkan driver"
                    ),
                )
            })?;
        let optional = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("embergram"),
                required_features: adapter.features() & optional,
                required_limits: adapter.limits(),
                ..Default::default()
            })
            .await
            .map_err(|e| {
                Error::new(ErrorCode::NoWebgpu, format!("the adapter gave no device: {e}. Reload the page"))
            })?;
        let info = adapter.get_info();
        let setup =
            WgpuSetup { instance, backend: info.backend, adapter, device: device.clone(), queue: queue.clone() };
        // A parameter must have a buffer of its own: a pass may not read one part of a buffer and write another.
        let burn = Device::wgpu_options()
            .memory_config(MemoryConfiguration::ExclusivePages)
            .setup(setup)
            .init()
            .map_err(|e| Error::new(ErrorCode::Internal, format!("burn refused the device: {e}")))?;
        let (tuning, subgroup) = (Tuning::of(&info), fixed_subgroup(&info, device.features()));
        Ok(Self { device, queue, burn, adapter: info, tuning, subgroup })
    }
}
