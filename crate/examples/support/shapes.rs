//! Models of known shapes without a file: what their headers would say, and noise in place of weights.
#![allow(dead_code, reason = "each example uses its part")]

#[path = "../../tests/support/gguf.rs"]
mod gguf;

use embergram::Result;
use embergram::format::quant::QuantType;
use embergram::format::{Metadata, Parser};
use embergram::gpu::{Gpu, Plan, Tuning};
use embergram::llm::weights::WeightLoader;
use embergram::model::{Decoder, ModelConfig, arch, rope};
use embergram::program::{BlockEntry, Capacity, Numerics, Precision, Runner};
use gguf::{Entry, Model, Tensor};

/// What a header says of a model, by its keys.
pub struct Shape {
    pub name: &'static str,
    pub architecture: &'static str,
    pub layers: u32,
    pub d: u32,
    pub ff: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub vocab: u32,
    pub rope_base: f32,
    pub window: Option<u32>,
    /// Whether the embedding is the output matrix too.
    pub tied: bool,
}

/// From the models' own `config.json`. The rotary factors of Llama 3 are left out, which change no kernel.
#[rustfmt::skip]
pub const SHAPES: [Shape; 5] = [
    Shape { name: "smollm2-135m", architecture: "llama", layers: 30, d: 576, ff: 1536, heads: 9, kv_heads: 3, head_dim: 64,
            vocab: 49_152, rope_base: 1e5, window: None, tied: true },
    Shape { name: "llama-3.2-1b", architecture: "llama", layers: 16, d: 2048, ff: 8192, heads: 32, kv_heads: 8, head_dim: 64,
            vocab: 128_256, rope_base: 5e5, window: None, tied: true },
    Shape { name: "qwen3-4b", architecture: "qwen3", layers: 36, d: 2560, ff: 9728, heads: 32, kv_heads: 8, head_dim: 128,
            vocab: 151_936, rope_base: 1e6, window: None, tied: true },
    Shape { name: "llama-3.1-8b", architecture: "llama", layers: 32, d: 4096, ff: 14_336, heads: 32, kv_heads: 8, head_dim: 128,
            vocab: 128_256, rope_base: 5e5, window: None, tied: false },
    Shape { name: "gemma-3-1b", architecture: "gemma3", layers: 26, d: 1152, ff: 6912, heads: 4, kv_heads: 1, head_dim: 256,
            vocab: 262_144, rope_base: 1e6, window: Some(512), tied: true },
];

/// The types that a shape can have, and their numbers in a file. K-quants have blocks of 256 weights: where a row has no whole
/// number of them, a matrix takes the type that llama.cpp takes in its place.
const TYPES: [(&str, u32); 5] = [("Q4_0", 2), ("Q4_1", 3), ("Q8_0", 8), ("Q4_K", 12), ("Q6_K", 14)];
const Q5_0: u32 = 6;

/// The shape of this name.
pub fn shape(name: &str) -> &'static Shape {
    let names: Vec<_> = SHAPES.iter().map(|shape| shape.name).collect();
    let found = SHAPES.iter().find(|shape| shape.name == name);
    found.unwrap_or_else(|| panic!("there is no shape '{name}': {}", names.join(", ")))
}

/// The number of the type of this name.
pub fn weight_type(name: &str) -> u32 {
    let names: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
    let found = TYPES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no type '{name}': {}", names.join(", "))).1
}

/// The adapter, with the tuning that EMBERGRAM_TUNING names, `cpu` or `gpu`, else its own.
pub async fn open() -> Result<Gpu> {
    let mut gpu = Gpu::open().await?;
    match std::env::var("EMBERGRAM_TUNING").as_deref() {
        Ok("cpu") => gpu.tuning = Tuning::Cpu,
        Ok("gpu") => gpu.tuning = Tuning::Gpu,
        _ => {}
    }
    Ok(gpu)
}

