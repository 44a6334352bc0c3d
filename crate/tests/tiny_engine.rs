//! The engine around its step, on a tiny model and a real adapter: batches, prefix reuse, aborts, seeds, and what is
//! counted of them.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Random, counter, finish, metric, params, tiny, tokens};
use embergram::ErrorCode;
use embergram::engine::SequenceOutput;
use embergram::llm::{Llm, Prompt};
use embergram::metrics::FinishReason;
use embergram::speculate::SpeculativeConfig;
use embergram::text::Message;
use serde_json::{Value, json};

fn config() -> Value {
    json!({
        "max_model_len": 256, "max_num_seqs": 4, "max_num_batched_tokens": 32, "seed": 9,
        "speculative_config": {
            "method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3,
        },
    })
}

fn words(seed: u64, len: usize) -> Prompt {
    let mut random = Random(seed);
    Prompt::Tokens((0..len).map(|_| 259 + random.below(90) as u32).collect())
}

fn add(llm: &mut Llm, prompt: &Prompt, p: Value) -> Vec<u64> {
    llm.add(prompt, &params(p)).unwrap()
}

fn step(llm: &mut Llm) -> Vec<SequenceOutput> {
    pollster::block_on(llm.step()).unwrap()
}

/// Requests by how they ended: stop, length, abort, error.
fn finished(llm: &Llm) -> [u64; 4] {
    ["stop", "length", "abort", "error"].map(|reason| counter(llm, "vllm:request_success", Some(reason)))
}

fn gauge(llm: &Llm, name: &str) -> f64 {
    metric(llm, name, None)["value"].as_f64().unwrap()
}

fn histogram(llm: &Llm, name: &str) -> (u64, f64) {
    let metric = metric(llm, name, None);
    (metric["count"].as_u64().unwrap(), metric["sum"].as_f64().unwrap())
}

#[test]
fn requests_run_together_as_alone_and_each_is_counted_once() {
    let mut llm = tiny(config());
    memory(&llm, 1);
    batches(&mut llm);
    // Sampled rows were read back.
    memory(&llm, 2);
    aborts(&mut llm);
    several_sequences_of_one_request(&mut llm);
    others_run_along(&mut llm);
    seeds(&mut llm);
    a_long_prompt_holds_nobody_up(&mut llm);
    auto_goes_by_costs(&mut llm);
    random_traffic(&mut llm);
    reset(&mut llm);
    exposition(&mut llm);
    prefixes(&mut llm);
    one_prompt_is_prefilled_once(&mut llm);
    prompts_are_scored(&mut llm);
    some_tokens_alone_and_some_words_not(&mut llm);
}

/// The row check writes into the cache; what prompts left there serves again all the same.
#[test]
fn the_row_check_is_repeated_between_requests() {
    // Eight blocks, of which a prompt of six and its output fill seven.
    let mut llm = tiny(json!({ "max_model_len": 128, "max_num_seqs": 1 }));
    let p = json!({ "temperature": 0, "max_tokens": 8, "ignore_eos": true });
    let again = |llm: &mut Llm| pollster::block_on(llm.check_again()).unwrap();
    assert!(!pollster::block_on(llm.warm_up(Some(false))).unwrap());
    let first = add(&mut llm, &words(5, 97), p.clone());
    assert_eq!(again(&mut llm), None, "a sequence is in flight");
    let first = finish(&mut llm, &first).remove(0);
    let mut parts = 1;
    while again(&mut llm).is_none() {
        parts += 1;
        let ids = add(&mut llm, &words(5, 97), p.clone());
        let output = finish(&mut llm, &ids).remove(0);
        assert_eq!(output.token_ids, first.token_ids);
        assert_eq!(output.metrics.unwrap().num_cached_tokens, 96, "no block of the prompt was written over");
    }
    assert_eq!(parts, 4, "a part for each tile of 2, 4, 6 and 8 rows");
    assert_eq!(again(&mut llm), Some(false), "there is nothing left to repeat");
    assert_eq!(gauge(&llm, "embergram:single_kernel_path"), 0.0);
}

