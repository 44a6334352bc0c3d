//! Where kernels run, and where their memory is.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::{Error, ErrorCode, Result};

/// The memory of kernels, and the threads that run them. Offsets into it have 32 bits; 0 names nothing.
pub trait Kernels {
    /// Takes so many bytes of memory, zeroed, on a boundary of 64 bytes. They are never given back. `None` when there are
    /// not so many.
    fn reserve(&mut self, bytes: u64) -> Option<u32>;

    /// Writes bytes to the memory.
    fn write(&mut self, offset: u32, bytes: &[u8]);

    /// Reads bytes of the memory.
    fn read(&self, offset: u32, bytes: &mut [u8]);

    /// Runs the step that lies at `offset`, with all threads; it returns when they are done.
    fn run(&mut self, offset: u32);

    /// How many threads run a step.
    fn threads(&self) -> u32;

    /// Where the threads' control block lies.
    fn control(&self) -> u32;

    /// Whether multiply-adds may be rounded once or twice, as the engine likes.
    fn is_relaxed(&self) -> bool;

    /// Bytes taken so far.
    fn reserved(&self) -> u64;
}

/// Kernels whose memory a load writes parameters to while a runner has its own part of it.
pub type SharedKernels = Rc<RefCell<dyn Kernels>>;

/// Takes memory for `what`.
///
/// # Errors
/// `adapter_too_small` when there is not so much.
pub fn reserve(kernels: &mut dyn Kernels, bytes: u64, what: &str) -> Result<u32> {
    kernels.reserve(bytes).ok_or_else(|| {
        let taken = kernels.reserved() >> 20;
        let message = format!(
            "{what} needs {} MiB, and beside the {taken} MiB taken the memory of WebAssembly (4 GiB at most) or of this \
             machine has no room for it; use a smaller model or quantisation, or lower max_model_len, max_num_seqs or \
             kv_cache_memory_bytes",
            bytes.div_ceil(1 << 20)
        );
        Error::new(ErrorCode::AdapterTooSmall, message)
    })
}
