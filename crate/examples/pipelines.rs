//! Writes every pipeline of plans into a folder, as WGSL and as SPIR-V, and prints a JSON list of them; needs no model file
//! and runs nothing, so the adapter needs no memory for a model: each plan has one layer, or as many as its layers differ.
//! `cargo run --example pipelines --features reference -- FOLDER SHAPE:TYPE...`: of support/shapes.rs. EMBERGRAM_TUNING is
//! `cpu` or `gpu` to force a tuning, EMBERGRAM_PRECISION `fast` for activations of eight bits. `npm run isa` compiles them for hardware that is not there.

#[path = "support/shapes.rs"]
mod shapes;

use std::fs;
use std::path::Path;

use burn_wgpu::wgpu::naga::back::spv;
use burn_wgpu::wgpu::naga::front::wgsl;
use burn_wgpu::wgpu::naga::valid::{Capabilities, ValidationFlags, Validator};
use burn_wgpu::wgpu::naga::{ShaderStage, back::spv::PipelineOptions};
use embergram::program::Capacity;
use serde_json::{Value, json};

fn spirv(source: &str) -> Vec<u8> {
    let module = wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
    let main = PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    let options = spv::Options { lang_version: (1, 6), flags: spv::WriterFlags::empty(), ..Default::default() };
    let words = spv::write_vec(&module, &info, &options, Some(&main)).unwrap();
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("usage: pipelines FOLDER SHAPE:TYPE...");
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).unwrap();
    let mut list: Vec<Value> = Vec::new();
    pollster::block_on(async {
        let gpu = shapes::open().await.unwrap();
        for pair in arguments {
            let (name, ty) = pair.split_once(':').expect("a shape and a type, such as llama-3.2-1b:Q4_0");
            let shape = shapes::shape(name);
            // Every sixth layer of Gemma sees all positions.
            let layers = if shape.window.is_some() { 6 } else { 1 };
            let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions: 16, blocks: 1, block_size: 16 };
            let plan = shapes::plan(&gpu, shape, shapes::weight_type(ty), layers, capacity, false).unwrap();
            for (i, kernel) in plan.kernels().iter().enumerate() {
                let sources = plan.sources(i).unwrap();
                for source in &sources {
                    // A vocabulary in parts has a kernel for each.
                    let file = format!("{name}-{ty}-{i}-{}-{}", kernel.name, source.tile);
                    fs::write(folder.join(format!("{file}.wgsl")), &source.wgsl).unwrap();
                    fs::write(folder.join(format!("{file}.spv")), spirv(&source.wgsl)).unwrap();
                    list.push(json!({
                        "file": file, "shape": name, "type": ty, "layers": shape.layers, "made": layers,
                        "kernel": kernel.name, "dispatches": kernel.dispatches, "weights": kernel.weights,
                        "bytes": kernel.bytes, "tiled": sources.len() > 1, "tile": source.tile, "kinds": source.kinds,
                    }));
                }
            }
        }
    });
    println!("{}", Value::from(list));
}