/// A cache smaller than the model's context bounds the sequences, so that none is refused later.
#[test]
fn without_a_length_the_cache_decides_it() {
    let mut llm = tiny(json!({ "kv_cache_memory_bytes": 100_000, "enable_prefix_caching": false }));
    let longest = llm.info().max_model_len;
    assert!(longest < 512 && longest.is_multiple_of(16), "{longest}");
    let ids = add(&mut llm, &words(1, 20), json!({ "temperature": 0, "max_tokens": null, "ignore_eos": true }));
    assert_eq!(finish(&mut llm, &ids)[0].token_ids.len(), longest - 20);
    // As in vLLM nothing is asked of a prefix cache that is off.
    assert_eq!(counter(&llm, "vllm:prefix_cache_queries", None), 0);
}

/// What waits costs next to nothing, and more than may does not wait.
#[test]
fn the_queue_has_an_end() {
    let mut config = config();
    config["max_num_waiting"] = json!(5);
    let mut llm = tiny(config);
    let p = params(json!({ "n": 3, "temperature": 1, "max_tokens": 4, "ignore_eos": true }));
    let ids = llm.add(&words(1, 20), &p).unwrap();
    let error = llm.add(&words(2, 20), &p).unwrap_err();
    assert_eq!(error.code, ErrorCode::QueueFull);
    assert!(error.message.contains("max_num_waiting is 5"), "{error}");
    assert_eq!(counter(&llm, "vllm:admission_rejections", Some("max_num_queued_reqs")), 1);
    step(&mut llm);
    step(&mut llm);
    let later = llm.add(&words(2, 20), &p).unwrap();
    assert_eq!(finish(&mut llm, &[ids, later].concat()).len(), 6);
    assert_eq!(finished(&llm), [0, 6, 0, 0]);
}

/// All siblings begin, and who came behind them, as soon as the first has computed what all can share.
#[test]
fn siblings_begin_together() {
    let mut config = config();
    config["max_num_seqs"] = json!(9);
    let mut llm = tiny(config);
    let p = params(json!({ "n": 8, "temperature": 0.8, "seed": 5, "max_tokens": 12, "ignore_eos": true }));
    let mut ids = llm.add(&words(3, 41), &p).unwrap();
    ids.extend(add(&mut llm, &words(4, 10), json!({ "temperature": 0, "max_tokens": 12, "ignore_eos": true })));
    // 32 of 41 tokens, which are all the whole blocks.
    step(&mut llm);
    assert_eq!(gauge(&llm, "vllm:num_requests_running"), 1.0);
    step(&mut llm);
    assert_eq!((gauge(&llm, "vllm:num_requests_running"), gauge(&llm, "vllm:num_requests_waiting")), (9.0, 0.0));
    let outputs = finish(&mut llm, &ids);
    let cached = |o: &SequenceOutput| o.metrics.as_ref().unwrap().num_cached_tokens;
    assert_eq!(outputs.iter().map(cached).collect::<Vec<_>>(), [0, 32, 32, 32, 32, 32, 32, 32, 0]);
}

