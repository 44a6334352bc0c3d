//! Rows of logits as the processors of their requests want them.

use std::collections::BTreeMap;

use super::{Engine, Flight};
use crate::Result;
use crate::program::{CORRUPTED, StepOutput};

/// What became of rows that were shown to processors, by their place among the step's outputs.
pub(super) type Processed = BTreeMap<usize, Result<Vec<f32>>>;

impl Engine {
    /// Shows logits to the processors of their requests, those of drafts too: each row with the tokens that it would follow.
    pub(super) async fn process(&self, flight: &Flight, step: &StepOutput) -> Processed {
        let mut all = Processed::new();
        let (mut first_row, mut first_logits) = (0, 0);
        for share in &flight.shares {
            let rows = first_row + share.scored..first_row + share.made().0;
            let logits = step.logits[(first_logits + share.scored) * self.vocab..].chunks_exact(self.vocab);
            first_row += share.made().0;
            first_logits += share.made().1;
            let Some(sequence) = self.running.iter().find(|sequence| sequence.id == share.id) else { continue };
            if !share.logits || sequence.request.processors.is_empty() {
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
