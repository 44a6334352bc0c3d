//! Rows of logits as the processors of their requests want them.

use std::collections::BTreeMap;

use super::Engine;
use crate::Result;
use crate::program::{CORRUPTED, StepOutput};

/// What became of rows that were shown to processors, by their place among the step's outputs.
pub(super) type Processed = BTreeMap<usize, Result<Vec<f32>>>;

impl Engine {
    /// Shows logits to the processors of their requests, those of drafts too: each row with the tokens that it would follow.
    pub(super) async fn process(&self, step: &StepOutput) -> Processed {
        let mut all = Processed::new();
        let (mut first_row, mut first_logits) = (0, 0);
        for (sequence, share) in self.running.iter().zip(&self.shares) {
            first_row += share.scored;
            first_logits += share.scored;
            let rows = first_row..first_row + share.outputs;
            first_row = rows.end;
            if sequence.counts.is_none() {
                continue;
            }
            let logits = step.logits[first_logits * self.vocab..].chunks_exact(self.vocab);
            first_logits += share.outputs;
            if sequence.request.processors.is_empty() {
                continue;
            }
            let (prompt, output) = sequence.tokens.split_at(sequence.prompt_len);
            let mut output = output.to_vec();
            let mut draft = sequence.draft();
            for (row, logits) in rows.zip(logits) {
                if step.tokens[row] != CORRUPTED {
                    let mut logits = logits.to_vec();
                    let mut changed = Ok(());
                    for processor in &sequence.request.processors {
                        changed = processor.process(prompt, &output, &mut logits).await;
                        if changed.is_err() {
                            break;
                        }
                    }
                    all.insert(row, changed.map(|()| logits));
                }
                output.extend(draft.next());
            }
        }
        all
    }
}