/// What ends a sequence, where `min_tokens` and `include_stop_str_in_output` have a say.
#[test]
fn stops() {
    let mut llm = tiny(config());
    let mut run = |more: Value| {
        let mut p = json!({ "temperature": 0, "max_tokens": 24, "ignore_eos": true });
        p.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ids = add(&mut llm, &words(3, 12), p);
        finish(&mut llm, &ids).remove(0)
    };
    let whole = run(json!({}));
    let letter = whole.text.chars().find(char::is_ascii_alphabetic).unwrap().to_string();
    let early = run(json!({ "stop": [letter] }));
    assert_eq!(early.finish_reason, Some(FinishReason::Stop));
    let later = run(json!({ "stop": [letter], "min_tokens": 10 }));
    assert!(
        early.token_ids.len() < 10 && later.token_ids.len() > 10,
        "{} {}",
        early.token_ids.len(),
        later.token_ids.len()
    );
    assert_eq!(later.token_ids, whole.token_ids[..later.token_ids.len()]);

    let token = whole.token_ids[8];
    let end = whole.token_ids.iter().position(|t| *t == token).unwrap() + 1;
    let without = run(json!({ "stop_token_ids": [token] }));
    let with = run(json!({ "stop_token_ids": [token], "include_stop_str_in_output": true }));
    assert_eq!((&without.token_ids[..], &with.token_ids[..]), (&whole.token_ids[..end], &whole.token_ids[..end]));
    assert!(with.text.len() > without.text.len() && with.text.starts_with(&without.text), "{with:?} {without:?}");
    assert!(whole.text.starts_with(&with.text));
}

/// Parameters, cache and a step's buffers: a logit's place for each row and token, and once they are wanted another to read it back.
fn memory(llm: &Llm, places: usize) {
    let cache = metric(llm, "vllm:cache_config_info", None)["labels"]["kv_cache_memory_bytes"].clone();
    let cache: f64 = cache.as_str().unwrap().parse().unwrap();
    let file = std::fs::metadata(std::env::var("EMBERGRAM_TINY_MODEL").unwrap()).unwrap().len() as f64;
    let logits = (places * 32 * llm.info().vocab_size * 4) as f64;
    let others = gauge(llm, "embergram:gpu_memory_bytes") - cache - logits;
    assert!(
        others > file / 2.0 && others < file * 4.0,
        "{others} bytes beside the cache and logits; the file has {file}"
    );
}

fn batches(llm: &mut Llm) {
    // More than the engine runs at once, and longer than a step's rows.
    let prompts: Vec<_> = (0..8).map(|i| words(i, 5 + 9 * i as usize)).collect();
    let p = json!({ "temperature": 0.4, "seed": 11, "max_tokens": 30, "ignore_eos": true });
    let mut alone = Vec::new();
    for prompt in &prompts {
        let ids = add(llm, prompt, p.clone());
        alone.extend(finish(llm, &ids));
    }
    let ids: Vec<_> = prompts.iter().flat_map(|prompt| add(llm, prompt, p.clone())).collect();
    assert_eq!(gauge(llm, "vllm:num_requests_waiting"), 8.0);
    let started = step(llm);
    assert!(!started.is_empty());
    assert_eq!((gauge(llm, "vllm:num_requests_running"), gauge(llm, "vllm:num_requests_waiting")), (4.0, 4.0));
    assert!(gauge(llm, "vllm:kv_cache_usage_perc") > 0.0);
    ids.iter().for_each(|id| assert!(llm.abort(*id).is_some()));

    let together = pollster::block_on(llm.generate(&prompts, &params(p))).unwrap();
    for (alone, together) in alone.iter().zip(together.iter().flatten()) {
        assert_eq!((&alone.token_ids, &alone.text), (&together.token_ids, &together.text));
    }
    assert_eq!(finished(llm), [0, 16, 8, 0]);
    for name in ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"] {
        assert_eq!(gauge(llm, name), 0.0, "{name}");
    }
    assert_eq!(histogram(llm, "vllm:request_params_max_tokens"), (24, 24.0 * 30.0));
    let first_tokens = histogram(llm, "vllm:time_to_first_token_seconds").0;
    assert_eq!(first_tokens, 16 + started.len() as u64);
    // A draft is proposed after each step that gave a sequence tokens, unless it ended.
    let later = histogram(llm, "vllm:inter_token_latency_seconds").0;
    assert_eq!(histogram(llm, "embergram:draft_time_seconds").0, first_tokens + later - 16);
}

