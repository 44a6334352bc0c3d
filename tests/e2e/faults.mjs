// Faults of the browser, for tests: functions that run in a page, or in a worker before the package's own script.

/** Counts the live buffers of all devices of this context: `liveBuffers()`. A device that is destroyed takes its own along. */
export function countBuffers() {
  const live = new Map();
  const { createBuffer, destroy } = GPUDevice.prototype;
  const destroyBuffer = GPUBuffer.prototype.destroy;
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    live.set(buffer, this);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    live.delete(this);
    return destroyBuffer.call(this);
  };
  GPUDevice.prototype.destroy = function () {
    for (const [buffer, device] of live) if (device === this) live.delete(buffer);
    return destroy.call(this);
  };
  globalThis.liveBuffers = () => live.size;
}

/** Lets calls of WebGPU stall or throw from when `fault({ mapAsync: "stall", writeBuffer: "throw" })` says so, until it is told otherwise. */
export function breakWebGpu() {
  let faults = {};
  globalThis.fault = (wanted) => (faults = wanted);
  const channel = new BroadcastChannel("faults");
  channel.onmessage = ({ data }) => (data.met ? 0 : (faults = data.faults));
  const places = {
    requestAdapter: GPU, requestDevice: GPUAdapter, createBuffer: GPUDevice, writeBuffer: GPUQueue, mapAsync: GPUBuffer,
  };
  for (const [name, { prototype }] of Object.entries(places)) {
    const own = prototype[name];
    prototype[name] = function (...args) {
      if (!faults[name]) return own.apply(this, args);
      channel.postMessage({ met: name });
      if (faults[name] === "throw") throw new Error(`injected into ${name}`);
      return new Promise(() => {});
    };
  }
}

/** The script of a worker with these faults, and with those that its page sends: `faults` in `channel`. */
export function faultyWorker(faults = {}) {
  return `import "/worker.js"; (${breakWebGpu})(); fault(${JSON.stringify(faults)});`;
}
