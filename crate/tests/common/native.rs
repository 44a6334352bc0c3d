//! Models from files, on the machine's adapter or its CPU, and waiting for them.

use std::io::Read;
use std::sync::OnceLock;

use embergram::config::LlmConfig;
use embergram::cpu::NativeKernels;
use embergram::engine::SequenceOutput;
use embergram::gpu::{Gpu, Tuning};
use embergram::llm::{Cpu, Llm, LlmLoader};
use serde_json::Value;

/// The device that all tests of a binary share.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(Gpu::open()).unwrap()).clone()
}

/// Where a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Gpu,
    /// The adapter, with the kernels that GPUs get.
    GpuKernels,
    /// The CPU, with so many threads.
    Cpu(u32),
}

impl On {
    /// The model that the environment variable names.
    pub fn load(self, variable: &str, config: Value) -> Llm {
        let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names a GGUF; `npm test` sets it"));
        self.read(std::fs::File::open(path).unwrap(), config)
    }

    /// The model of this file.
    pub fn read(self, file: impl Read, config: Value) -> Llm {
        let config = LlmConfig::from_json(&config).unwrap();
        let mut loader = match self {
            Self::Gpu => LlmLoader::new(&gpu(), config),
            Self::GpuKernels => {
                let mut gpu = gpu();
                gpu.tuning = Tuning::Gpu;
                LlmLoader::new(&gpu, config)
            }
            Self::Cpu(threads) => LlmLoader::new(&Cpu::new(NativeKernels::new(threads)), config),
        }
        .unwrap();
        loader.read(file).unwrap();
        loader.finish().unwrap()
    }
}

/// The model that the environment variable names, on the adapter.
pub fn load(variable: &str, config: Value) -> Llm {
    On::Gpu.load(variable, config)
}

/// The model of this file, on the adapter.
pub fn read(file: impl Read, config: Value) -> Llm {
    On::Gpu.read(file, config)
}

/// Whether to run everything, however long it takes.
pub fn full() -> bool {
    std::env::var("EMBERGRAM_FULL").is_ok_and(|v| v == "1")
}

/// The tiny model of `scripts/make_model.py`.
pub fn tiny(config: Value) -> Llm {
    load("EMBERGRAM_TINY_MODEL", config)
}

/// [`requests::finish`](super::requests::finish), waited for.
pub fn finish(llm: &mut Llm, ids: &[u64]) -> Vec<SequenceOutput> {
    pollster::block_on(super::requests::finish(llm, ids))
}
