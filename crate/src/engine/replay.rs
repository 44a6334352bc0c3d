//! What a known text would have cost at another depth. Drafts never change a token, so a text that was generated once can
//! be run again under any setting without its model.

use std::collections::BTreeMap;

use futures::FutureExt;
use serde::Serialize;

use super::Engine;
use super::scripted::{Log, Scripted};
use crate::Result;
use crate::config::SamplingParams;
use crate::metrics::{Registry, SpeculationStats};
use crate::program::Capacity;
use crate::speculate::{SpeculativeConfig, StepCosts};
use crate::text::{Tokenizer, TokenizerSource};

/// Positions after the longest text, so that its end trims no draft.
const SPARE: usize = 1024;

/// The steps that generate texts after their prefill, each alone in the engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Steps by rows.
    pub steps_by_rows: BTreeMap<usize, u64>,
    /// Draft tokens scheduled.
    pub num_draft_tokens: u64,
    /// Draft tokens accepted, counted before the output is cut.
    pub num_accepted_tokens: u64,
}

/// A prompt and its output.
pub type Text = (Vec<u32>, Vec<u32>);

impl Replay {
    /// Runs `max_tokens` tokens of each output, one text after another, in one engine. What an output has beyond them is what
    /// would have come: without it the last draft counts as rejected where it goes on. `"auto"` decides by `costs`, which
    /// must be [fixed](StepCosts::fix), and learns from text to text.
    ///
    /// # Errors
    /// `config` has impossible bounds of n-grams; a prompt or an output is empty.
    pub fn run(
        texts: &[Text],
        max_tokens: usize,
        config: Option<&SpeculativeConfig>,
        costs: &[(usize, f64)],
    ) -> Result<Self> {
        let mut replay = Self::default();
        let whole = texts.iter().map(|(prompt, output)| [prompt.as_slice(), output].concat()).collect();
        let (mut engine, log) = engine(whole)?;
        engine.set_speculation(config.copied());
        engine.fix_step_costs(costs);
        for (prompt, output) in texts {
            let max_tokens = Some(max_tokens.min(output.len()));
            let params = SamplingParams { temperature: 0.0, max_tokens, ignore_eos: true, ..Default::default() };
            engine.add(prompt, &params, Vec::new(), 0)?;
            while engine.is_busy() {
                // A scripted step never waits.
                engine.step().now_or_never().expect("a scripted step is ready")?;
            }
            for batch in log.take().iter().filter(|batch| batch.rows.iter().all(|row| row.output && !row.prompt)) {
                *replay.steps_by_rows.entry(batch.rows.len()).or_default() += 1;
            }
        }
        if let Some(stats) = SpeculationStats::of(&engine.metrics().snapshot()) {
            replay.num_draft_tokens = stats.num_draft_tokens;
            replay.num_accepted_tokens = stats.num_accepted_tokens;
        }
        Ok(replay)
    }

    /// Steps, whatever their rows.
    pub fn steps(&self) -> u64 {
        self.steps_by_rows.values().sum()
    }

    /// What the steps cost, in the unit of `costs`; none if one has a number of rows whose cost is not known.
    pub fn cost(&self, costs: &[(usize, f64)]) -> Option<f64> {
        let mut table = StepCosts::new(0);
        table.fix(costs);
        self.steps_by_rows.iter().map(|(rows, steps)| Some(table.known(*rows)? * *steps as f64)).sum()
    }
}

/// An engine that says these texts, one at a time.
fn engine(texts: Vec<Vec<u32>>) -> Result<(Engine, Log)> {
    let vocab = texts.iter().flatten().max().map_or(1, |most| *most as usize + 1);
    let block_size = 128;
    let positions = texts.iter().map(Vec::len).max().unwrap_or(0) + SPARE;
    let blocks = positions.div_ceil(block_size);
    let capacity = Capacity { rows: 1024, outputs: 1024, slots: 1, positions, blocks, block_size };
    let runner = Scripted::new(capacity, texts);
    let log = runner.log();
    Ok((Engine::new(Box::new(runner), wordless()?, vocab, false, Registry::new("replay", positions)), log))
}

/// A tokenizer for an engine whose text nobody reads.
fn wordless() -> Result<Tokenizer> {
    let tokens = vec!["a".to_owned()];
    Tokenizer::new(TokenizerSource { model: "gpt2".into(), pre: "gpt-2".into(), tokens, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: [u32; 6] = [1, 2, 3, 4, 5, 6];

    fn fixed(k: usize) -> SpeculativeConfig {
        SpeculativeConfig { num_speculative_tokens: k, adaptive: false, prompt_lookup_min: 2, prompt_lookup_max: 3 }
    }

    fn run(output: &[u32], max_tokens: usize, config: Option<&SpeculativeConfig>) -> Replay {
        Replay::run(&[(PROMPT.to_vec(), output.to_vec())], max_tokens, config, &[]).unwrap()
    }

    #[test]
    fn without_speculation_a_token_is_a_step_of_one_row() {
        assert_eq!(run(&[9, 8, 7, 6], 4, None).steps_by_rows, BTreeMap::from([(1, 3)]));
    }

    #[test]
    fn a_copy_takes_fewer_steps_of_more_rows() {
        // After 1, 2 came 3, 4, 5, which holds; after 4, 5, 6 came 1, 2, 3, which does not.
        let replay = run(&[1, 2, 3, 4, 5, 6, 9, 9], 8, Some(&fixed(3)));
        assert_eq!(replay.steps_by_rows, BTreeMap::from([(1, 2), (4, 2)]));
        assert_eq!((replay.num_draft_tokens, replay.num_accepted_tokens), (6, 3));
    }

    #[test]
    fn what_would_have_come_after_the_end_counts_as_accepted() {
        let output = [1, 2, 3, 4, 5, 6];
        assert_eq!(run(&output, 3, Some(&fixed(3))).num_accepted_tokens, 3);
        assert_eq!(run(&output[..3], 3, Some(&fixed(3))).num_accepted_tokens, 1);
    }

    #[test]
    fn costs_are_those_of_the_rows() {
        let replay = run(&[1, 2, 3, 4, 5, 6], 6, Some(&fixed(3)));
        assert_eq!(replay.cost(&[]), None);
        assert_eq!(replay.cost(&[(1, 1.0), (4, 2.5)]), Some(3.5));
        let text = (PROMPT.to_vec(), vec![1, 2, 3, 4, 5, 6]);
        let twice = Replay::run(&[text.clone(), text], 6, Some(&fixed(3)), &[]).unwrap();
        assert_eq!((twice.steps(), twice.num_draft_tokens), (4, 2 * replay.num_draft_tokens));
    }
}
