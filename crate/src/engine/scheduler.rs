//! Which rows the next step has. It makes a [`Batch`](crate::program::Batch) and touches no device.

use super::Engine;
use super::sequence::{InFlight, Sequence};
use crate::program::{BlockEntry, Carry, Row};
use crate::speculate::{Bid, choose_bids};

/// The most of a step's cost, where it is waited for, that one without a pause may cost for `"auto"` to run ahead.
const AHEAD_PAYS: f64 = 0.8;

/// A sequence's part of a step: how many rows, and how many of them, the last, are sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// The sequence. It may have ended when the step does.
    pub id: u64,
    pub rows: usize,
    pub outputs: usize,
    /// How many rows before those, the prompt's, tell how likely the token after them was.
    pub scored: usize,
    /// Whether the logits of those that are sampled are wanted.
    pub logits: bool,
    /// How many rows have a part in an embedding.
    pub pooled: usize,
}

impl Share {
    /// Its rows with output, and how many of them have logits.
    pub fn made(&self) -> (usize, usize) {
        (self.scored + self.outputs, self.scored + if self.logits { self.outputs } else { 0 })
    }
}

impl Engine {
    /// Cuts the drafts of `"auto"` to the tokens that pay for their rows. A prompt's rows in the same step are left out of
    /// the reckoning: they come to the same whatever is drafted.
    pub(super) fn choose_depths(&mut self) {
        self.bids.clear();
        let price = self.costs.price(self.running.len());
        let mut base = 0;
        for (index, sequence) in self.running.iter().enumerate() {
            if sequence.pending() != 1 {
                continue;
            }
            base += 1;
            match &sequence.speculation {
                Some(speculation) if speculation.config.adaptive => {
                    base += sequence.draft_len().0;
                    let gains = speculation.gains(&self.acceptance, price);
                    self.bids.extend(gains.map(|gain| Bid { sequence: index, gain }));
                }
                _ => base += sequence.draft_len().1,
            }
        }
        let ahead = self.ahead_pays().then(|| self.ahead_costs.measured_of(base)).flatten();
        choose_bids(&self.costs, base, ahead, &mut self.bids);
        for (index, sequence) in self.running.iter_mut().enumerate() {
            if sequence.speculation.as_ref().is_some_and(|s| s.config.adaptive) {
                sequence.trim_guess(self.bids.iter().filter(|bid| bid.sequence == index).count());
            }
        }
    }

    /// Whether the next step can be told while another is in flight: nobody's rows depend on tokens that are not known yet, but for
    /// those that the device puts in by itself. Guesses that pay are waited for.
    pub(super) fn can_run_ahead(&mut self) -> bool {
        if self.running.iter().any(|sequence| sequence.in_flight.drafted > 0) {
            return false;
        }
        self.choose_depths();
        let pays = self.ahead_pays();
        let mut in_flight = self.running.iter().filter(|sequence| sequence.in_flight.tokens > 0);
        in_flight.all(|sequence| sequence.can_carry() && (pays || !sequence.drafts()) && sequence.draft_len().1 == 0)
    }

    /// Whether steps that run after another without a pause cost so much less than those that are waited for, that sequences which draft
    /// as deep as it pays do not wait where they have no draft: one that turns up comes a step or two later then.
    fn ahead_pays(&self) -> bool {
        let rows = self.running.len();
        self.running.iter().all(Sequence::can_carry)
            && match (self.costs.measured_of(rows), self.ahead_costs.measured_of(rows)) {
                (Some(alone), Some(ahead)) => ahead < AHEAD_PAYS * alone,
                // It is tried.
                (alone, None) => alone.is_some(),
                (None, _) => false,
            }
    }

