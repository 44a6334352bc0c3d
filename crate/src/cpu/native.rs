//! Kernels as native code, in memory of the process.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use embergram_kernels::threads::{Control, Host, QUIT};
use embergram_kernels::{Memory, run, work};

use super::Kernels;

/// Every piece of memory begins at a multiple of this: a cache line.
const ALIGN: u64 = 64;

/// The most that offsets of 32 bits reach.
const MOST: u64 = (1 << 32) - ALIGN;

/// Kernels as native code. Its memory is address space first; the system gives pages as they are written.
pub struct NativeKernels {
    base: *mut u8,
    layout: Layout,
    memory: Memory,
    reserved: u64,
    control: u32,
    threads: u32,
    sleepers: Arc<Sleepers>,
    workers: Vec<JoinHandle<()>>,
}

/// Threads that wait for a word to change.
#[derive(Default)]
struct Sleepers {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Host for Sleepers {
    fn wait(&self, word: &AtomicU32, value: u32) {
        let guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        if word.load(Ordering::SeqCst) == value {
            // It may also be woken for nothing.
            drop(self.changed.wait_timeout(guard, Duration::from_millis(100)));
        }
    }

    fn notify(&self, _: &AtomicU32) {
        let _guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        self.changed.notify_all();
    }
}

impl NativeKernels {
    /// Kernels that so many threads run, the caller's among them.
    ///
    /// # Panics
    /// When the system gives no address space.
    pub fn new(threads: u32) -> Self {
        // The allocator's own alignment: more of it would make it write zeros.
        let layout = Layout::from_size_align(MOST as usize, 16).expect("4 GiB are a size on this machine");
        // SAFETY: the size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "the system gives no 4 GiB of address space");
        let memory = Memory::at(base.wrapping_add(base.align_offset(ALIGN as usize)));
        let mut kernels = Self {
            base,
            layout,
            memory,
            reserved: ALIGN,
            control: 0,
            threads,
            sleepers: Arc::default(),
            workers: Vec::new(),
        };
        let control = kernels.reserve(size_of::<Control>() as u64).expect("the memory is empty");
        kernels.control = control;
        let worker = |thread| {
            let sleepers = kernels.sleepers.clone();
            // SAFETY: the memory lives until the workers have ended, and steps are written before they are given.
            std::thread::spawn(move || unsafe { work(memory, control, thread, threads, &*sleepers) })
        };
        kernels.workers = (1..threads).map(worker).collect();
        kernels
    }

    fn begin(&self, step: u32) {
        // SAFETY: the control block was reserved, and zero is what it begins as.
        unsafe { &*self.memory.get::<Control>(self.control) }.begin(step, &*self.sleepers);
    }

    fn check(&self, offset: u32, len: usize) {
        assert!(u64::from(offset) + len as u64 <= self.reserved, "outside of the memory that was reserved");
    }
}

impl Drop for NativeKernels {
    fn drop(&mut self) {
        self.begin(QUIT);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        // SAFETY: it was allocated so, and nobody is left who reads it.
        unsafe { dealloc(self.base, self.layout) };
    }
}

impl Kernels for NativeKernels {
    fn reserve(&mut self, bytes: u64) -> Option<u32> {
        let end = self.reserved.checked_add(bytes)?.checked_next_multiple_of(ALIGN)?;
        let at = self.reserved;
        // The base was moved to a cache line.
        (end <= MOST - ALIGN).then(|| {
            self.reserved = end;
            at as u32
        })
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: it is inside, and no step runs while this is borrowed.
        unsafe { self.memory.get::<u8>(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn read(&self, offset: u32, bytes: &mut [u8]) {
        self.check(offset, bytes.len());
        // SAFETY: the same.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.memory.get::<u8>(offset), bytes.len()) };
    }

    fn run(&mut self, offset: u32) {
        if self.threads > 1 {
            self.begin(offset);
        }
        // SAFETY: the runner has written a step there, and the workers run it too.
        unsafe { run(self.memory, offset, 0, self.threads, &*self.sleepers) };
    }

    fn threads(&self) -> u32 {
        self.threads
    }

    fn control(&self) -> u32 {
        self.control
    }

    fn is_relaxed(&self) -> bool {
        false
    }

    fn reserved(&self) -> u64 {
        self.reserved
    }
}
