//! The one memory that everything lies in, addressed by offsets of 32 bits.

/// Where offset 0 is. In a WebAssembly module that is the memory's own beginning.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    #[cfg(not(target_arch = "wasm32"))]
    base: *mut u8,
}

// SAFETY: it is an address; who uses what lies there says so.
unsafe impl Send for Memory {}
// SAFETY: the same.
unsafe impl Sync for Memory {}

impl Memory {
    /// The memory of the module.
    #[cfg(target_arch = "wasm32")]
    pub fn own() -> Self {
        Self {}
    }

    /// Memory that begins here, on a boundary of 16 bytes.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn at(base: *mut u8) -> Self {
        Self { base }
    }

    /// The address of an offset.
    #[inline(always)]
    pub fn get<T>(self, offset: u32) -> *mut T {
        #[cfg(target_arch = "wasm32")]
        return offset as usize as *mut T;
        #[cfg(not(target_arch = "wasm32"))]
        return self.base.wrapping_add(offset as usize).cast();
    }
}
