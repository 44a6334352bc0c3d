//! Steps that are submitted before the one before them has been read: the same tokens, the same counters, whatever comes in between.

mod common;

use std::collections::BTreeMap;

use common::Random;
use embergram::config::SamplingParams;
use embergram::engine::scripted::{Log, Scripted};
use embergram::engine::{Engine, SequenceOutput};
use embergram::metrics::Registry;
use embergram::program::{Batch, Capacity};
use embergram::speculate::SpeculativeConfig;
use embergram::text::{Tokenizer, TokenizerSource};
use futures::FutureExt;
use serde_json::Value;

const EOS: u32 = 7;

const FIXED: SpeculativeConfig =
    SpeculativeConfig { num_speculative_tokens: 3, adaptive: false, prompt_lookup_min: 2, prompt_lookup_max: 3 };
const AUTO: SpeculativeConfig = SpeculativeConfig { adaptive: true, ..FIXED };

/// What happens before a step, by the step's number.
#[derive(Clone, Debug)]
enum Event {
    /// A request with the text of this number.
    Add { text: usize, speculates: Option<SpeculativeConfig>, max_tokens: usize },
    /// The end of the request that was added as this one.
    Abort(usize),
}

struct Case {
    capacity: Capacity,
    prefix_caching: bool,
    /// Prompts, and what follows.
    texts: Vec<(Vec<u32>, Vec<u32>)>,
    events: BTreeMap<usize, Vec<Event>>,
}

impl Case {
    fn new(random: &mut Random) -> Self {
        let block_size = 8;
        let slots = 1 + random.below(4);
        let rows = slots.max(1 + random.below(12));
        let positions = 96;
        let blocks = positions / block_size * (1 + random.below(slots));
        let capacity = Capacity { rows, outputs: rows, slots, positions, blocks, block_size };
        let shared: Vec<u32> = (0..24).map(|_| 10 + random.below(5) as u32).collect();
        let text = |i: usize| {
            // Prompts begin alike and end each with a token of its own, so a context is of one text.
            let mut prompt = shared[..random.below(24)].to_vec();
            prompt.push(100 + i as u32);
            let len = 1 + random.below(40);
            let mut output: Vec<u32> = (0..len).map(|_| 10 + random.below(3) as u32).collect();
            output.push(EOS);
            (prompt, output)
        };
        let texts: Vec<_> = (0..8).map(text).collect();
        let mut events = BTreeMap::<usize, Vec<Event>>::new();
        let mut at = 0;
        for text in 0..texts.len() {
            let speculates = *random.pick(&[None, None, Some(AUTO), Some(FIXED)]);
            let max_tokens = 1 + random.below(50);
            events.entry(at).or_default().push(Event::Add { text, speculates, max_tokens });
            if random.below(4) == 0 {
                events.entry(at + random.below(20)).or_default().push(Event::Abort(text));
            }
            at += random.below(12);
        }
        Self { capacity, prefix_caching: random.below(2) == 0, texts, events }
    }

    /// Runs it with so many steps in flight.
    fn run(&self, in_flight: usize) -> Run {
        let texts = self.texts.iter().map(|(prompt, output)| [prompt.as_slice(), output].concat()).collect();
        let mut runner = Scripted::new(self.capacity, texts);
        runner.set_steps_in_flight(in_flight);
        let log = runner.log();
        let registry = Registry::new("scripted", self.capacity.positions);
        let mut engine = Engine::new(Box::new(runner), tokenizer(), 200, self.prefix_caching, registry);
        let mut run = Run { outputs: BTreeMap::new(), steps: Vec::new(), metrics: Value::Null, log };
        let mut ids = BTreeMap::new();
        let last = *self.events.keys().last().expect("an event");
        for step in 0.. {
            for event in self.events.get(&step).into_iter().flatten() {
                match *event {
                    Event::Add { text, speculates, max_tokens } => {
                        engine.set_speculation(speculates);
                        let params =
                            SamplingParams { temperature: 0.0, max_tokens: Some(max_tokens), ..Default::default() };
                        ids.insert(text, engine.add(&self.texts[text].0, &params, Vec::new(), 0).unwrap()[0]);
                    }
                    Event::Abort(text) => {
                        if let Some(output) = engine.abort(ids[&text]) {
                            run.outputs.entry(output.id).or_default().extend(output);
                        }
                    }
                }
            }
            if !engine.is_busy() && step > last {
                break;
            }
            let outputs = engine.step().now_or_never().expect("a scripted step is ready").unwrap();
            run.steps.push(outputs.iter().map(|output| output.id).collect());
            for output in outputs {
                run.outputs.entry(output.id).or_default().extend(output);
            }
        }
        run.metrics = serde_json::to_value(engine.metrics().snapshot()).unwrap();
        run
    }
}

