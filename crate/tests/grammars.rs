//! Outputs that fit: masks, forced tokens and drafts under grammars, with real grammars on a real runner.

mod common;

use common::grammars::{Forcing, add_grammars};
use common::lossless::{assert_same, speculation};
use common::{On, Random, counter, finish, metric, params, schemas, tokens};
use embergram::ErrorCode;
use embergram::engine::SequenceOutput;
use embergram::llm::{Llm, Prompt};
use embergram::metrics::FinishReason;
use serde_json::{Value, json};

/// A tiny model with grammars.
fn tiny(on: On) -> (Llm, Forcing) {
    let mut llm =
        on.load("EMBERGRAM_TINY_MODEL", json!({ "max_num_seqs": 8, "max_num_batched_tokens": 64, "seed": 3 }));
    let forcing = add_grammars(&mut llm);
    (llm, forcing)
}

fn prompt(random: &mut Random) -> Prompt {
    tokens(&(0..3 + random.below(20)).map(|_| 259 + random.below(90) as u32).collect::<Vec<_>>())
}

fn with(p: &Value, more: Value) -> Value {
    let mut all = p.clone();
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// Runs requests eight at a time.
fn run(llm: &mut Llm, requests: &[(Prompt, Value)], k: Value) -> Vec<Vec<SequenceOutput>> {
    llm.set_speculation(speculation(k));
    let mut outputs = Vec::new();
    for batch in requests.chunks(8) {
        let ids: Vec<_> = batch.iter().map(|(prompt, p)| llm.add(prompt, &params(p.clone())).unwrap()).collect();
        let mut all = finish(llm, &ids.concat()).into_iter();
        outputs.extend(ids.iter().map(|ids| all.by_ref().take(ids.len()).collect::<Vec<_>>()));
    }
    outputs
}

fn steps(llm: &Llm) -> u64 {
    metric(llm, "embergram:step_time_seconds", None)["count"].as_u64().unwrap()
}

/// The same tokens without any draft, with what is forced drafted, and with a proposer's guesses behind that.
fn the_same_however_it_is_drafted(
    llm: &mut Llm,
    forcing: &Forcing,
    requests: &[(Prompt, Value)],
) -> Vec<Vec<SequenceOutput>> {
    let plain = |outputs: &[Vec<SequenceOutput>]| {
        let mut outputs = outputs.to_vec();
        outputs.iter_mut().flatten().for_each(|output| output.forced.clear());
        outputs
    };
    forcing.set(false);
    let expected = run(llm, requests, json!(0));
    assert!(expected.iter().flatten().all(|output| output.metrics.as_ref().unwrap().num_forced_tokens == 0));
    forcing.set(true);
    for k in [json!(0), json!(5), json!("auto")] {
        let before = counter(llm, "embergram:forced_tokens", None);
        let got = run(llm, requests, k.clone());
        assert_same(&plain(&expected), &plain(&got), &format!("K = {k}"));
        let counted = |output: &SequenceOutput| output.forced.iter().filter(|forced| **forced).count();
        let forced: usize = got.iter().flatten().map(counted).sum();
        assert_eq!(counter(llm, "embergram:forced_tokens", None) - before, forced as u64);
        for output in got.iter().flatten() {
            assert_eq!(output.forced.len(), output.token_ids.len());
            assert_eq!(output.metrics.as_ref().unwrap().num_forced_tokens, counted(output));
            let both = output
                .forced
                .iter()
                .zip(&output.draft_positions)
                .any(|(forced, position)| *forced && position.is_some());
            assert!(!both, "what is forced is no guess");
        }
    }
    expected
}

fn random_schemas(on: On, cases: usize) {
    let (mut llm, forcing) = tiny(on);
    let mut random = Random(17);
    let mut all = Vec::new();
    for i in 0..cases {
        let schema = schemas::schema(&mut random);
        let outputs = if i % 3 == 0 {
            json!({ "json": schema, "disable_any_whitespace": true })
        } else {
            json!({ "json": schema })
        };
        let p = json!({
            "temperature": if i % 4 == 3 { 0 } else { 1 }, "seed": i, "max_tokens": 400, "structured_outputs": outputs,
            "logprobs": if i % 5 == 0 { json!(2) } else { json!(null) }, "top_p": if i % 7 == 0 { 0.9 } else { 1.0 },
        });
        all.push((prompt(&mut random), p, schema));
    }
    let requests: Vec<_> = all.iter().map(|(prompt, p, _)| (prompt.clone(), p.clone())).collect();
    let outputs = the_same_however_it_is_drafted(&mut llm, &forcing, &requests);
    let mut finished = 0;
    for (output, (_, _, schema)) in outputs.iter().flatten().zip(&all) {
        if output.finish_reason == Some(FinishReason::Length) {
            continue;
        }
        assert_eq!(output.finish_reason, Some(FinishReason::Stop), "{output:?}");
        let value: Value = serde_json::from_str(&output.text).unwrap_or_else(|e| panic!("{e}: {}", output.text));
        assert!(schemas::fits(schema, schema, &value), "{} does not fit {schema}", output.text);
        finished += 1;
    }
    println!("{finished} of {cases} outputs came to their ends");
    assert!(finished * 10 > cases * 8, "only {finished} of {cases} came to their ends");
}

#[test]
fn outputs_fit_random_schemas_however_they_are_drafted() {
    random_schemas(On::Cpu(2), 200);
}

#[test]
fn outputs_fit_random_schemas_on_the_adapter() {
    random_schemas(On::Gpu, if common::full() { 60 } else { 10 });
}

#[test]
fn each_kind_gives_what_it_says() {
    let (mut llm, forcing) = tiny(On::Cpu(2));
    let mut random = Random(5);
    let tag = json!({ "triggers": ["<"], "structures": [{
        "begin": "<t>", "schema": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 99 } },
        "required": ["n"], "additionalProperties": false }, "end": "</t>",
    }] });
    let kinds = [
        json!({ "choice": ["water", "the light", "größe"] }),
        json!({ "regex": "(the|water) [0-9]{3}-[a-f]{2}" }),
        json!({ "grammar": "start: sum\nsum: NUMBER (\" + \" NUMBER)*\nNUMBER: /[1-9][0-9]{0,2}/" }),
        json!({ "structural_tag": tag }),
        json!({ "json_object": true }),
    ];
    let requests: Vec<_> = (0..40).map(|i| {
        let n = if i % 10 < 5 { 1 } else { 2 };
        let mut p = json!({ "temperature": 1, "seed": i, "n": n, "max_tokens": 60, "structured_outputs": kinds[i % kinds.len()] });
        if i % kinds.len() == 3 {
            // The trigger comes by chance, so it is made likely.
            p["logit_bias"] = json!({ (llm.tokenizer().encode("<", false).unwrap()[0].to_string()): 12 });
        }
        (prompt(&mut random), p)
    }).collect();
    let outputs = the_same_however_it_is_drafted(&mut llm, &forcing, &requests);
    let mut tags = 0;
    for (i, output) in outputs.iter().enumerate().flat_map(|(i, outputs)| outputs.iter().map(move |output| (i, output)))
    {
        let (text, stopped) = (output.text.as_str(), output.finish_reason == Some(FinishReason::Stop));
        match i % kinds.len() {
            0 => assert!(stopped && ["water", "the light", "größe"].contains(&text), "{text}"),
            1 => {
                let rest =
                    text.strip_prefix("the ").or(text.strip_prefix("water ")).unwrap_or_else(|| panic!("{text}"));
                let (digits, letters) = rest.split_once('-').unwrap_or_else(|| panic!("{text}"));
                assert!(stopped && digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{text}");
                assert!(letters.len() == 2 && letters.bytes().all(|b| (b'a'..=b'f').contains(&b)), "{text}");
            }
            2 => assert!(
                text.trim_end_matches([' ', '+'])
                    .split(" + ")
                    .all(|n| n.parse().is_ok_and(|n: u32| (1..1000).contains(&n))),
                "{text}"
            ),
            3 => {
                for part in text.split("<t>").skip(1) {
                    let Some((inside, _)) = part.split_once("</t>") else { continue };
                    let value: Value = serde_json::from_str(inside).unwrap();
                    assert!((0..100).contains(&value["n"].as_i64().unwrap()), "{text}");
                    tags += 1;
                }
            }
            _ => assert!(!stopped || serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}"),
        }
        if stopped {
            let last = output.token_ids.last().unwrap();
            assert!(llm.tokenizer().eos_ids().contains(last) && output.stop_reason.is_none());
        }
    }
    assert!(tags > 0, "no tag was ever whole");
}

