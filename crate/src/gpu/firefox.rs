//! Firefox looks for the end of submitted work every 100 ms, and whenever something is submitted
//! (https://bugzilla.mozilla.org/show_bug.cgi?id=1870699).

use burn_wgpu::wgpu;
use futures::future::{Either, select};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen(module = "/src/gpu/firefox.js")]
extern "C" {
    #[wasm_bindgen(js_name = soonInFirefox)]
    fn soon() -> Option<js_sys::Promise>;
}

/// Waits for what the queue's work settles, and keeps Firefox looking for its end meanwhile.
pub(super) async fn nudged<F: Future + Unpin>(queue: &wgpu::Queue, mut done: F) -> F::Output {
    while let Some(soon) = soon() {
        match select(done, JsFuture::from(soon)).await {
            Either::Left((value, _)) => return value,
            Either::Right((_, still)) => {
                queue.submit([]);
                done = still;
            }
        }
    }
    done.await
}
