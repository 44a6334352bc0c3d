//! Lossless speculation, on the CPU and on this machine's adapter: there a part of the cases by default, and all of them under
//! `EMBERGRAM_FULL=1`.

mod common;

use common::lossless::{self, Drafts, assert_same, count, speculation};
use common::{On, finish, full, params};
use embergram::ErrorCode;
use embergram::config::LlmConfig;
use embergram::llm::{LlmLoader, Prompt};
use serde_json::{Value, json};

/// How many cases there are.
const CASES: usize = 240;

fn every_depth_gives_the_tokens_of_none(on: On, cases: usize) {
    let mut llm = on.load("EMBERGRAM_TINY_MODEL", lossless::config());
    let report = |line| println!("{line}");
    pollster::block_on(lossless::every_depth_gives_the_tokens_of_none(&mut llm, cases, report));
}

#[test]
fn every_depth_gives_the_tokens_of_none_on_the_cpu() {
    every_depth_gives_the_tokens_of_none(On::Cpu(2), CASES);
}

/// A cache of halves rounds; it rounds every row alike.
#[test]
fn a_cache_of_halves_is_lossless_too() {
    let mut config = lossless::config();
    config["kv_cache_dtype"] = json!("f16");
    let mut llm = On::Cpu(1).load("EMBERGRAM_TINY_MODEL", config.clone());
    pollster::block_on(lossless::every_depth_gives_the_tokens_of_none(&mut llm, 40, |_| {}));
    let mut llm = On::Gpu.load("EMBERGRAM_TINY_MODEL", config);
    let drafts = pollster::block_on(lossless::drafts_change_no_token(&mut llm, 6, 3..320));
    assert!(drafts.accepted > 12 && drafts.rejected() > 12, "too few to tell: {drafts:?}");
}

/// So do activations of eight bits. An adapter that computes in software does not have them.
#[test]
fn fast_is_lossless_too() {
    let mut config = lossless::config();
    config["precision"] = json!("fast");
    let mut llm = On::Cpu(2).load("EMBERGRAM_TINY_MODEL", config.clone());
    assert_eq!(llm.info().precision, "fast");
    pollster::block_on(lossless::every_depth_gives_the_tokens_of_none(&mut llm, CASES, |_| {}));
    let mut llm = On::GpuKernels.load("EMBERGRAM_TINY_MODEL", config.clone());
    assert_eq!(llm.info().precision, "fast");
    let drafts = pollster::block_on(lossless::drafts_change_no_token(&mut llm, 6, 3..320));
    assert!(drafts.accepted > 12 && drafts.rejected() > 12, "too few to tell: {drafts:?}");
    the_adapter_refuses(config, "precision");
}

fn the_adapter_refuses(config: Value, option: &str) {
    let mut loader = LlmLoader::new(&common::gpu(), LlmConfig::from_json(&config).unwrap()).unwrap();
    let file = std::fs::File::open(std::env::var("EMBERGRAM_TINY_MODEL").unwrap()).unwrap();
    let error = loader.read(file).expect_err("refused at the header");
    assert_eq!(error.code, ErrorCode::InvalidConfig);
    assert!(error.message.contains(option), "{error}");
}

#[test]
fn every_depth_gives_the_tokens_of_none_on_the_adapter() {
    every_depth_gives_the_tokens_of_none(On::Gpu, if full() { CASES } else { 40 });
}

/// There the device samples, too.
#[test]
fn every_depth_gives_the_tokens_of_none_with_a_gpu_s_kernels() {
    every_depth_gives_the_tokens_of_none(On::GpuKernels, if full() { CASES } else { 24 });
}

#[test]
fn the_real_model_s_tokens_are_those_of_no_speculation() {
    let on: &[On] = if full() { &[On::Cpu(2), On::Gpu] } else { &[On::Cpu(2)] };
    on.iter().for_each(|on| real_model(*on));
}

/// Six requests, greedy and sampled.
fn real_model(on: On) {
    let mut llm = on.load("EMBERGRAM_MODEL", json!({ "max_model_len": 512, "max_num_seqs": 6 }));
    let requests = [
        ("def add(a, b):\n    return a + b\n\ndef add(a, b):\n", json!({ "temperature": 0 })),
        ("One, two, three. One, two, three. One,", json!({ "temperature": 0.7, "seed": 3, "top_p": 0.9 })),
        ("Once upon a time", json!({ "temperature": 1.0, "seed": 4 })),
        ("{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\":", json!({ "temperature": 0, "repetition_penalty": 1.1 })),
        (
            "The cat sat on the mat. The cat sat on",
            json!({ "temperature": 0.5, "seed": 5, "top_k": 20, "logprobs": 2 }),
        ),
        ("A list of colours: red, green,", json!({ "temperature": 0.8, "seed": 6, "min_p": 0.05 })),
    ];
    let mut drafts = Drafts::default();
    let mut run = |k: Value| {
        llm.set_speculation(speculation(k));
        let add = |(text, p): &(&str, Value)| {
            let mut p = p.clone();
            p["max_tokens"] = json!(48);
            llm.add(&Prompt::Text(text.to_string()), &params(p)).unwrap()
        };
        let ids: Vec<_> = requests.iter().flat_map(add).collect();
        vec![finish(&mut llm, &ids)]
    };
    let expected = run(json!(0));
    for k in [json!(5), json!("auto")] {
        let got = run(k.clone());
        assert_same(&expected, &got, &format!("K = {k}"));
        count(&got, &mut drafts);
    }
    assert!(drafts.accepted > 0 && drafts.rejected() > 0, "{drafts:?}");
}
