//! Prompts that become an embedding: nothing is sampled, and their hidden states are pooled.
//!
//! As vLLM's `LLM.embed` of a model that generates: the hidden states after the last norm, the last token's or the mean of all,
//! cut to `dimensions`, then normalised.

use std::rc::Rc;

use super::Engine;
use super::sequence::{Request, SequenceOutput, Waiting};
use crate::config::{Pooling, PoolingParams, SamplingParams};
use crate::metrics::{FinishReason, IterationStats};
use crate::text::StopStrings;
use crate::{Error, ErrorCode, Result};

/// An embedding in the making.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    params: PoolingParams,
    sum: Vec<f64>,
    count: usize,
}

impl Pool {
    pub fn new(params: PoolingParams) -> Self {
        Self { params, sum: Vec::new(), count: 0 }
    }

    /// Whether every token's hidden state has a part in it.
    pub fn takes_all(&self) -> bool {
        self.params.pooling == Pooling::Mean
    }

    /// How many of a step's rows, the last, have a part in it; `ends` where these are the prompt's end.
    pub fn rows(&self, rows: usize, ends: bool) -> usize {
        if self.takes_all() { rows } else { usize::from(ends) }
    }

    /// Takes hidden states in, of so many values each.
    fn add(&mut self, states: &[f32], width: usize) {
        self.sum.resize(width, 0.0);
        for state in states.chunks_exact(width) {
            self.count += 1;
            self.sum.iter_mut().zip(state).for_each(|(sum, x)| *sum += f64::from(*x));
        }
    }

    /// The embedding; none where a value is a NaN or an infinity.
    fn finish(&self) -> Option<Vec<f32>> {
        let Self { params, sum, count } = self;
        let values = &sum[..params.dimensions.map_or(sum.len(), |most| most.min(sum.len()))];
        let scale = if params.normalize {
            values.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE)
        } else {
            *count as f64
        };
        let embedding: Vec<f32> = values.iter().map(|x| (x / scale) as f32).collect();
        embedding.iter().all(|x| x.is_finite()).then_some(embedding)
    }
}

impl Engine {
    /// Queues a prompt for its embedding. Returns its sequence's id, whose one output has it.
    ///
    /// # Errors
    /// `invalid_prompt` and `prompt_too_long` as [`add`](Self::add), but that no token must fit after it; `queue_full`.
    pub fn add_pooling(&mut self, prompt: &[u32], pooling: PoolingParams) -> Result<u64> {
        self.check_prompt(prompt, 0)?;
        self.check_room(prompt.len())?;
        self.check_queue(1)?;
        let request = Rc::new(Request {
            parent: None,
            prompt: prompt.into(),
            stops: StopStrings::new(Vec::new(), false)?,
            speculation: None,
            constraint: None,
            processors: Vec::new(),
            params: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            pooling: Some(pooling),
            max_len: prompt.len(),
            room: prompt.len(),
            arrival: self.now(),
        });
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Waiting { id, seed: 0, request });
        self.update_gauges();
        Ok(id)
    }

    /// Takes a step's hidden states into an embedding; gives it when the prompt has come to its end.
    pub(super) fn pool(
        &mut self,
        index: usize,
        rows: usize,
        states: &[f32],
        stats: &mut IterationStats,
    ) -> Option<SequenceOutput> {
        let sequence = &mut self.running[index];
        let pool = sequence.pool.as_mut()?;
        let pooled = pool.rows(rows, sequence.computed + rows == sequence.prompt_len);
        if let Some(width) = states.len().checked_div(pooled) {
            pool.add(states, width);
        }
        if sequence.computed + rows < sequence.prompt_len {
            self.advance_prefill(index, rows);
            return None;
        }
        let embedding = pool.finish();
        let id = sequence.id;
        self.finish_prefill(index, stats);
        self.running[index].computed += rows;
        let (finish_reason, error) = match embedding {
            Some(_) => (FinishReason::Stop, None),
            None => (FinishReason::Error, Some(corrupted())),
        };
        stats.corrupted_requests += usize::from(error.is_some());
        Some(SequenceOutput { id, embedding, error, finish_reason: Some(finish_reason), ..Default::default() })
    }
}

fn corrupted() -> Error {
    let message = "a hidden state of this prompt holds a NaN or an infinity, so there is no embedding; the model's file is damaged or \
                   overflows on this adapter: load another file or quantisation of it";
    Error::new(ErrorCode::CorruptedLogits, message)
}
