//! Traps: a panic, memory or stack that ran out. WebAssembly cannot unwind: a trap leaves every frame as it stands, up to
//! the JavaScript that called, and a promise that such a frame was to settle never settles. So whatever may trap is called
//! by way of JavaScript, which catches it. What it worked on is never touched again, not even freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::mem::{forget, replace};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;

use embergram::{Error, ErrorCode, Result};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/trap.js")]
extern "C" {
    #[wasm_bindgen(js_name = attempt)]
    fn attempt_in_js(f: &mut dyn FnMut()) -> JsValue;
}

thread_local!(static PANIC: Cell<Option<String>> = const { Cell::new(None) });

/// Keeps each panic's message for [`attempt`], and prints it.
pub fn hook_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.set(Some(info.to_string()));
        console_error_panic_hook::hook(info);
    }));
}

/// The standard allocator, which keeps note of what it could not give: Rust traps on that without a word.
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;
/// Bytes of the last allocation that failed, 0 for none.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn noted(bytes: usize, got: *mut u8) -> *mut u8 {
    if got.is_null() {
        REFUSED.store(bytes, Relaxed);
    }
    got
}

// SAFETY: all is handed on to the standard allocator.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        noted(layout.size(), unsafe { System.alloc(layout) })
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        noted(layout.size(), unsafe { System.alloc_zeroed(layout) })
    }
    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        noted(size, unsafe { System.realloc(old, layout, size) })
    }
    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs `f`; a trap in it becomes an error. What `f` holds then is lost, and what it worked on is in no state to be used.
///
/// # Errors
/// `internal` with the panic's own message, or a word about memory where it was that.
pub fn attempt<R>(f: impl FnOnce() -> R) -> Result<R> {
    let (mut f, mut result) = (Some(f), None);
    REFUSED.store(0, Relaxed);
    let thrown = attempt_in_js(&mut || result = f.take().map(|f| f()));
    result.ok_or_else(|| trap(&thrown))
}

/// The same for a future, in each of its turns.
async fn attempt_async<F: Future>(future: F) -> Result<F::Output> {
    let mut future = Box::pin(future);
    let ended = poll_fn(|cx| match attempt(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(trap) => Poll::Ready(Err(trap)),
    });
    let ended = ended.await;
    if ended.is_err() {
        forget(future);
    }
    ended
}

fn trap(thrown: &JsValue) -> Error {
    const MIB: usize = 1 << 20;
    let refused = REFUSED.swap(0, Relaxed);
    let message = match PANIC.take() {
        Some(panic) => format!("the engine panicked: {panic}. Load the model again, and please report this"),
        None if refused > 0 => format!(
            "the engine ran out of memory: {} MiB of WebAssembly heap are in use, and there were not {refused} bytes more. \
             Load the model again, with shorter prompts or a smaller model",
            core::arch::wasm32::memory_size(0) * (1 << 16) / MIB
        ),
        None => format!("the engine stopped ({}). Load the model again, and please report this", shown(thrown)),
    };
    Error::new(ErrorCode::Internal, message)
}

fn shown(thrown: &JsValue) -> String {
    thrown.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{thrown:?}"), |e| e.to_string().into())
}

/// What may be used until something traps in it.
pub enum Guarded<T> {
    /// Nothing has.
    Whole(T),
    /// Each further use fails with this.
    Trapped(Error),
}

impl<T> Guarded<T> {
    fn whole(&mut self) -> Result<&mut T> {
        match self {
            Self::Whole(value) => Ok(value),
            Self::Trapped(error) => Err(error.clone()),
        }
    }

    fn lose(&mut self, error: Error) -> Error {
        forget(replace(self, Self::Trapped(error.clone())));
        error
    }

    /// Runs `f` on it.
    pub fn call<R>(&mut self, f: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let value = self.whole()?;
        attempt(|| f(value)).unwrap_or_else(|trap| Err(self.lose(trap)))
    }

    /// The same for what waits.
    pub async fn call_async<R>(&mut self, f: impl AsyncFnOnce(&mut T) -> Result<R>) -> Result<R> {
        let value = self.whole()?;
        attempt_async(f(value)).await.unwrap_or_else(|trap| Err(self.lose(trap)))
    }

    /// Itself.
    pub fn into_whole(self) -> Result<T> {
        match self {
            Self::Whole(value) => Ok(value),
            Self::Trapped(error) => Err(error),
        }
    }

    /// Makes something else of it.
    pub fn map<U>(self, f: impl FnOnce(T) -> Result<U>) -> Result<Guarded<U>> {
        let value = self.into_whole()?;
        attempt(|| f(value))?.map(Guarded::Whole)
    }

    /// Makes one.
    pub async fn open(f: impl Future<Output = Result<T>>) -> Result<Self> {
        attempt_async(f).await?.map(Self::Whole)
    }
}