fn aborts(llm: &mut Llm) {
    llm.reset_metrics();
    let p = json!({ "temperature": 0, "max_tokens": 40, "ignore_eos": true, "stop": ["zzz"] });
    let expected = pollster::block_on(llm.generate(&[words(1, 20)], &params(p.clone()))).unwrap();
    let ids: Vec<_> = (0..6).flat_map(|i| add(llm, &words(i, 20), p.clone())).collect();
    let mut seen = vec![Vec::<u32>::new(); 2];
    for output in (0..6).flat_map(|_| step(llm)) {
        let index = ids.iter().position(|id| *id == output.id).unwrap();
        seen.get_mut(index).into_iter().for_each(|tokens| tokens.extend(&output.token_ids));
    }
    // One that runs, one that waits, one that is not there.
    let running = llm.abort(ids[0]).unwrap();
    assert_eq!(running.finish_reason, Some(FinishReason::Abort));
    assert_eq!(running.metrics.unwrap().num_generation_tokens, seen[0].len());
    let waiting = llm.abort(ids[5]).unwrap().metrics.unwrap();
    assert_eq!((waiting.num_generation_tokens, waiting.first_token_ts, waiting.queue_time), (0, None, None));
    assert!(llm.abort(ids[0]).is_none() && llm.abort(12345).is_none());
    let outputs = finish(llm, &ids[1..5]);
    seen[1].extend(&outputs[0].token_ids);
    assert_eq!(seen[1], expected[0][0].token_ids, "the others go on as if nothing had been");
    assert_eq!(finished(llm), [0, 5, 2, 0]);
    assert_eq!(gauge(llm, "vllm:kv_cache_usage_perc"), 0.0);

    // Of a list with a prompt that is refused none runs.
    let error = pollster::block_on(llm.generate(&[words(1, 20), tokens(&[])], &params(p.clone()))).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidPrompt);
    assert!(!llm.is_busy());
    let error = llm.add(&words(1, 256), &params(p)).unwrap_err();
    assert_eq!(error.code, ErrorCode::PromptTooLong);
    assert_eq!(finished(llm), [0, 5, 3, 0]);
}

fn several_sequences_of_one_request(llm: &mut Llm) {
    llm.reset_metrics();
    let p = json!({ "n": 3, "temperature": 0.8, "seed": 5, "max_tokens": 12, "ignore_eos": true });
    let ids = add(llm, &words(3, 10), p);
    for _ in 0..4 {
        step(llm);
    }
    llm.abort(ids[1]);
    assert_eq!(histogram(llm, "vllm:request_params_n"), (0, 0.0), "only when the last has ended");
    let outputs = finish(llm, &[ids[0], ids[2]]);
    assert_ne!(outputs[0].token_ids, outputs[1].token_ids);
    assert_eq!(histogram(llm, "vllm:request_params_n"), (1, 3.0));
    assert_eq!(histogram(llm, "vllm:request_max_num_generation_tokens"), (1, 12.0));
    assert_eq!(histogram(llm, "vllm:request_prompt_tokens"), (3, 30.0));
    assert_eq!(finished(llm), [0, 2, 1, 0]);
}

fn others_run_along(llm: &mut Llm) {
    let p = json!({ "temperature": 0, "max_tokens": 12, "ignore_eos": true });
    let expected = pollster::block_on(llm.generate(&[words(2, 9)], &params(p.clone()))).unwrap();
    let ids = add(llm, &words(2, 9), p.clone());
    let own = pollster::block_on(llm.generate(&[words(4, 30)], &params(p))).unwrap();
    assert_eq!(own[0][0].token_ids.len(), 12);
    assert!(llm.is_busy(), "what came for the other is still to be had");
    assert_eq!(finish(llm, &ids)[0].token_ids, expected[0][0].token_ids);
}

