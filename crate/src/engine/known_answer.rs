//! A known answer at load: whether the device's kernels compute what they should, those that sample among them.

use super::Engine;
use crate::Result;
use crate::config::SamplingParams;
use crate::metrics::Gauge;
use crate::program::{Batch, BlockEntry, Row, Runner};
use crate::sample::{Sampler, TokenCounts};

/// Rows that are sampled, each in a way of its own.
const ROWS: usize = 8;

impl Engine {
    /// Sees whether the device's kernels compute what they should, on one row ([`Runner::known_answer`]), and whether it samples as the
    /// sampler would; gives the name of the first kernel that does not. While no sequence is in flight.
    ///
    /// # Errors
    /// `device_lost`.
    pub async fn known_answer(&mut self) -> Result<Option<String>> {
        debug_assert!(!self.is_busy(), "it writes over slot 0's block table");
        self.rest().await?;
        self.runner.compile().await?;
        let scratch = self.kv.scratch();
        let wrong = self.runner.known_answer(scratch).await?;
        if wrong.is_some() || !self.runner.draws() || samples_well(&mut *self.runner, self.vocab, scratch).await? {
            return Ok(wrong);
        }
        Ok(Some("draw".into()))
    }

    /// That it runs on this device since another one failed its known answer.
    pub fn set_wrong_kernel(&mut self) {
        self.metrics.set(Gauge::WrongKernel, 1.0);
    }
}

/// Whether a runner that draws gives the sampler's tokens. One in eight may be another: where two are as good, rounding decides.
pub(crate) async fn samples_well(runner: &mut dyn Runner, vocab: usize, scratch: u32) -> Result<bool> {
    let capacity = runner.capacity();
    let count = ROWS.min(capacity.rows).min(capacity.outputs).min(capacity.block_size).min(capacity.positions);
    // Each way twice. The flatter the logits, the more a cut matters.
    let params = |i: usize| SamplingParams {
        temperature: 2f32.powf(i as f32 / 2.0),
        top_k: if i % 4 == 1 { 3 } else { 0 },
        top_p: if i % 4 == 2 { 0.1 } else { 1.0 },
        min_p: if i % 4 == 3 { 0.8 } else { 0.0 },
        ..SamplingParams::default()
    };
    let draw = |i: usize| params(i).draw(i as u32, i as u32, 0x5eed_0000_5eed);
    let row =
        |i: usize| Row { token: (i * 31 % vocab) as u32, slot: 0, position: i as u32, output: true, prompt: false };
    let batch = Batch {
        rows: (0..count).map(row).collect(),
        tables: vec![BlockEntry { slot: 0, index: 0, block: scratch }],
        logits: (0..count).collect(),
        draws: (0..count).map(draw).collect(),
        ..Batch::default()
    };
    let mut made = runner.step(&batch).await?;
    let mut sampler = Sampler::default();
    let rows = made.logits.chunks_exact_mut(vocab).zip(&made.tokens).zip(&batch.draws).enumerate();
    let mut others = 0;
    for (i, ((logits, token), draw)) in rows {
        let counts = TokenCounts::default();
        let sampled = sampler.sample(logits, &params(i), &counts, draw.seed, draw.position, None, None);
        others += usize::from(sampled.token != *token);
    }
    Ok(others <= count / 8)
}