/// The grammar has the last word: not `ignore_eos`, `min_tokens` nor a bias.
#[test]
fn an_output_that_is_complete_ends() {
    let (mut llm, forcing) = tiny(On::Cpu(2));
    let base = json!({ "temperature": 0, "max_tokens": 50, "structured_outputs": { "choice": ["the water"] } });
    let bias = json!({ (llm.tokenizer().eos_ids()[0].to_string()): -100 });
    let requests: Vec<_> = [
        json!({}),
        json!({ "ignore_eos": true }),
        json!({ "min_tokens": 40 }),
        json!({ "logit_bias": bias }),
        json!({ "temperature": 1, "n": 3, "seed": 1 }),
        json!({ "stop": ["wat"] }),
        json!({ "max_tokens": 2 }),
        json!({ "include_stop_str_in_output": true, "skip_special_tokens": false }),
    ]
    .into_iter()
    .map(|more| (tokens(&[300, 310]), with(&base, more)))
    .collect();
    let outputs = the_same_however_it_is_drafted(&mut llm, &forcing, &requests);
    for (i, outputs) in outputs.iter().enumerate() {
        for output in outputs {
            match i {
                5 => assert_eq!((output.text.as_str(), output.finish_reason), ("the ", Some(FinishReason::Stop))),
                6 => assert_eq!((output.token_ids.len(), output.finish_reason), (2, Some(FinishReason::Length))),
                7 => assert!(output.text.starts_with("the water") && output.text.len() > 9, "{output:?}"),
                _ => assert_eq!(
                    (output.text.as_str(), output.finish_reason),
                    ("the water", Some(FinishReason::Stop)),
                    "{i}"
                ),
            }
        }
    }
}

