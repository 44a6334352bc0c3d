//! A model that loses its device goes on with another's: its sequences have the tokens that they would have had.

mod common;

use common::grammars::add_grammars;
use common::lossless::{assert_same, speculation};
use common::{On, Random, counter, params, tokens};
use embergram::config::LlmConfig;
use embergram::engine::SequenceOutput;
use embergram::gpu::Gpu;
use embergram::llm::{Llm, LlmLoader};
use embergram::{ErrorCode, Prompt};
use serde_json::{Value, json};

fn config(max_model_len: usize) -> Value {
    json!({ "max_model_len": max_model_len, "max_num_seqs": 4, "max_num_batched_tokens": 24, "block_size": 8, "seed": 1 })
}

/// More requests than run at a time, of all kinds; prompts longer than a step has rows.
fn requests() -> Vec<(Prompt, Value)> {
    let prompt = |i: u64, len| {
        let mut random = Random(i);
        tokens(&(0..len).map(|_| 259 + random.below(20) as u32).collect::<Vec<_>>())
    };
    vec![
        (prompt(1, 9), json!({ "temperature": 0, "max_tokens": 50, "ignore_eos": true })),
        (prompt(2, 45), json!({ "temperature": 0, "max_tokens": 30, "prompt_logprobs": 1, "logprobs": 2 })),
        (prompt(3, 30), json!({ "temperature": 0.7, "seed": 5, "n": 2, "max_tokens": 40, "presence_penalty": 0.5 })),
        (
            prompt(4, 12),
            json!({ "max_tokens": 60, "structured_outputs": { "regex": "(one|two|three){3,8}" }, "seed": 2 }),
        ),
        (prompt(1, 9), json!({ "temperature": 0.3, "max_tokens": 50, "seed": 9, "stop": ["zz"] })),
    ]
}

fn add(llm: &mut Llm) -> Vec<u64> {
    llm.set_speculation(speculation(json!(3)));
    requests().into_iter().flat_map(|(prompt, own)| llm.add(&prompt, &params(own)).unwrap()).collect()
}

/// Steps until nothing is in flight; `between` has its way before each.
fn run(llm: &mut Llm, mut between: impl FnMut(&mut Llm, usize)) -> Vec<SequenceOutput> {
    let ids = add(llm);
    let mut outputs: Vec<_> = ids.iter().map(|id| SequenceOutput { id: *id, ..Default::default() }).collect();
    for step in 0.. {
        between(llm, step);
        match pollster::block_on(llm.step()) {
            Ok(deltas) => deltas.into_iter().for_each(|delta| {
                outputs.iter_mut().find(|output| output.id == delta.id).unwrap().extend(delta);
            }),
            Err(error) => assert_eq!(error.code, ErrorCode::DeviceLost, "{error}"),
        }
        if !llm.is_busy() {
            break;
        }
    }
    outputs
}

fn on_cpu() -> Llm {
    let mut llm = On::Cpu(1).load("EMBERGRAM_TINY_MODEL", config(128));
    add_grammars(&mut llm);
    llm
}

fn preemptions(outputs: &[SequenceOutput]) -> usize {
    outputs.iter().map(|output| output.metrics.as_ref().unwrap().num_preemptions).sum()
}

#[test]
fn sequences_go_on_from_their_tokens_whenever_the_device_goes() {
    let expected = run(&mut on_cpu(), |_, _| {});
    for steps in [&[1][..], &[2, 5, 8, 11], &[6, 13, 20, 21]] {
        let mut llm = on_cpu();
        let got = run(&mut llm, |llm, step| {
            if steps.contains(&step) {
                llm.take_over(on_cpu()).unwrap();
            }
        });
        assert_same(&[expected.clone()], &[got.clone()], &format!("another device at steps {steps:?}"));
        let taken = steps.len();
        assert!(preemptions(&got) >= taken);
        assert_eq!(counter(&llm, "embergram:recoveries", None), taken as u64);
        assert_eq!(counter(&llm, "vllm:num_preemptions", None), preemptions(&got) as u64);
        let prompts: usize = got.iter().map(|output| output.metrics.as_ref().unwrap().num_prompt_tokens).sum();
        assert_eq!(counter(&llm, "vllm:prompt_tokens", None), prompts as u64, "each prompt is counted once");
    }
}

#[test]
fn a_long_output_is_computed_again_in_several_steps() {
    let one = |between: &mut dyn FnMut(&mut Llm, usize)| {
        let mut llm = On::Gpu.load("EMBERGRAM_TINY_MODEL", config(128));
        let own = json!({ "temperature": 0, "max_tokens": 70, "ignore_eos": true });
        let ids = llm.add(&tokens(&[300, 301, 302]), &params(own)).unwrap();
        let mut all = Vec::new();
        for step in 0.. {
            between(&mut llm, step);
            all.extend(pollster::block_on(llm.step()).unwrap().into_iter().flat_map(|output| output.token_ids));
            if !llm.is_busy() {
                break;
            }
        }
        assert_eq!(ids.len(), 1);
        all
    };
    let expected = one(&mut |_, _| {});
    // Rows of decoding are few per step there.
    let got = one(&mut |llm, step| {
        if step == 60 {
            llm.take_over(On::Gpu.load("EMBERGRAM_TINY_MODEL", config(128))).unwrap();
        }
    });
    assert_eq!(expected, got);
}

/// A device of its own.
fn on_device(gpu: &Gpu) -> Llm {
    let mut loader = LlmLoader::new(gpu, LlmConfig::from_json(&config(128)).unwrap()).unwrap();
    loader.read(std::fs::File::open(std::env::var("EMBERGRAM_TINY_MODEL").unwrap()).unwrap()).unwrap();
    let mut llm = loader.finish().unwrap();
    add_grammars(&mut llm);
    llm
}

#[test]
fn a_step_that_fails_with_its_device_loses_no_sequence() {
    let open = || pollster::block_on(Gpu::open()).unwrap();
    let expected = run(&mut on_device(&open()), |_, _| {});
    let gpu = open();
    let mut llm = on_device(&gpu);
    llm.set_recover(true);
    let got = run(&mut llm, |llm, step| match step {
        9 => gpu.device.destroy(),
        10 => {
            assert!(llm.is_busy());
            llm.take_over(on_device(&open())).unwrap();
        }
        _ => {}
    });
    assert_same(&[expected], &[got], "a device that goes");
    assert_eq!(counter(&llm, "embergram:recoveries", None), 1);
}

#[test]
fn without_another_device_sequences_can_be_aborted_or_fail() {
    let mut llm = on_cpu();
    llm.set_recover(true);
    let ids = add(&mut llm);
    pollster::block_on(llm.step()).unwrap();
    let other = On::Cpu(1).load("EMBERGRAM_TINY_MODEL", config(64));
    assert!(llm.abort(ids[0]).is_some());
    let error = llm.take_over(other).unwrap_err();
    assert_eq!(error.code, ErrorCode::DeviceLost);
    assert!(!llm.is_busy());
    assert_eq!(counter(&llm, "vllm:request_success", Some("error")), ids.len() as u64 - 1);
    assert_eq!(common::metric(&llm, "vllm:kv_cache_usage_perc", None)["value"], 0.0);
}
