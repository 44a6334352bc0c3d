//! A known answer at load: whether the device's kernels compute what they should, those that sample among them.

use super::Engine;
use crate::Result;
use crate::config::SamplingParams;
use crate::metrics::Gauge;
use crate::program::{Batch, BlockEntry, Row, Runner};
use crate::sample::{Sampler, TokenCounts};

/// Rows that are sampled, each in a way of its own.
const ROWS: usize = 8;

/// Tokens of a row whose logits are changed before.
const MOST_LIKELY: usize = 64;

/// The kernels that sample.
pub(crate) const SAMPLING: &str = "adjust, draw";

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
        Ok(Some(SAMPLING.into()))
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
    let mut batch = Batch {
        rows: (0..count).map(row).collect(),
        tables: vec![BlockEntry { slot: 0, index: 0, block: scratch }],
        logits: (0..count).collect(),
        ..Batch::default()
    };
    let logits = runner.step(&batch).await?.logits;
    let rows = || logits.chunks_exact(vocab);
    batch.logits.clear();
    batch.draws = (0..count).map(draw).collect();
    let plain: Vec<Way> = (0..count).map(|i| (params(i), TokenCounts::default())).collect();
    let changed: Vec<Way> = plain.iter().zip(rows()).map(|((params, _), row)| changing(params, row)).collect();
    let mut sampler = Sampler::default();
    for ways in [plain, changed] {
        let changes =
            |(output, (params, counts)): (u32, &Way)| super::changes((output, vocab), params, counts, &[], &[]);
        batch.changes = (0..).zip(&ways).flat_map(changes).collect();
        let tokens = runner.step(&batch).await?.tokens;
        let expected = rows().zip(&ways).zip(&batch.draws).map(|((row, (params, counts)), draw)| {
            sampler.sample(&mut row.to_vec(), params, counts, draw.seed, draw.position, None, None).token
        });
        if expected.zip(tokens).filter(|(expected, token)| expected != token).count() > count / 8 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Parameters, and the tokens that came before.
type Way = (SamplingParams, TokenCounts);

/// Changes the tokens that are most likely by this row: half of them came before, and all have a bias. After that they are about as
/// likely as each other.
fn changing(params: &SamplingParams, row: &[f32]) -> Way {
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    let most = MOST_LIKELY.min(row.len() - 1);
    ids.select_nth_unstable_by(most, |a, b| row[*b as usize].total_cmp(&row[*a as usize]));
    let (seen, others) = ids[..most].split_at(most / 2);
    let mut counts = TokenCounts::default();
    seen.iter().for_each(|token| counts.push(*token));
    let bias = |ids: &[u32], bias: f32| ids.iter().map(|id| (*id, bias)).collect::<Vec<_>>();
    let logit_bias = [bias(seen, 8.0), bias(others, 2.0)].concat().into_iter().collect();
    (SamplingParams { logit_bias, repetition_penalty: 2.0, presence_penalty: 2.0, ..params.clone() }, counts)
}