    /// Fills the batch's rows and `shares`, oldest sequence first, within the budget of the plan's rows: what is neither computed nor
    /// in flight yet, and after a sequence's newest token its draft. Each sequence that has any gets at least one row: neither a
    /// long prompt nor the drafts of others hold it up.
    pub(super) fn schedule(&mut self) {
        let block_size = self.capacity.block_size;
        let mut budget = self.capacity.rows;
        let mut room = self.capacity.outputs;
        self.shares.clear();
        self.longest = 0;
        // Rows with output so far.
        let mut made = 0;
        let mut others = self.running.len();
        let eos = self.tokenizer.eos_ids();
        for sequence in &mut self.running {
            others -= 1;
            if let Some(window) = self.window {
                // The first row of the step, or of one in flight, sees back to this place, and none after it sees further.
                let behind = (sequence.computed + 1).saturating_sub(window) / block_size;
                self.kv.release(&sequence.blocks[sequence.given_back..behind], 0);
                sequence.given_back = behind;
            }
            let spare = budget - others;
            let pending = sequence.pending();
            if pending == 0 {
                continue;
            }
            let begin = sequence.computed + sequence.in_flight.rows;
            // Logits have room of their own, and each sequence after this one may need a row of it.
            let of_prompt = sequence.prompt_len.saturating_sub(begin);
            let scores = sequence.scores() && of_prompt > 0;
            // So have rows of decoding that are computed again.
            let most = if scores { room - others } else { of_prompt + room - others };
            let taken = pending.min(spare).min(most);
            let samples = taken == pending;
            let scored = if scores { taken - usize::from(samples) } else { 0 };
            let again = if scores { 0 } else { taken.saturating_sub(of_prompt + usize::from(samples)) };
            sequence.trim_draft(if samples { (spare - taken).min(room - others - scored - again - 1) } else { 0 });
            let (_, drafted) = sequence.draft_len();
            let pools = sequence.pool.is_some();
            let outputs = if samples && !pools { 1 + drafted } else { 0 };
            let pooled = sequence.pool.as_ref().map_or(0, |pool| pool.rows(taken, samples));
            let logits = sequence.on_cpu;
            let share = Share { id: sequence.id, rows: taken + drafted, outputs, scored, logits, pooled };
            let end = begin + share.rows;
            self.longest = self.longest.max(end);

            let known = match sequence.in_flight {
                InFlight { tokens: 0, .. } => &sequence.tokens[begin..],
                // The newest token is in flight, and the only one that is left.
                InFlight { output, .. } => {
                    self.batch.carried.push(Carry { row: self.batch.rows.len(), output });
                    &[0]
                }
            };
            let slot = sequence.slot as u32;
            let first_sampled = begin + taken - usize::from(samples);
            for (place, token) in (begin..).zip(known[..taken].iter().chain(sequence.draft())) {
                let sampled = place >= first_sampled && samples && !pools;
                let output = scores || sampled;
                if output && (!sampled || logits) {
                    self.batch.logits.push(made);
                }
                if sampled {
                    let draft = place - first_sampled;
                    self.batch.changes.extend(sequence.changes((made as u32, self.vocab), draft, eos));
                    self.batch.draws.extend(sequence.draw(made as u32, place as u32 + 1));
                }
                made += usize::from(output);
                let prompt = place < sequence.prompt_len;
                self.batch.rows.push(Row { token: *token, slot, position: place as u32, output, prompt });
            }
            self.batch.hidden.extend(self.batch.rows.len() - pooled..self.batch.rows.len());
            sequence.in_flight.rows += share.rows;
            if outputs > 0 {
                sequence.in_flight.tokens += 1;
                sequence.in_flight.drafted += drafted;
                sequence.in_flight.output = made as u32 - 1;
            }
            while sequence.blocks.len() * block_size < end {
                let block = self.kv.take_reserved();
                sequence.promised -= 1;
                self.batch.tables.push(BlockEntry { slot, index: sequence.blocks.len() as u32, block });
                sequence.blocks.push(block);
            }
            budget -= share.rows;
            room -= share.outputs + share.scored + again;
            self.shares.push(share);
        }
    }
}
