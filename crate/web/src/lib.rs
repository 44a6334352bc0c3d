//! The wasm-bindgen surface of the engine: JS values in and out, nothing else.
