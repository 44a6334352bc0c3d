//! Embeddings against the reference's hidden states, and in company.

mod common;
#[allow(dead_code, reason = "it has no logits to compare")]
#[path = "transformers/models.rs"]
mod models;

use burn::tensor::{Device, DeviceKind};
use common::{On, counter, finish, metric, params, tokens};
use embergram::ErrorCode;
use embergram::config::PoolingParams;
use embergram::llm::Llm;
use embergram::metrics::FinishReason;
use embergram::model::reference::Reference;
use models::{ALL, Tiny, difference};
use serde_json::{Value, json};

fn pooling(value: Value) -> PoolingParams {
    PoolingParams::from_json(&value).unwrap()
}

fn load(tiny: &Tiny, on: On, rows: usize) -> Llm {
    on.read(
        tiny.file,
        json!({ "max_model_len": 64, "max_num_seqs": 4, "max_num_batched_tokens": rows, "block_size": 8, "generation_config": "vllm" }),
    )
}

/// The embeddings of these prompts, computed in shared steps.
fn embed(llm: &mut Llm, prompts: &[&[u32]], how: &Value) -> Vec<Vec<f32>> {
    let add = |prompt: &&[u32]| llm.add_pooling(&tokens(prompt), pooling(how.clone())).unwrap();
    let ids: Vec<u64> = prompts.iter().map(add).collect();
    let outputs = finish(llm, &ids);
    let embedding = |output: &embergram::engine::SequenceOutput| {
        assert_eq!((output.finish_reason, output.token_ids.len()), (Some(FinishReason::Stop), 0));
        output.embedding.clone().unwrap()
    };
    outputs.iter().map(embedding).collect()
}

/// The same of the reference, in f64.
fn expected(hidden: &[f32], d: usize, how: &Value) -> Vec<f32> {
    let states: Vec<&[f32]> = hidden.chunks_exact(d).collect();
    let states = if how["pooling"] == "mean" { &states[..] } else { &states[states.len() - 1..] };
    let kept = how["dimensions"].as_u64().map_or(d, |n| n as usize);
    let mut pooled: Vec<f64> =
        (0..kept).map(|i| states.iter().map(|s| f64::from(s[i])).sum::<f64>() / states.len() as f64).collect();
    if how["normalize"] != false {
        let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
        pooled.iter_mut().for_each(|x| *x /= length);
    }
    pooled.iter().map(|x| *x as f32).collect()
}

fn are_the_references(tiny: &Tiny, on: On) {
    let ids = tiny.golden().token_ids;
    let reference = Reference::read(tiny.file, ids.len(), &Device::wgpu(DeviceKind::DefaultDevice)).unwrap();
    let hidden: Vec<f32> = reference.hidden(&ids).into_data().try_to_vec().unwrap();
    let d = hidden.len() / ids.len();
    // A step takes less than the prompt.
    let mut llm = load(tiny, on, 7);
    for how in [
        json!({}),
        json!({ "pooling": "mean" }),
        json!({ "pooling": "mean", "normalize": false }),
        json!({ "dimensions": 5 }),
    ] {
        let ours = embed(&mut llm, &[&ids], &how).remove(0);
        let difference = difference(&ours, &expected(&hidden, d, &how));
        assert!(difference < 1e-4, "{} {how} {on:?}: {difference:e}", tiny.name);
    }
}

#[test]
fn they_are_the_references_of_every_architecture() {
    for tiny in &ALL {
        are_the_references(tiny, On::Cpu(2));
    }
    for tiny in ALL.iter().filter(|tiny| ["llama3", "gemma3"].contains(&tiny.name)) {
        are_the_references(tiny, On::Gpu);
    }
}

#[test]
fn company_changes_no_bit() {
    let ids = ALL[0].golden().token_ids;
    let prompts: Vec<&[u32]> = vec![&ids, &ids[..9], &ids[3..20], &ids[..1], &ids[..17]];
    for on in [On::Cpu(1), On::Gpu] {
        for how in [json!({}), json!({ "pooling": "mean" })] {
            let alone: Vec<Vec<f32>> =
                prompts.iter().map(|prompt| embed(&mut load(&ALL[0], on, 64), &[prompt], &how).remove(0)).collect();
            let mut llm = load(&ALL[0], on, 13);
            let own = json!({ "temperature": 0, "max_tokens": 20, "ignore_eos": true });
            llm.add(&tokens(&ids[..5]), &params(own)).unwrap();
            let ids: Vec<u64> =
                prompts.iter().map(|p| llm.add_pooling(&tokens(p), pooling(how.clone())).unwrap()).collect();
            let mut got = vec![None; ids.len()];
            while llm.is_busy() {
                for output in pollster::block_on(llm.step()).unwrap() {
                    if let Some(i) = ids.iter().position(|id| *id == output.id) {
                        got[i] = output.embedding;
                    }
                }
            }
            assert_eq!(got.into_iter().map(Option::unwrap).collect::<Vec<_>>(), alone, "{on:?} {how}");
        }
    }
}

#[test]
fn they_are_counted_and_use_what_was_computed() {
    let ids = ALL[0].golden().token_ids;
    let mut llm = load(&ALL[0], On::Cpu(1), 64);
    let first = embed(&mut llm, &[&ids], &json!({}));
    assert_eq!(embed(&mut llm, &[&ids], &json!({})), first);
    let hits = counter(&llm, "vllm:prefix_cache_hits", None);
    assert!(hits >= 8, "the last token's hidden state needs no other row: {hits}");
    // All rows' hidden states are needed.
    embed(&mut llm, &[&ids], &json!({ "pooling": "mean" }));
    assert_eq!(counter(&llm, "vllm:prefix_cache_hits", None), hits);
    assert_eq!(counter(&llm, "vllm:prompt_tokens", None), 3 * ids.len() as u64);
    assert_eq!(counter(&llm, "vllm:generation_tokens", None), 0);
    assert_eq!(counter(&llm, "vllm:request_success", Some("stop")), 3);
    assert_eq!(metric(&llm, "vllm:request_params_max_tokens", None)["count"], 0);
    assert_eq!(metric(&llm, "vllm:kv_cache_usage_perc", None)["value"], 0.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut llm = load(&ALL[0], On::Cpu(1), 64);
    let whole = vec![5; 64];
    assert_eq!(embed(&mut llm, &[&whole], &json!({})).len(), 1, "nothing is generated after it");
    for (prompt, how, code, names) in [
        (vec![5; 65], json!({}), ErrorCode::PromptTooLong, "65 tokens, but max_model_len is 64; shorten"),
        (vec![], json!({}), ErrorCode::InvalidPrompt, "no tokens"),
        (vec![5], json!({ "dimensions": 4096 }), ErrorCode::InvalidParams, "dimensions is 4096"),
    ] {
        let error = llm.add_pooling(&tokens(&prompt), pooling(how)).unwrap_err();
        assert_eq!(error.code, code);
        assert!(error.message.contains(names), "{error}");
    }
    let id = llm.add_pooling(&tokens(&[5, 6]), pooling(json!({}))).unwrap();
    assert_eq!(llm.abort(id).unwrap().finish_reason, Some(FinishReason::Abort));
}
