//! What WebGPU has in a browser and wgpu 30 does not ask for: subgroups, and pipelines that are compiled beside each other.

use burn_wgpu::wgpu;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen(module = "/src/gpu/browser.js")]
extern "C" {
    type Asking;
    #[wasm_bindgen(js_name = askForDevice)]
    fn ask() -> Asking;
    #[wasm_bindgen(method)]
    fn end(this: &Asking) -> bool;
    #[wasm_bindgen(method, getter)]
    fn compiler(this: &Asking) -> Compiler;

    /// Compiles pipelines of one device.
    #[derive(Clone, Debug)]
    pub(super) type Compiler;
    /// Begins a pipeline: its WGSL, and its bindings' kinds as [`layout`](super::kernels::layout) takes them.
    #[wasm_bindgen(method)]
    pub(super) fn begin(this: &Compiler, name: &str, wgsl: &str, kinds: &str);
    #[wasm_bindgen(method)]
    fn rest(this: &Compiler) -> js_sys::Promise;
}

impl Compiler {
    /// Waits for all that were begun.
    pub(super) async fn all(&self) {
        // It settles whatever became of them.
        let _ = JsFuture::from(self.rest()).await;
    }
}

/// A device in the making, whether it was asked for with subgroups, and its compiler.
pub(super) fn request_device(
    adapter: &wgpu::Adapter,
    descriptor: &wgpu::DeviceDescriptor<'_>,
) -> (impl Future<Output = Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError>> + use<>, bool, Compiler) {
    let asking = ask();
    let device = adapter.request_device(descriptor);
    (device, asking.end(), asking.compiler())
}