struct Run {
    outputs: BTreeMap<u64, SequenceOutput>,
    /// Which sequences got tokens, step by step.
    steps: Vec<Vec<u64>>,
    metrics: Value,
    log: Log,
}

impl Run {
    /// Tokens and ends; of aborted ones only that they were, since who waits for what may have come further.
    fn said(&self) -> BTreeMap<u64, (Vec<u32>, Value)> {
        let said =
            |output: &SequenceOutput| (output.token_ids.clone(), serde_json::to_value(output.finish_reason).unwrap());
        self.outputs.iter().map(|(id, output)| (*id, said(output))).collect()
    }

    /// The value of a counter.
    fn counter(&self, name: &str) -> u64 {
        let metric = self.metrics.as_array().unwrap().iter().find(|metric| metric["name"] == name);
        metric.map_or(0, |metric| metric["value"].as_u64().unwrap())
    }
}

fn tokenizer() -> Tokenizer {
    let tokens = (0..200).map(|id| format!("t{id}")).collect();
    let source =
        TokenizerSource { model: "gpt2".into(), pre: "gpt-2".into(), tokens, eos: Some(EOS), ..Default::default() };
    Tokenizer::new(source).unwrap()
}

#[test]
fn tokens_are_the_same_however_many_steps_are_in_flight() {
    let mut carried = 0;
    for seed in 0..200 {
        let case = Case::new(&mut Random(seed));
        let one = case.run(1);
        assert!(one.log.borrow().iter().all(|batch| batch.carried.is_empty()), "{seed}");
        for in_flight in [2, 3] {
            let more = case.run(in_flight);
            for ((id, (one, end)), (other, (tokens, ends))) in one.said().iter().zip(&more.said()) {
                assert_eq!(id, other, "{seed}, {in_flight} in flight");
                if end == "abort" || ends == "abort" {
                    // An abort comes at a step's end, and steps end at other times.
                    assert!(one.starts_with(tokens) || tokens.starts_with(one), "{seed}, {in_flight} in flight: {id}");
                } else {
                    assert_eq!((one, end), (tokens, ends), "{seed}, {in_flight} in flight: {id}");
                }
            }
            assert_eq!(one.outputs.len(), more.outputs.len(), "{seed}");
            carried += more.log.borrow().iter().map(|batch| batch.carried.len()).sum::<usize>();
        }
    }
    assert!(carried > 5_000, "{carried} tokens were put in by the device");
}

#[test]
fn counters_are_the_same_where_nothing_is_aborted() {
    for seed in 0..200 {
        let mut case = Case::new(&mut Random(seed));
        let adds = std::mem::take(&mut case.events).into_values().flatten();
        // All at once and with room for all, so that no draft is cut for the sake of others. What "auto" does depends on the clock.
        let same = |event: &Event| matches!(event, Event::Add { speculates, .. } if *speculates != Some(AUTO));
        case.events = BTreeMap::from([(0, adds.filter(same).collect())]);
        (case.capacity.rows, case.capacity.outputs) = (256, 256);
        let (one, two) = (case.run(1), case.run(2));
        for name in [
            "vllm:spec_decode_num_drafts",
            "vllm:spec_decode_num_draft_tokens",
            "vllm:spec_decode_num_accepted_tokens",
            "vllm:prompt_tokens",
            "vllm:generation_tokens",
            "vllm:request_success",
        ] {
            assert_eq!(one.counter(name), two.counter(name), "{seed}: {name}");
        }
    }
}