/// What is forced takes no steps of its own, with speculation off too, and vLLM's counters do not see it.
#[test]
fn what_is_forced_takes_no_steps() {
    let (mut llm, forcing) = tiny(On::Cpu(2));
    let schema = json!({ "type": "object", "properties": {
        "the name of the river": { "const": "water under the light" }, "is it night": { "type": "boolean" },
    }, "required": ["the name of the river", "is it night"], "additionalProperties": false });
    let p = json!({ "temperature": 0, "max_tokens": 200, "structured_outputs": { "json": schema, "disable_any_whitespace": true } });
    let requests = [(tokens(&[300, 310, 320]), p)];
    let mut counts = Vec::new();
    for (force, k) in [(false, 0), (true, 0), (true, 5)] {
        forcing.set(force);
        let before = steps(&llm);
        let output = run(&mut llm, &requests, json!(k)).remove(0).remove(0);
        assert_eq!(output.finish_reason, Some(FinishReason::Stop));
        let forced = output.metrics.as_ref().unwrap().num_forced_tokens;
        println!("{} tokens, {forced} forced, {} steps: {}", output.token_ids.len(), steps(&llm) - before, output.text);
        counts.push((steps(&llm) - before, output.token_ids.len(), forced));
        if let Some(speculation) = &output.metrics.as_ref().unwrap().speculative_decoding {
            let placed = output.draft_positions.iter().flatten().count() as u64;
            assert!(placed <= speculation.num_accepted_draft_tokens);
            assert!(speculation.num_draft_tokens <= speculation.num_spec_steps * 5);
        }
    }
    let [(plain, all, none), (few, same, forced), _] = counts[..] else { panic!() };
    assert_eq!((plain as usize, none, same), (all, 0, all), "without drafts each token takes a step");
    assert_eq!(few as usize, all - forced, "a forced token takes none");
    assert!(few * 5 < plain, "{few} of {plain} steps");
    assert!(llm.metrics().get("vllm:spec_decode_num_drafts").is_some());
}

