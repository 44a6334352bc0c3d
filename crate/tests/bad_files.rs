//! Files that are no model, broken, or not this engine's: each is refused with its code, the device stays usable, and no
//! header, however damaged, makes the loader panic.

mod support;

use std::cell::Cell;

use embergram::config::{LlmConfig, SamplingParams};
use embergram::gpu::Gpu;
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::{Error, ErrorCode, Result};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn load(gpu: &Gpu, config: Value, file: &[u8]) -> Result<Llm> {
    let mut loader = LlmLoader::new(gpu, LlmConfig::from_json(&config)?)?;
    loader.read(file)?;
    loader.finish()
}

fn refusal(gpu: &Gpu, config: Value, file: &[u8]) -> Error {
    load(gpu, config, file).err().expect("must be refused")
}

/// Where this text ends in the file, which has it once.
fn after(file: &[u8], text: &str) -> usize {
    let places: Vec<usize> =
        file.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).map(|(i, _)| i).collect();
    assert_eq!(places.len(), 1, "{text} is in the file {} times", places.len());
    places[0] + text.len()
}

/// The file with other bytes a little after a text.
fn patched(file: &[u8], text: &str, distance: usize, bytes: &[u8]) -> Vec<u8> {
    let at = after(file, text) + distance;
    let mut file = file.to_vec();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn greedy(llm: &mut Llm) -> Vec<u32> {
    let params = SamplingParams::from_json(&json!({ "temperature": 0, "max_tokens": 8 })).unwrap();
    let outputs = pollster::block_on(llm.generate(&[Prompt::Text("the water".into())], &params)).unwrap();
    outputs[0][0].token_ids.clone()
}

#[test]
fn bad_files_are_refused_by_code_and_the_next_load_works() {
    let gpu = pollster::block_on(Gpu::open()).unwrap();
    let good = support::model(&[]);
    let before = greedy(&mut load(&gpu, json!({}), &good).unwrap());
    assert_eq!(before.len(), 8);

    // Behind a tensor's name: rank (4 bytes), dimensions (8 each), type (4), offset (8). Behind a key: type (4), value.
    let up = "blk.1.ffn_up.weight";
    let cases: Vec<(&str, Vec<u8>, ErrorCode, &str)> = vec![
        ("no bytes", vec![], ErrorCode::TruncatedFile, "header"),
        ("a web page", b"<!DOCTYPE html><title>404</title>".to_vec(), ErrorCode::InvalidFile, "not a GGUF file"),
        ("half a header", good[..3000].to_vec(), ErrorCode::TruncatedFile, "header"),
        ("half its tensors", good[..good.len() - 5000].to_vec(), ErrorCode::TruncatedFile, "download"),
        ("an unknown type", patched(&good, up, 20, &[23]), ErrorCode::UnsupportedQuantization, up),
        (
            "another architecture",
            patched(&good, "general.architecture", 12, b"lamma"),
            ErrorCode::UnsupportedModel,
            "lamma",
        ),
        ("a missing tensor", patched(&good, "blk.1.ffn_up.weigh", 0, b"T"), ErrorCode::InvalidTensor, up),
        (
            "a transposed shape",
            patched(&good, up, 4, &[128, 0, 0, 0, 0, 0, 0, 0, 64]),
            ErrorCode::InvalidTensor,
            "[128, 64]",
        ),
        ("a layer too many", patched(&good, "llama.block_count", 4, &[3]), ErrorCode::InvalidTensor, "blk.2."),
        ("no layers", patched(&good, "llama.block_count", 4, &[0]), ErrorCode::UnsupportedModel, "block_count"),
        ("2^32 layers", patched(&good, "llama.block_count", 4, &[255; 4]), ErrorCode::UnsupportedModel, "block_count"),
        (
            "no context",
            patched(&good, "llama.context_length", 4, &[0; 4]),
            ErrorCode::UnsupportedModel,
            "context_length",
        ),
        (
            "odd heads",
            patched(&good, "llama.attention.head_count_kv", 4, &[3]),
            ErrorCode::UnsupportedModel,
            "head_count",
        ),
        ("no epsilon", patched(&good, "layer_norm_rms_epsilon", 4, &[0; 4]), ErrorCode::UnsupportedModel, "epsilon"),
        ("another tokenizer", patched(&good, "tokenizer.ggml.model", 12, b"bert"), ErrorCode::UnsupportedModel, "bert"),
    ];
    for (what, file, code, says) in cases {
        let error = refusal(&gpu, json!({}), &file);
        assert!(error.code == code && error.message.contains(says), "{what}: {:?} {error}", error.code);
    }
    for (config, says) in [
        (json!({ "max_model_len": 513 }), "512"),
        (json!({ "kv_cache_memory_bytes": 100 }), "kv_cache_memory_bytes"),
        (json!({ "kv_cache_memory_bytes": 100_000, "max_model_len": 512 }), "kv_cache_memory_bytes at least"),
        (json!({ "block_size": 17 }), "block_size"),
        (json!({ "max_model_length": 64 }), "max_model_length"),
        (json!({ "speculative_config": { "method": "ngram" } }), "num_speculative_tokens"),
    ] {
        let error = refusal(&gpu, config, &good);
        assert!(error.code == ErrorCode::InvalidConfig && error.message.contains(says), "{:?} {error}", error.code);
    }
    const HUGE: u32 = u32::MAX;
    for (config, says) in [
        (json!({ "max_num_seqs": HUGE }), "max_num_seqs"),
        (json!({ "max_num_batched_tokens": HUGE }), "max_num_batched_tokens"),
        (json!({ "max_num_seqs": HUGE, "max_num_batched_tokens": HUGE, "kv_cache_memory_bytes": u64::MAX }), "rows"),
        (json!({ "max_num_seqs": 60_000, "kv_cache_memory_bytes": u64::MAX }), "KV cache"),
    ] {
        let error = refusal(&gpu, config, &good);
        assert!(error.code == ErrorCode::AdapterTooSmall && error.message.contains(says), "{:?} {error}", error.code);
    }

    assert_eq!(greedy(&mut load(&gpu, json!({}), &good).unwrap()), before);
}

/// Bytes anywhere in the header changed: an error or a model, never a panic.
#[test]
fn damaged_headers_never_panic() {
    let gpu = pollster::block_on(Gpu::open()).unwrap();
    let good = support::model(&["--seed", "1"]);
    // The tensor table and the numbers are a small part of the header: half of the damage goes there.
    let table = after(&good, "llama.vocab_size")..after(&good, "tokenizer.ggml.tokens");
    let end = after(&good, "blk.1.ffn_down.weight") + 32;
    let place = prop_oneof![table, 0..end, end - 1200..end];
    let refused = Cell::new(0);
    TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() })
        .run(&proptest::collection::vec((place, any::<u8>()), 1..4), |damage| {
            let mut file = good.clone();
            for (at, byte) in &damage {
                file[*at] = *byte;
            }
            // The cache is refused last, before pipelines are compiled: those take their time and are tested above.
            let error = refusal(&gpu, json!({ "kv_cache_memory_bytes": 1 }), &file);
            refused.set(refused.get() + u32::from(error.code != ErrorCode::InvalidConfig));
            Ok(())
        })
        .unwrap();
    assert!((50..200).contains(&refused.get()), "{} of 200 refused", refused.get());
}
