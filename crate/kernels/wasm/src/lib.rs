//! The CPU kernels as a WebAssembly module. Each thread has an instance of it, all on the memory that they import. An instance must
//! get a stack of its own before its first call: its exported `__stack_pointer` is to be set.
#![no_std]

use core::sync::atomic::AtomicU32;

use embergram_kernels::threads::{Control, Host};
use embergram_kernels::{Memory, run, work};

/// What JavaScript does for a thread.
struct Page;

mod env {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        /// `Atomics.wait(words, address / 4, value)`, where the thread may wait; it may also return at once.
        pub fn wait(address: u32, value: u32);
        /// `Atomics.notify(words, address / 4)`
        pub fn notify(address: u32);
    }
}

fn address(word: &AtomicU32) -> u32 {
    word.as_ptr() as u32
}

impl Host for Page {
    fn wait(&self, word: &AtomicU32, value: u32) {
        unsafe { env::wait(address(word), value) }
    }

    fn notify(&self, word: &AtomicU32) {
        unsafe { env::notify(address(word)) }
    }
}

/// Runs a step with all threads; the caller is thread 0, and others are in [`embergram_work`].
///
/// # Safety
/// See [`run`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn embergram_run(control: u32, step: u32, threads: u32) {
    let memory = Memory::own();
    if threads > 1 {
        unsafe { &*memory.get::<Control>(control) }.begin(step, &Page);
    }
    unsafe { run(memory, step, 0, threads, &Page) }
}

/// A worker's life; it returns after [`embergram_quit`].
///
/// # Safety
/// See [`work`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn embergram_work(control: u32, thread: u32, threads: u32) {
    unsafe { work(Memory::own(), control, thread, threads, &Page) }
}

/// Ends all workers.
///
/// # Safety
/// The control block lies at `control`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn embergram_quit(control: u32) {
    unsafe { &*Memory::own().get::<Control>(control) }.begin(embergram_kernels::threads::QUIT, &Page);
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