fn seeds(llm: &mut Llm) {
    let p = json!({ "temperature": 1.5, "max_tokens": 12, "ignore_eos": true });
    let prompts = [words(4, 10), words(4, 10)];
    let outputs = pollster::block_on(llm.generate(&prompts, &params(p.clone()))).unwrap();
    assert_ne!(outputs[0][0].token_ids, outputs[1][0].token_ids, "requests without a seed differ");
    let mut seeded = p;
    seeded["seed"] = json!(1);
    let outputs = pollster::block_on(llm.generate(&prompts, &params(seeded))).unwrap();
    assert_eq!(outputs[0][0].token_ids, outputs[1][0].token_ids, "requests with the same seed do not");
}

fn a_long_prompt_holds_nobody_up(llm: &mut Llm) {
    let p = json!({ "temperature": 0, "max_tokens": 8, "ignore_eos": true });
    let long = add(llm, &words(8, 150), p.clone());
    let short: Vec<_> = (0..3).flat_map(|i| add(llm, &words(i, 1), p.clone())).collect();
    for _ in 0..2 {
        let ids: Vec<u64> = step(llm).iter().map(|o| o.id).collect();
        assert_eq!(ids, short, "each gets a token while the long prompt is being computed");
    }
    finish(llm, &[long, short].concat());
}

fn auto_goes_by_costs(llm: &mut Llm) {
    let config = |k: Value| {
        let config =
            json!({ "method": "ngram", "num_speculative_tokens": k, "prompt_lookup_max": 2, "prompt_lookup_min": 1 });
        Some(SpeculativeConfig::from_json(&config).unwrap())
    };
    llm.set_speculation(config(json!("auto")));
    let p = json!({ "temperature": 0, "max_tokens": 60, "ignore_eos": true });
    let mut run = |table: &[(usize, f64)]| {
        llm.fix_step_costs(table);
        llm.reset_metrics();
        let output = pollster::block_on(llm.generate(&[words(1, 20)], &params(p.clone()))).unwrap().remove(0).remove(0);
        let depths = histogram(llm, "embergram:draft_depth");
        assert_eq!(depths.1 as u64, counter(llm, "vllm:spec_decode_num_draft_tokens", None));
        let drafts = counter(llm, "vllm:spec_decode_num_drafts", None);
        assert_eq!(drafts, output.metrics.unwrap().speculative_decoding.unwrap().num_spec_steps);
        (output.token_ids, depths.0, drafts)
    };
    let (dear_tokens, offered, drafts) = run(&[(1, 1.0), (2, 100.0)]);
    assert!(offered > 20 && drafts == 0, "{offered} offers, {drafts} drafts: no draft pays");
    let (cheap_tokens, offered, drafts) = run(&[(1, 1.0), (16, 1.01)]);
    assert!(drafts > 0 && drafts == offered, "{offered} offers, {drafts} drafts: every draft pays");
    let (measured_tokens, ..) = run(&[]);
    assert!(dear_tokens == cheap_tokens && cheap_tokens == measured_tokens);
    let costs = llm.step_costs();
    assert!(costs.iter().any(|c| c.rows == 1 && c.steps > 20) && costs.iter().all(|c| c.seconds > 0.0), "{costs:?}");
    llm.set_speculation(config(json!(3)));
}

