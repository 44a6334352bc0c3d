//! Small random models for tests, made by `scripts/make_model.py`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The GGUF that `make_model.py` writes with these arguments. `EMBERGRAM_PYTHON` names a python with `gguf` and `numpy`;
/// without it `python3` must have them (`npm test` sees to it).
pub fn model(args: &[&str]) -> Vec<u8> {
    let python = std::env::var("EMBERGRAM_PYTHON").unwrap_or_else(|_| "python3".into());
    // Tests of a binary run side by side.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}{}.gguf", env!("CARGO_CRATE_NAME"), MADE.fetch_add(1, Ordering::Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/make_model.py");
    let output = Command::new(&python).arg(script).arg(&path).args(args).output().expect("python runs");
    assert!(
        output.status.success(),
        "{python} {script} failed; `npm test` sets up a python with gguf and numpy:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}
