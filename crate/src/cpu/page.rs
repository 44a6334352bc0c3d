//! Kernels as a WebAssembly module of their own, whose instances JavaScript holds.

use wasm_bindgen::prelude::*;

use super::Kernels;

#[wasm_bindgen]
extern "C" {
    /// What JavaScript gives: the memory of the kernels' module, and its instances, one for each thread. Any object with these
    /// methods:
    ///
    /// ```ts
    /// interface PageMemory {
    ///   /** Takes zeroed bytes on a boundary of 64, growing the memory where it must; their offset, or -1 when it cannot. */
    ///   reserve(bytes: number): number;
    ///   /** Copies bytes, a view of the engine's memory that is good during the call alone, to the kernels' memory. */
    ///   write(offset: number, bytes: Uint8Array): void;
    ///   /** Copies bytes of the kernels' memory into such a view. */
    ///   read(offset: number, bytes: Uint8Array): void;
    ///   /** Calls `embergram_run(control(), offset, threads())` of thread 0's instance. */
    ///   run(offset: number): void;
    ///   /** Threads, this one among them. The others are in `embergram_work(control(), thread, threads())`. */
    ///   threads(): number;
    ///   /** The offset of 64 zeroed bytes, the threads' control block. */
    ///   control(): number;
    ///   /** Whether it is the module with relaxed SIMD. */
    ///   relaxed(): boolean;
    /// }
    /// ```
    pub type PageMemory;
    #[wasm_bindgen(method)]
    fn reserve(this: &PageMemory, bytes: f64) -> f64;
    #[wasm_bindgen(method)]
    fn write(this: &PageMemory, offset: u32, bytes: &[u8]);
    #[wasm_bindgen(method)]
    fn read(this: &PageMemory, offset: u32, bytes: &mut [u8]);
    #[wasm_bindgen(method)]
    fn run(this: &PageMemory, offset: u32);
    #[wasm_bindgen(method)]
    fn threads(this: &PageMemory) -> u32;
    #[wasm_bindgen(method)]
    fn control(this: &PageMemory) -> u32;
    #[wasm_bindgen(method)]
    fn relaxed(this: &PageMemory) -> bool;
}

/// Kernels in a page.
pub struct PageKernels {
    memory: PageMemory,
    reserved: u64,
}

impl PageKernels {
    /// Those of this object.
    pub fn new(memory: PageMemory) -> Self {
        Self { memory, reserved: 0 }
    }
}

impl Kernels for PageKernels {
    fn reserve(&mut self, bytes: u64) -> Option<u32> {
        let offset = self.memory.reserve(bytes as f64);
        (offset > 0.0).then(|| {
            self.reserved += bytes;
            offset as u32
        })
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        self.memory.write(offset, bytes);
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        self.memory.read(offset, bytes);
    }

    fn run(&mut self, offset: u32) {
        self.memory.run(offset);
    }

    fn threads(&self) -> u32 {
        self.memory.threads()
    }

    fn control(&self) -> u32 {
        self.memory.control()
    }

    fn is_relaxed(&self) -> bool {
        self.memory.relaxed()
    }

    fn reserved(&self) -> u64 {
        self.reserved
    }
}