/// A guess is cut where the grammar forbids it, and a guess that holds is taken.
#[test]
fn guesses_end_where_the_grammar_does() {
    let (mut llm, forcing) = tiny(On::Cpu(2));
    forcing.set(true);
    let tokenizer = llm.tokenizer().clone();
    let ids = |text: &str| tokenizer.encode(text, false).unwrap();
    // The prompt says it once already, but then goes on in another way.
    let mut prompt = ids("[1,2,3,4,5,6,7,8,9]the water the water [1,2,3");
    prompt.truncate(200);
    let p = json!({ "temperature": 0, "max_tokens": 40, "structured_outputs": { "regex": ",4,5,6,7,8(,9)?\\]!" } });
    let output = run(&mut llm, &[(tokens(&prompt), p)], json!(5)).remove(0).remove(0);
    assert!(output.text.starts_with(",4,5,6,7,8") && output.text.ends_with("]!"), "{}", output.text);
    let metrics = output.metrics.unwrap();
    assert!(metrics.num_forced_tokens >= 10, "{metrics:?}");
    // What was said before would go on and on; here it is three words.
    let again = ids(&"the water ".repeat(8));
    let p = json!({ "temperature": 0, "max_tokens": 40, "structured_outputs": { "regex": "(the|water)( (the|water)){2}!" } });
    let output = run(&mut llm, &[(tokens(&again), p)], json!(5)).remove(0).remove(0);
    let speculation = output.metrics.unwrap().speculative_decoding.unwrap();
    println!("{} {speculation:?}", output.text);
    assert!(speculation.num_spec_steps > 0 && speculation.num_draft_tokens < 5 * speculation.num_spec_steps);
}

#[test]
fn what_cannot_be_is_refused_and_others_go_on() {
    let (mut llm, _) = tiny(On::Cpu(2));
    let other = llm
        .add(&tokens(&[300, 301]), &params(json!({ "temperature": 0, "max_tokens": 20, "ignore_eos": true })))
        .unwrap();
    let spec = |outputs: Value| params(json!({ "structured_outputs": outputs, "max_tokens": 50, "temperature": 0 }));
    for (outputs, words) in [
        (json!({ "json": { "type": "object", "unevaluatedProperties": false } }), "unevaluatedProperties"),
        (json!({ "regex": "(((" }), "regex"),
        (json!({ "regex": "((a{1000}){1000}){1000}" }), "1000000000 times"),
        (json!({ "json": { "type": "integer", "minimum": 2, "maximum": 1 } }), "2"),
        (json!({ "grammar": "start: start" }), "no token"),
    ] {
        let error = llm.add(&tokens(&[300]), &spec(outputs.clone())).expect_err(&outputs.to_string());
        assert_eq!(error.code, ErrorCode::InvalidParams, "{error}");
        assert!(error.message.contains("structured_outputs") && error.message.contains(words), "{outputs}: {error}");
    }
    // One that grows too complex while it runs ends alone.
    let doubling: String = (0..40).map(|i| format!("r{i}: r{} r{}\n", i + 1, i + 1)).collect();
    let grammar = format!("start: \"the \" ABC r0\nABC: /[abc]/\n{doubling}r40: \"a\"");
    let ids = llm.add(&tokens(&[300]), &spec(json!({ "grammar": grammar }))).unwrap();
    let outputs = finish(&mut llm, &[ids, other].concat());
    let error = outputs[0].error.as_ref().unwrap();
    assert_eq!(
        (outputs[0].finish_reason, error.code),
        (Some(FinishReason::Error), ErrorCode::GrammarFailed),
        "{error}"
    );
    assert_eq!(outputs[1].token_ids.len(), 20);
    assert_eq!(counter(&llm, "vllm:corrupted_requests", None), 0);
    let mut bare = On::Cpu(1).load("EMBERGRAM_TINY_MODEL", json!({}));
    let error = bare.add(&tokens(&[300]), &spec(json!({ "regex": "a" }))).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidConfig);
}