/// Requests come, go and are aborted as chance has it: counters only rise, and in the end they are the sums of what the
/// sequences themselves report, each counted under its one reason.
fn random_traffic(llm: &mut Llm) {
    llm.reset_metrics();
    let mut random = Random(5);
    let (mut open, mut ended) = (Vec::new(), Vec::new());
    let mut before = Vec::new();
    for turn in 0..120 {
        match random.below(4) {
            0 if turn < 90 => {
                let p = json!({
                    "temperature": 0.3, "n": 1 + random.below(3), "max_tokens": 1 + random.below(30), "stop": random.pick(&["e", "zzz"]),
                });
                open.extend(add(llm, &words(random.next() % 20, 1 + random.below(60)), p));
            }
            1 if !open.is_empty() => ended.extend(llm.abort(open[random.below(open.len())])),
            _ => ended.extend(step(llm).into_iter().filter(|o| o.finish_reason.is_some())),
        }
        open.retain(|id| ended.iter().all(|o: &SequenceOutput| o.id != *id));
        let now = rising(llm);
        assert!(before.iter().zip(&now).all(|(before, now)| before <= now), "a counter fell in turn {turn}");
        before = now;
    }
    ended.extend(finish(llm, &open));
    let metrics: Vec<_> = ended.iter().map(|o| o.metrics.as_ref().unwrap()).collect();
    let of = |reason| ended.iter().filter(|o| o.finish_reason == Some(reason)).count() as u64;
    let reasons = [FinishReason::Stop, FinishReason::Length, FinishReason::Abort, FinishReason::Error].map(of);
    assert!(reasons[0] > 0 && reasons[1] > 5 && reasons[2] > 5, "{reasons:?}");
    assert_eq!(finished(llm), reasons);
    assert_eq!(histogram(llm, "vllm:request_prompt_tokens").0, ended.len() as u64);
    let generated: usize = metrics.iter().map(|m| m.num_generation_tokens).sum();
    assert_eq!(counter(llm, "vllm:generation_tokens", None), generated as u64);
    assert_eq!(histogram(llm, "vllm:request_generation_tokens"), (ended.len() as u64, generated as f64));
    let speculation = || metrics.iter().filter_map(|m| m.speculative_decoding.as_ref());
    for (name, sum) in [
        ("drafts", speculation().map(|s| s.num_spec_steps).sum::<u64>()),
        ("draft_tokens", speculation().map(|s| s.num_draft_tokens).sum()),
        ("accepted_tokens", speculation().map(|s| s.num_accepted_draft_tokens).sum()),
    ] {
        assert!(sum > 0);
        assert_eq!(counter(llm, &format!("vllm:spec_decode_num_{name}"), None), sum, "{name}");
    }
}

