//! Subgroups in a browser: WebGPU has them, and wgpu 30 passes WGSL on as it is, but cannot ask a device for them.

use burn_wgpu::wgpu;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/gpu/subgroups.js")]
extern "C" {
    type Asking;
    #[wasm_bindgen(js_name = askForSubgroups)]
    fn ask() -> Asking;
    #[wasm_bindgen(method)]
    fn end(this: &Asking) -> bool;
}

/// Asks for a device with subgroups where the adapter has them; tells whether it was asked for with them.
pub fn request_device(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> (impl Future<Output = Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError>> + use<>, bool) {
    let asking = ask();
    let device = adapter.request_device(descriptor);
    (device, asking.end())
}