#[test]
fn an_abort_in_the_middle_leaves_the_others() {
    let (mut llm, _) = tiny(On::Cpu(2));
    let p = params(
        json!({ "temperature": 1, "seed": 2, "n": 4, "max_tokens": 60, "structured_outputs": { "regex": "[a-z ]{50}!" } }),
    );
    let ids = llm.add(&tokens(&[300]), &p).unwrap();
    let expected = finish(&mut llm, &ids);
    let ids = llm.add(&tokens(&[300]), &p).unwrap();
    let mut outputs: Vec<_> = ids.iter().map(|id| SequenceOutput { id: *id, ..Default::default() }).collect();
    for _ in 0..5 {
        for delta in pollster::block_on(llm.step()).unwrap() {
            outputs.iter_mut().find(|output| output.id == delta.id).unwrap().extend(delta);
        }
    }
    outputs.iter_mut().for_each(|output| output.text.clear());
    assert_eq!(llm.abort(ids[1]).unwrap().finish_reason, Some(FinishReason::Abort));
    let rest = [ids[0], ids[2], ids[3]];
    let ended = finish(&mut llm, &rest);
    for (i, id) in [(0, 0), (2, 1), (3, 2)] {
        let whole = [outputs[i].token_ids.clone(), ended[id].token_ids.clone()].concat();
        assert_eq!(whole, expected[i].token_ids);
    }
}

/// A predicted output is a source of drafts: no token is another, and what it brings is counted.
#[test]
fn predictions_are_drafts() {
    let (mut llm, forcing) = tiny(On::Cpu(2));
    forcing.set(true);
    let mut random = Random(11);
    let base = |i: usize| json!({ "temperature": if i.is_multiple_of(2) { 0.0 } else { 0.7 }, "seed": i, "max_tokens": 40, "ignore_eos": true });
    let plain: Vec<_> = (0..12).map(|i| (prompt(&mut random), base(i))).collect();
    let expected = run(&mut llm, &plain, json!(0));
    // What will be said, with something else in one place; or nothing like it.
    let with_prediction = |i: usize| {
        let text = &expected[i][0].text;
        let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
        match i % 3 {
            0 => text.clone(),
            1 => format!("{} something else {}", &text[..middle], &text[middle..]),
            _ => "nothing like it at all".into(),
        }
    };
    let predicted: Vec<_> = plain
        .iter()
        .enumerate()
        .map(|(i, (prompt, p))| (prompt.clone(), with(p, json!({ "prediction": with_prediction(i) }))))
        .collect();
    for k in [json!(0), json!(3), json!("auto")] {
        // What steps cost, so that as many tokens as may be are drafted.
        llm.fix_step_costs(&(1..64).map(|rows| (rows, 1.0 + rows as f64 * 0.01)).collect::<Vec<_>>());
        let before = steps(&llm);
        let got = run(&mut llm, &predicted, k.clone());
        println!("K = {k}: {} steps", steps(&llm) - before);
        let plain = |outputs: &[Vec<SequenceOutput>]| outputs.to_vec();
        assert_same(&plain(&expected), &plain(&got), &format!("K = {k} with predictions"));
        let sums = |f: fn(&embergram::metrics::RequestMetrics) -> usize| {
            let counts: Vec<usize> = got.iter().flatten().map(|output| f(output.metrics.as_ref().unwrap())).collect();
            [0, 1, 2].map(|kind| counts.iter().skip(kind).step_by(3).sum::<usize>())
        };
        let accepted = sums(|m| m.num_accepted_prediction_tokens);
        let rejected = sums(|m| m.num_rejected_prediction_tokens);
        println!("accepted {accepted:?}, rejected {rejected:?} of predictions that hold, nearly hold, do not");
        assert!(accepted[0] > 60 && accepted[1] > 20, "{accepted:?}");
        let of_all: u64 = got
            .iter()
            .flatten()
            .map(|o| o.metrics.as_ref().unwrap().speculative_decoding.as_ref().unwrap().num_accepted_draft_tokens)
            .sum();
        assert!(of_all as usize >= accepted.iter().sum());
    }
    let long = params(json!({ "prediction": "a".repeat(1 << 20) }));
    assert_eq!(llm.add(&tokens(&[300]), &long).unwrap_err().code, ErrorCode::InvalidParams);
}