/// Everything that only rises: counters, elements of vectors, buckets.
fn rising(llm: &Llm) -> Vec<u64> {
    let all = serde_json::to_value(llm.metrics()).unwrap();
    let numbers = |m: &Value| match m["type"].as_str().unwrap() {
        "counter" => vec![m["value"].as_u64().unwrap()],
        "vector" => m["values"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect(),
        "histogram" => m["buckets"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).collect(),
        _ => vec![],
    };
    all.as_array().unwrap().iter().flat_map(numbers).collect()
}

fn reset(llm: &mut Llm) {
    assert!(counter(llm, "vllm:generation_tokens", None) > 0);
    llm.reset_metrics();
    let all = serde_json::to_value(llm.metrics()).unwrap();
    for metric in all.as_array().unwrap() {
        match metric["type"].as_str().unwrap() {
            "counter" => assert_eq!(metric["value"], 0, "{metric}"),
            "vector" => assert!(metric["values"].as_array().unwrap().iter().all(|v| v == 0), "{metric}"),
            "histogram" => assert_eq!((&metric["count"], &metric["sum"]), (&json!(0), &json!(0.0)), "{metric}"),
            _ => {}
        }
    }
}

/// The text exposition, as Prometheus' own parser reads it, holds the samples of the JSON.
fn exposition(llm: &mut Llm) {
    let p = json!({ "temperature": 0, "max_tokens": 20, "ignore_eos": true });
    pollster::block_on(llm.generate(&[words(6, 40), words(7, 20)], &params(p))).unwrap();
    let python = std::env::var("EMBERGRAM_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/check_exposition.py");
    let mut child =
        Command::new(&python).arg(script).stdin(Stdio::piped()).spawn().expect("python3, or EMBERGRAM_PYTHON");
    let both = json!({ "json": llm.metrics(), "text": llm.metrics_text() });
    child.stdin.take().unwrap().write_all(both.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{python} {script} found a difference, or prometheus_client is missing");
}

fn prefixes(llm: &mut Llm) {
    let p = json!({ "temperature": 0, "max_tokens": 24, "ignore_eos": true });
    let said = |role: &str, content: &str| Message::new(role, content);
    let mut chat = vec![said("user", "the people and the water that there would be at night with other people")];
    let mut without = config();
    without["enable_prefix_caching"] = json!(false);
    let mut without = tiny(without);
    let mut cached = Vec::new();
    for turn in 0..3 {
        let prompt = llm.chat_prompt(&chat, &Default::default()).unwrap();
        let len = llm.prompt_tokens(&prompt).unwrap().len();
        let before = ["vllm:prefix_cache_hits", "vllm:prompt_tokens_cached"].map(|name| counter(llm, name, None));
        let rows = histogram(llm, "embergram:rows_per_step").1;
        let ids = add(llm, &prompt, p.clone());
        let output = finish(llm, &ids).remove(0);
        let metrics = output.metrics.unwrap();
        assert_eq!(metrics.num_prompt_tokens, len);
        for (name, before) in ["vllm:prefix_cache_hits", "vllm:prompt_tokens_cached"].iter().zip(before) {
            assert_eq!(counter(llm, name, None) - before, metrics.num_cached_tokens as u64, "{name}");
        }
        assert_eq!(metrics.num_cached_tokens % 16, 0, "whole blocks");
        // Rows: what was not cached of the prompt, then in each later step the newest token and the draft.
        let rows = (histogram(llm, "embergram:rows_per_step").1 - rows) as usize;
        let speculation = metrics.speculative_decoding.unwrap();
        let accepted = speculation.num_accepted_draft_tokens as usize;
        let kept = output.draft_positions.iter().flatten().count();
        // When the end cuts a draft, its last step's own token is cut too.
        let own_cut = usize::from(output.draft_positions.last().is_some_and(Option::is_some));
        let steps = 24 - kept + own_cut - 1;
        let expected = len - metrics.num_cached_tokens + steps + speculation.num_draft_tokens as usize;
        assert!(accepted >= kept);
        assert_eq!(rows, expected, "turn {turn}: only what is new is prefilled");

        // An engine that computes everything anew says the same.
        let ids = add(&mut without, &prompt, p.clone());
        assert_eq!(output.token_ids, finish(&mut without, &ids)[0].token_ids, "turn {turn}");
        cached.push((metrics.num_cached_tokens, len));
        chat.push(said("assistant", &output.text));
        chat.push(said("user", "what about the other house"));
    }
    assert_eq!(cached[0].0, 0);
    for turn in 1..3 {
        // The turn before ends with the words that ask for an answer; up to there all whole blocks serve again.
        assert_eq!(cached[turn].0, cached[turn - 1].1 / 16 * 16, "{cached:?}");
    }
}

fn one_prompt_is_prefilled_once(llm: &mut Llm) {
    let prompt = words(77, 41);
    let p = json!({ "temperature": 0.8, "seed": 5, "n": 3, "max_tokens": 8, "ignore_eos": true });
    llm.set_speculation(None);
    let rows = histogram(llm, "embergram:rows_per_step").1;
    let ids = add(llm, &prompt, p.clone());
    let outputs = finish(llm, &ids);
    let rows = (histogram(llm, "embergram:rows_per_step").1 - rows) as usize;
    let cached: Vec<_> = outputs.iter().map(|o| o.metrics.as_ref().unwrap().num_cached_tokens).collect();
    assert_eq!((cached, rows), (vec![0, 32, 32], 41 + 9 + 9 + 3 * 7));

    let mut config = config();
    config["enable_prefix_caching"] = json!(false);
    let mut without = tiny(config);
    let ids = add(&mut without, &prompt, p);
    for (shared, anew) in outputs.iter().zip(finish(&mut without, &ids)) {
        assert_eq!(shared.token_ids, anew.token_ids);
    }
}

/// The bytes of a character whose end never comes are no text, as in vLLM.
#[test]
fn an_output_that_ends_inside_a_character_ends_before_it() {
    let mut llm = tiny(config());
    // The token of byte C3, which begins a character of two bytes.
    let lead = 3 + 0xc3;
    assert_eq!(llm.detokenize(&[lead]), "\u{fffd}");
    let p = json!({ "temperature": 0, "max_tokens": 1, "logit_bias": { (lead.to_string()): 100 } });
    let output = pollster::block_on(llm.generate(&[words(1, 5)], &params(p))).unwrap().remove(0).remove(0);
    assert_eq!((output.token_ids, output.text.as_str()), (vec![lead], ""));
}

/// A prompt's tokens are as likely as they were when the model wrote them, bit for bit: over several steps, beside others,
/// and whatever the prefix cache holds.
fn prompts_are_scored(llm: &mut Llm) {
    let p = json!({ "temperature": 0, "max_tokens": 30, "ignore_eos": true, "logprobs": 3 });
    let Prompt::Tokens(prompt) = words(77, 20) else { unreachable!() };
    let ids = add(llm, &tokens(&prompt), p);
    let written = finish(llm, &ids).remove(0);
    let whole = tokens(&[&prompt[..], &written.token_ids].concat());
    let known = written.logprobs.expect("they were asked for");
    for _ in 0..2 {
        let score = json!({ "n": 2, "seed": 1, "max_tokens": 4, "ignore_eos": true, "prompt_logprobs": 3 });
        let mut ids = add(llm, &whole, score);
        let plain = json!({ "temperature": 0, "max_tokens": 40, "ignore_eos": true });
        ids.extend(add(llm, &words(78, 40), plain));
        let [first, second, other] = &finish(llm, &ids)[..] else { panic!("three sequences") };
        let scores = first.prompt_logprobs.as_ref().expect("they were asked for");
        assert_eq!(scores.len(), prompt.len() + 30 - 1, "all but the first token");
        assert_eq!(scores[prompt.len() - 1..], known[..]);
        assert!(scores.iter().all(|one| (3..=4).contains(&one.len())));
        assert!(second.prompt_logprobs.is_none() && other.prompt_logprobs.is_none());
        assert_eq!((first.token_ids.len(), other.token_ids.len()), (4, 40));
        assert_eq!(first.metrics.as_ref().map(|m| m.num_cached_tokens), Some(0));
    }
}

fn some_tokens_alone_and_some_words_not(llm: &mut Llm) {
    let run = |llm: &mut Llm, more: Value| {
        let mut p = json!({ "temperature": 0, "max_tokens": 24, "ignore_eos": true });
        p.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let ids = add(llm, &words(79, 30), p);
        finish(llm, &ids).remove(0).token_ids
    };
    let free = run(llm, json!({}));
    let some = run(llm, json!({ "allowed_token_ids": [290, 280, 270] }));
    assert!(some.iter().all(|id| [270, 280, 290].contains(id)) && some != free);
    let alone =
        |id: &u32| llm.tokenize(&llm.detokenize(&[*id])).is_ok_and(|ids| ids.last() == Some(id) && ids.len() <= 2);
    let bad =
        *free.iter().find(|id| !llm.detokenize(&[**id]).starts_with(' ') && alone(id)).expect("a word of one token");
    let word = llm.detokenize(&[bad]);
    let without = run(llm, json!({ "bad_words": [word] }));
    assert!(!without.contains(&bad), "{word:?} is token {bad} of {without:?}");
    for (more, word) in [
        (json!({ "allowed_token_ids": [] }), "at least one token id"),
        (json!({ "bad_words": [""] }), "not empty"),
        (json!({ "prompt_logprobs": 21 }), "from 0 to 20"),
    ] {
        let error = embergram::config::SamplingParams::from_json(&more).unwrap_err();
        assert!(error.code == ErrorCode::InvalidParams && error.message.contains(word), "{error}");
    }
    let beyond = params(json!({ "allowed_token_ids": [99999] }));
    assert_eq!(llm.add(&words(1, 3), &beyond).unwrap_err().code, ErrorCode::InvalidParams);
}