/// A sequence alone, its prompt in two steps.
fn alone(speculates: Option<SpeculativeConfig>, max_tokens: usize) -> Run {
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions: 64, blocks: 8, block_size: 8 };
    let prompt = (10..20).collect();
    let output = [30, 31, 32, 33, 34, 35, EOS].to_vec();
    let events = BTreeMap::from([(0, vec![Event::Add { text: 0, speculates, max_tokens }])]);
    let case = Case { capacity, prefix_caching: true, texts: vec![(prompt, output)], events };
    case.run(2)
}

#[test]
fn a_step_is_submitted_before_the_one_before_it_is_read() {
    let run = alone(None, 100);
    let rows: Vec<usize> = run.log.borrow().iter().map(|batch| batch.rows.len()).collect();
    // The prompt's ten, a step per token but the first, and one that was for nothing, since nobody knew of the end.
    assert_eq!(rows, [8, 2, 1, 1, 1, 1, 1, 1, 1]);
    let carries = |batch: &Batch| batch.carried.iter().map(|carry| (carry.row, carry.output)).collect::<Vec<_>>();
    assert!(run.log.borrow()[2..].iter().all(|batch| carries(batch) == [(0, 0)]));
    assert_eq!(run.outputs[&0].token_ids, [30, 31, 32, 33, 34, 35, EOS]);
    assert_eq!(run.steps, [vec![], vec![0], vec![0], vec![0], vec![0], vec![0], vec![0], vec![0]]);
}

#[test]
fn where_the_last_token_is_known_to_be_the_last_nothing_is_for_nothing() {
    let rows: Vec<usize> = alone(None, 4).log.borrow().iter().map(|batch| batch.rows.len()).collect();
    assert_eq!(rows, [8, 2, 1, 1, 1]);
}

#[test]
fn a_sequence_that_drafts_waits_for_its_tokens() {
    let run = alone(Some(FIXED), 100);
    assert!(run.log.borrow().iter().all(|batch| batch.carried.is_empty()));
    assert_eq!(run.log.borrow().len(), 8);
}

#[test]
fn a_sequence_that_drafts_as_deep_as_it_pays_tries_to_do_without() {
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions: 128, blocks: 16, block_size: 8 };
    let output: Vec<u32> = (40..80).collect();
    let events = BTreeMap::from([(0, vec![Event::Add { text: 0, speculates: Some(AUTO), max_tokens: 40 }])]);
    let case = Case { capacity, prefix_caching: true, texts: vec![(vec![10, 11], output.clone())], events };
    let run = case.run(3);
    assert_eq!(run.outputs[&0].token_ids, output);
    let carried: Vec<bool> = run.log.borrow().iter().map(|batch| !batch.carried.is_empty()).collect();
    // First it learns what a step costs that is waited for.
    assert!(
        carried[..3].iter().all(|carried| !carried) && carried.iter().filter(|carried| **carried).count() >= 3,
        "{carried:?}"
    );
}

#[test]
fn it_can_be_turned_off() {
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions: 64, blocks: 8, block_size: 8 };
    let mut runner = Scripted::new(capacity, vec![vec![10, 11, 12, 13, EOS]]);
    runner.set_steps_in_flight(2);
    let log = runner.log();
    let mut engine = Engine::new(Box::new(runner), tokenizer(), 200, true, Registry::new("scripted", 64));
    engine.set_async_scheduling(false);
    let params = SamplingParams { temperature: 0.0, ..Default::default() };
    engine.add(&[10, 11], &params, Vec::new(), 0).unwrap();
    while engine.is_busy() {
        engine.step().now_or_never().expect("a scripted step is ready").unwrap();
    }
    assert_eq!(log.borrow().len(), 3);
    assert!(log.borrow().iter().all(|batch| batch.carried.is_empty()));
}
