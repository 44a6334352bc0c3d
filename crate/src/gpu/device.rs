//! One adapter, one device, shared with burn: burn owns the memory of the parameters, our passes run on its queue.

use std::sync::{Arc, Mutex};

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
    /// burn's name for the same device. None in a browser whose adapter has no timestamp queries: cubecl panics there as
    /// soon as it opens a stream ("Cannot profile on web assembly"), so parameters get buffers of our own.
    pub burn: Option<Device>,
    /// Name, vendor and kind of the adapter.
    pub adapter: wgpu::AdapterInfo,
    /// How kernels are written out; set before a plan is made to try the other.
    pub tuning: Tuning,
    /// Lanes of a subgroup where kernels may rely on it, else 0.
    pub subgroup: u32,
    /// Whether the device has subgroups, and all of them eight lanes or more.
    pub shuffles: bool,
    /// Most bytes of one binding.
    pub binding_limit: u64,
    /// Compiles pipelines beside each other.
    #[cfg(target_family = "wasm")]
    pub(super) compiler: super::browser::Compiler,
    faults: Faults,
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
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("embergram"),
            required_features: adapter.features() & optional,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        #[cfg(target_family = "wasm")]
        let (device, subgroups, compiler) = super::browser::request_device(&adapter, &descriptor);
        #[cfg(not(target_family = "wasm"))]
        let (device, subgroups) =
            (adapter.request_device(&descriptor), descriptor.required_features.contains(wgpu::Features::SUBGROUP));
        let (device, queue) = device.await.map_err(|e| {
            Error::new(ErrorCode::NoWebgpu, format!("the adapter gave no device: {e}. Reload the page"))
        })?;
        let info = adapter.get_info();
        let burn = if cfg!(target_family = "wasm") && !adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            None
        } else {
            let setup =
                WgpuSetup { instance, backend: info.backend, adapter, device: device.clone(), queue: queue.clone() };
            // A parameter must have a buffer of its own: a pass may not read one part of a buffer and write another.
            let options = Device::wgpu_options().memory_config(MemoryConfiguration::ExclusivePages);
            let burn = options.setup(setup).init();
            Some(burn.map_err(|e| Error::new(ErrorCode::Internal, format!("burn refused the device: {e}")))?)
        };
        let faults = Faults::watch(&device);
        let subgroup = if subgroups { fixed_subgroup(&info) } else { 0 };
        let shuffles = subgroups && info.subgroup_min_size >= 8;
        let limits = device.limits();
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        Ok(Self {
            device,
            queue,
            burn,
            tuning: Tuning::of(&info),
            adapter: info,
            subgroup,
            shuffles,
            binding_limit,
            #[cfg(target_family = "wasm")]
            compiler,
            faults,
        })
    }

    /// Whether one binding can hold `bytes` bytes.
    ///
    /// # Errors
    /// `adapter_too_small` where it cannot; `what` names what it is for, `remedy` what would make it smaller.
    pub fn fits(&self, bytes: u64, what: &str, remedy: &str) -> Result<()> {
        let limit = self.binding_limit;
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::AdapterTooSmall,
            format!(
                "{what} needs {bytes} bytes in one binding, but adapter '{}' allows {limit}: {remedy}",
                self.adapter.name
            ),
        ))
    }

    /// Most rows of a matrix that one dispatch can multiply with, a multiple of four: a dispatch has so many workgroups at
    /// most, each for some rows.
    pub fn row_limit(&self) -> u64 {
        let most = u64::from(self.device.limits().max_compute_workgroups_per_dimension);
        // Outputs are one dimension for CPU adapters, and two for GPUs, of at least four outputs per workgroup.
        match self.tuning {
            Tuning::Cpu => most * 16 * 4,
            Tuning::Gpu => most * most * 4,
        }
    }

    /// What the device has complained of since it was opened, if anything.
    ///
    /// # Errors
    /// `device_lost`; `adapter_too_small` where memory ran out; `internal` for a call that it refused.
    pub fn check(&self) -> Result<()> {
        // Natively a device tells of its end when it is asked.
        let _ = self.device.poll(wgpu::PollType::Poll);
        match &*self.faults.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }
}

/// The first error that the device reported out of turn. wgpu's own handler panics, and so does burn's.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<Option<Error>>>);

impl Faults {
    fn watch(device: &wgpu::Device) -> Self {
        let faults = Self::default();
        let (lost, refused) = (faults.clone(), faults.clone());
        device.set_device_lost_callback(move |reason, message| {
            let message = format!("the GPU device was lost ({reason:?}: {message}). Load the model again");
            lost.keep(Error::new(ErrorCode::DeviceLost, message));
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            refused.keep(match error {
                wgpu::Error::OutOfMemory { .. } => Error::new(
                    ErrorCode::AdapterTooSmall,
                    format!("the GPU ran out of memory ({error}). Use a smaller model, or lower kv_cache_memory_bytes"),
                ),
                _ => Error::new(ErrorCode::Internal, format!("the GPU refused a call: {error}")),
            });
        }));
        faults
    }

    fn keep(&self, error: Error) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
    }
}
