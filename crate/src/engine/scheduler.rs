//! Which rows the next step has.

use super::Engine;
use crate::gpu::Row;

/// A sequence's part of a step: how many rows, and how many of them, the last, are sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub rows: usize,
    pub outputs: usize,
}

impl Engine {
    /// Fills `rows` and `shares`, oldest sequence first, within the budget of the plan's rows: what is not computed yet,
    /// and behind a sequence's newest token its draft.
    pub(super) fn schedule(&mut self) {
        let block_size = self.plan.capacity.block_size;
        let mut budget = self.plan.capacity.rows;
        let mut room = self.plan.capacity.outputs;
        self.rows.clear();
        self.shares.clear();
        self.longest = 0;
        for sequence in &mut self.running {
            let pending = sequence.tokens.len() - sequence.computed;
            let mut taken = pending.min(budget);
            if taken == pending && room == 0 {
                taken -= 1;
            }
            let samples = taken == pending;
            sequence.trim_draft(if samples { (budget - taken).min(room.saturating_sub(1)) } else { 0 });
            let draft = sequence.draft();
            let share = Share { rows: taken + draft.len(), outputs: if samples { 1 + draft.len() } else { 0 } };
            let end = sequence.computed + share.rows;
            self.longest = self.longest.max(end);

            let known = sequence.tokens[sequence.computed..sequence.computed + taken].iter();
            for (position, token) in (sequence.computed..).zip(known.chain(draft)) {
                let output = position + 1 >= sequence.tokens.len();
                self.rows.push(Row { token: *token, slot: sequence.slot as u32, position: position as u32, output });
            }
            while sequence.blocks.len() * block_size < end {
                let block = self.kv.take_reserved();
                sequence.promised -= 1;
                self.plan.set_block(sequence.slot, sequence.blocks.len(), block);
                sequence.blocks.push(block);
            }
            budget -= share.rows;
            room -= share.outputs;
            self.shares.push(share);
        }
    }
}
