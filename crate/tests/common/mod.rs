//! What tests with a real model on a real adapter share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::Read;
use std::sync::OnceLock;

use embergram::config::{LlmConfig, SamplingParams};
use embergram::engine::SequenceOutput;
use embergram::gpu::Gpu;
use embergram::llm::{Llm, LlmLoader, Prompt};
use serde_json::Value;

/// The device that all tests of a binary share.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| pollster::block_on(Gpu::open()).unwrap()).clone()
}

/// The model that the environment variable names.
pub fn load(variable: &str, config: Value) -> Llm {
    let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names a GGUF; `npm test` sets it"));
    let mut loader = LlmLoader::new(gpu(), LlmConfig::from_json(&config).unwrap()).unwrap();
    let mut file = std::fs::File::open(path).unwrap();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).unwrap() {
            0 => return loader.finish().unwrap(),
            n => loader.push(&chunk[..n]).unwrap(),
        }
    }
}

/// Whether to run everything, however long it takes.
pub fn full() -> bool {
    std::env::var("EMBERGRAM_FULL").is_ok_and(|v| v == "1")
}

/// The tiny model of `scripts/make_model.py`.
pub fn tiny(config: Value) -> Llm {
    load("EMBERGRAM_TINY_MODEL", config)
}

pub fn params(value: Value) -> SamplingParams {
    SamplingParams::from_json(&value).unwrap()
}

pub fn tokens(ids: &[u32]) -> Prompt {
    Prompt::Tokens(ids.to_vec())
}

/// Steps until nothing is in flight; returns the whole outputs of these sequences, in order.
pub fn finish(llm: &mut Llm, ids: &[u64]) -> Vec<SequenceOutput> {
    let mut outputs: Vec<_> = ids.iter().map(|id| SequenceOutput { id: *id, ..Default::default() }).collect();
    while llm.is_busy() {
        for delta in pollster::block_on(llm.step()).unwrap() {
            outputs.iter_mut().find(|o| o.id == delta.id).expect("an output of a sequence in flight").extend(delta);
        }
    }
    outputs
}

/// The metric of this name and, if given, label value, as JSON.
pub fn metric(llm: &Llm, name: &str, label: Option<&str>) -> Value {
    let all = serde_json::to_value(llm.metrics()).unwrap();
    let fits = |m: &&Value| {
        m["name"] == name && label.is_none_or(|l| m["labels"].as_object().unwrap().values().any(|v| v == l))
    };
    all.as_array().unwrap().iter().find(fits).unwrap_or_else(|| panic!("no metric {name}")).clone()
}

pub fn counter(llm: &Llm, name: &str, label: Option<&str>) -> u64 {
    metric(llm, name, label)["value"].as_u64().unwrap()
}

/// Numbers that are the same in each run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
