/**
 * Until `end`, devices are asked for with subgroups where their adapter has them. `end` tells whether one was; `compiler` is for
 * that device. wgpu calls `requestDevice` before it waits for anything, so no other caller's request falls between.
 */
export function askForDevice() {
  const { prototype } = globalThis.GPUAdapter;
  const own = prototype.requestDevice;
  const compiler = new Compiler();
  let asked = false;
  prototype.requestDevice = function (descriptor) {
    asked = this.features.has("subgroups");
    if (asked) descriptor.requiredFeatures = [...(descriptor.requiredFeatures ?? []), "subgroups"];
    const requested = own.call(this, descriptor);
    return requested.then((device) => compiler.of(device));
  };
  return {
    compiler,
    end() {
      prototype.requestDevice = own;
      return asked;
    },
  };
}

/**
 * Compiles pipelines beside each other and beside everything else. Who asks the device for one that is ready gets it; who comes too
 * early, or for another one, gets it as ever.
 */
class Compiler {
  #device;
  #modules = new Map();
  #ready = new Map();
  #begun = [];

  of(device) {
    this.#device = device;
    const { createShaderModule, createComputePipeline } = device;
    device.createShaderModule = (descriptor) => this.#modules.get(descriptor.code) ?? createShaderModule.call(device, descriptor);
    device.createComputePipeline = (descriptor) => this.#ready.get(descriptor.compute.module) ?? createComputePipeline.call(device, descriptor);
    return device;
  }

  /** As `gpu/kernels.rs` makes them: layouts are equal by what they hold. */
  begin(label, code, kinds) {
    const device = this.#device;
    const type = { u: "uniform", r: "read-only-storage", w: "storage" };
    const entries = [...kinds].map((kind, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: type[kind] } }));
    const module = device.createShaderModule({ label, code });
    const layout = device.createPipelineLayout({ label, bindGroupLayouts: [device.createBindGroupLayout({ label, entries })] });
    this.#modules.set(code, module);
    const begun = device.createComputePipelineAsync({ label, layout, compute: { module, entryPoint: "main" } });
    // A fault shows itself when the device is asked for the pipeline.
    this.#begun.push(begun.then((pipeline) => this.#ready.set(module, pipeline), () => {}));
  }

  async rest() {
    await Promise.all(this.#begun);
  }
}