impl Shape {
    /// A file's key-values, for so many layers.
    fn entries(&self, layers: u32) -> Model {
        let key = |name: &str| format!("{}.{name}", self.architecture);
        let numbers = [
            ("context_length", 8192),
            ("block_count", layers),
            ("embedding_length", self.d),
            ("feed_forward_length", self.ff),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
            ("vocab_size", self.vocab),
        ];
        let window = self.window.map(|window| ("attention.sliding_window", window));
        let model = Model::default().set("general.architecture", Entry::Text(self.architecture.into()));
        let model = numbers.into_iter().chain(window).fold(model, |m, (name, n)| m.set(&key(name), Entry::U32(n)));
        let floats = [("rope.freq_base", self.rope_base), ("attention.layer_norm_rms_epsilon", 1e-5)];
        floats.into_iter().fold(model, |m, (name, n)| m.set(&key(name), Entry::F32(n)))
    }

    /// The whole header of a file with so many layers and weights of this type.
    fn header(&self, layers: u32, ty: u32) -> Result<Vec<u8>> {
        let mut model = self.entries(layers);
        let config = config(&model)?;
        Decoder::new(&config, self.tied, |spec| {
            for piece in &spec.pieces {
                let shape = piece.shape.map(|n| n as u64);
                let kind = if piece.is_vector() { gguf::F32 } else { kind(ty, shape[0]) };
                model.tensors.push(Tensor::new(&piece.tensor, &shape[..if piece.is_vector() { 1 } else { 2 }], kind));
            }
            Ok(())
        })?;
        Ok(model.header())
    }
}

/// The type of a matrix with rows of this length.
fn kind(ty: u32, width: u64) -> u32 {
    let whole = |ty| width.is_multiple_of(QuantType::from_gguf(ty).expect("one of TYPES").block_len() as u64);
    match ty {
        12 if !whole(ty) => Q5_0,
        14 if !whole(ty) => weight_type("Q8_0"),
        _ => ty,
    }
}

fn config(model: &Model) -> Result<ModelConfig> {
    let mut parser = Parser::new();
    parser.push(&model.header())?;
    let metadata: Metadata = parser.into_header()?.metadata;
    arch::read(&metadata, &|_| false)
}

/// A plan of this shape with so many layers, of the precision that EMBERGRAM_PRECISION names. With `fill` its parameters are noise; without, nothing is written and it must not
/// run.
pub fn plan(gpu: &Gpu, shape: &Shape, ty: u32, layers: u32, capacity: Capacity, fill: bool) -> Result<Plan> {
    let mut loader = WeightLoader::new(gpu, None);
    let header = shape.header(layers, ty)?;
    loader.reader().header(&header)?;
    let config = loader.reader().described().expect("a whole header").config.clone();
    let parameters = loader.allocate()?;
    let program = parameters.program(&config);
    let fast = std::env::var("EMBERGRAM_PRECISION").is_ok_and(|precision| precision == "fast");
    let precision = if fast { Precision::Fast } else { Precision::Full };
    let mut plan = Plan::new(gpu, &program, capacity, Numerics { precision, ..Numerics::default() })?;
    if fill {
        let noise = noise();
        for part in program.parameters().into_iter().flat_map(|parameter| &parameter.parts) {
            for at in (0..part.words.bytes()).step_by(noise.len()) {
                let len = (part.words.bytes() - at).min(noise.len() as u64);
                part.words.write(gpu, at, &noise[..len as usize]);
                gpu.queue.submit([]);
            }
            // What is added or multiplied with has the size that it has in a model.
            if let Some(vector) = &part.vector {
                let ones = vec![1f32; vector.rows];
                part.words.write(gpu, u64::from(vector.planes[0]) * 4, bytemuck::cast_slice(&ones));
            }
        }
        let table = |rope| rope::table(rope, config.head_dim, capacity.positions, None);
        plan.set_ropes(&config.ropes.iter().map(table).collect::<Vec<_>>());
        for i in 0..capacity.blocks as u32 {
            plan.set_block(BlockEntry { slot: 0, index: i, block: i });
        }
    }
    gpu.check()?;
    Ok(plan)
}

/// Bytes that are small numbers however a plane reads them: each half word is an f16 between 0.002 and 0.008, with a sign.
fn noise() -> Vec<u8> {
    let mut state = 1u32;
    // No power of two, so that few rows of a matrix are equal.
    let halves = (0..(8 << 20) / 2 - 24).flat_map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (0x1800 | ((state >> 16) as u16 & 0x87ff)).to_le_bytes()
    });
    halves.collect()
}
