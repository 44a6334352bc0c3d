//! `embergram-bindgen MODULE FOLDER [--strip]` makes the engine's glue as `wasm-bindgen --target web --out-name engine` does. With `--strip`
//! the module loses the names of functions and of tools.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, folder, rest @ ..] = arguments.as_slice() else { anyhow::bail!("give a module and a folder") };
    let strip = rest.iter().any(|argument| argument == "--strip");
    Bindgen::new()
        .input_path(module)
        .web(true)?
        .out_name("engine")
        .typescript(true)
        .omit_default_module_path(false)
        .remove_name_section(strip)
        .remove_producers_section(strip)
        .generate(folder)
        .with_context(|| format!("no glue for {module}"))
}
