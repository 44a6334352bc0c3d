//! What a step is, for whoever runs it: a [`Batch`] goes into a [`Runner`], a [`StepOutput`] comes out.

use std::future::Future;
use std::pin::Pin;

use crate::Result;

/// One token of one sequence at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token id.
    pub token: u32,
    /// Which block table is the sequence's.
    pub slot: u32,
    /// Place in the sequence, from 0.
    pub position: u32,
    /// Whether logits are wanted for it.
    pub output: bool,
    /// Whether the token is one of the prompt's. A runner may sum such rows in another order than those of decoding, but never
    /// in an order that depends on the other rows of the step.
    pub prompt: bool,
}

/// An entry of a block table: positions `index * block_size ..` of `slot` lie in `block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// Whose table.
    pub slot: u32,
    /// Which run of `block_size` positions.
    pub index: u32,
    /// The block of the KV cache.
    pub block: u32,
}

/// What becomes of one logit before a token is sampled, where the runner does that: `bias` is added; then a positive one is divided by
/// `factor` and another multiplied with it; then `less` is taken off. A `factor` of 0 leaves the token out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The row, by its place among those with `output`, and the token.
    pub output: u32,
    pub token: u32,
    pub bias: f32,
    pub factor: f32,
    pub less: f32,
}

/// How the token of a row is sampled where the runner does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The row, by its place among those with `output`.
    pub output: u32,
    /// The place of the token in its sequence, and the request's seed: the noise is made of both and the token id.
    pub position: u32,
    pub seed: u64,
    /// Above 0.
    pub temperature: f32,
    /// Tokens this much less likely than the most likely one are left out; 0 leaves out none.
    pub min_p: f32,
    /// How many of the most likely tokens are kept; 0 keeps all.
    pub top_k: u32,
    /// The share of the probability that the most likely tokens that are kept sum to; 1 keeps all.
    pub top_p: f32,
}

/// A row whose token is the one that the step before this one sampled: it may be submitted before that token is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    /// The row, by its place in the batch. Its own token is not looked at.
    pub row: usize,
    /// The token, by its place among the outputs of the step that was submitted before.
    pub output: u32,
}

/// One step's work. It is a value: whoever makes it touches no device, and a runner knows no sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What is computed. Rows of one slot come one after another, in ascending positions.
    pub rows: Vec<Row>,
    /// Tokens of rows that only the device knows so far; none for a runner that has one step [in flight](Runner::steps_in_flight).
    pub carried: Vec<Carry>,
    /// What changed in the block tables since the batch before.
    pub tables: Vec<BlockEntry>,
    /// The rows whose logits are wanted, ascending, by their place among those with `output`.
    pub logits: Vec<usize>,
    /// What becomes of logits before all else, for a runner that [`draws`](Runner::draws); at most one for each token of a row. Who
    /// wants the logits of such a row gets the changed ones.
    pub changes: Vec<Change>,
    /// What is sampled in place of the greedy token, for a runner that [`draws`](Runner::draws); at most one for each row.
    pub draws: Vec<Draw>,
    /// The rows, ascending, whose hidden states are wanted.
    pub hidden: Vec<usize>,
}

impl Batch {
    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.carried.clear();
        self.tables.clear();
        self.logits.clear();
        self.changes.clear();
        self.draws.clear();
        self.hidden.clear();
    }
}

/// What a runner's memory holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows per step.
    pub rows: usize,
    /// Rows with logits per step.
    pub outputs: usize,
    /// Sequences.
    pub slots: usize,
    /// Positions per sequence.
    pub positions: usize,
    /// Blocks of the KV cache, over all sequences.
    pub blocks: usize,
    /// Positions per block.
    pub block_size: usize,
}

impl Capacity {
    /// Entries of a slot's block table.
    pub fn table_len(&self) -> usize {
        self.positions.div_ceil(self.block_size)
    }
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// As they are computed.
    #[default]
    F32,
    /// As IEEE halves: half of the memory, eleven bits of a value.
    F16,
}

impl CacheType {
    /// torch's name, as vLLM reports it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// What products with quantised weights take activations as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    Full,
    /// Eight bits and a scale for each 32.
    Fast,
}

impl Precision {
    /// What options call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Fast => "fast",
        }
    }
}

/// What numbers are kept and multiplied as. All of it treats every row alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numerics {
    /// Keys and values.
    pub cache: CacheType,
    /// Activations.
    pub precision: Precision,
}

/// In place of a token: the row's logits hold a NaN or an infinity.
pub const CORRUPTED: u32 = u32::MAX;

/// The result of a step.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// For each row with `output`, in their order, the greedy token or the drawn one, or [`CORRUPTED`].
    pub tokens: Vec<u32>,
    /// Logits of the batch's `logits` rows, `[rows, vocab]` f32.
    pub logits: Vec<f32>,
    /// Hidden states of the batch's `hidden` rows, `[rows, d]` f32: what the output matrix would be multiplied with.
    pub hidden: Vec<f32>,
    /// Seconds the device spent on it, where it has a clock.
    pub device_seconds: Option<f64>,
}

/// A future of a runner, which runs where it was made: a browser's promises stay in their thread.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Runs a program's steps over memory of its own: parameters, KV cache, activations.
pub trait Runner {
    /// What its memory holds.
    fn capacity(&self) -> Capacity;

    /// Bytes of that memory.
    fn memory_bytes(&self) -> u64;

    /// Launches per step: dispatches on a GPU, operations on a CPU.
    fn launches(&self) -> usize;

    /// Writes the rotary tables, each `[positions, head_dim / 2, 2]`: cosine and sine of each pair of neighbours.
    fn set_ropes(&mut self, tables: &[Vec<f32>]);

    /// How many steps may be submitted before the first of them is finished.
    fn steps_in_flight(&self) -> usize {
        1
    }

    /// Begins a step. A runner that computes in its caller's thread leaves all of it to [`finish`](Self::finish).
    ///
    /// # Panics
    /// When the batch is over the capacity: the scheduler's fault.
    ///
    /// # Errors
    /// `device_lost`.
    fn submit(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    /// Waits for the step that was submitted first of those in flight; `batch` is what it was submitted with.
    ///
    /// # Errors
    /// `device_lost`.
    fn finish<'a>(&'a mut self, batch: &'a Batch) -> Running<'a, StepOutput>;

    /// Runs one step, with none in flight.
    ///
    /// # Panics
    /// As [`submit`](Self::submit).
    ///
    /// # Errors
    /// `device_lost`.
    fn step<'a>(&'a mut self, batch: &'a Batch) -> Running<'a, StepOutput> {
        Box::pin(async move {
            self.submit(batch)?;
            self.finish(batch).await
        })
    }

    /// Whether it samples ([`Batch::changes`], [`Batch::draws`]). Who needs the logits themselves gets them in any case.
    fn draws(&self) -> bool {
        false
    }

    /// Tells the kernels of this model on this kind of device from others: what [`check_rows`](Self::check_rows) found may be
    /// kept by it.
    fn fingerprint(&self) -> u64;

    /// Compiles what all steps to come may need, where that is faster than one kernel after another as steps first need them.
    ///
    /// # Errors
    /// `device_lost`.
    fn compile(&mut self) -> Running<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How many parts the row check has.
    fn row_checks(&self) -> usize;

    /// One part of the row check: compares one row alone with the same row in the company of others, bit for bit. It writes
    /// over `scratch`, a block of the KV cache, and slot 0's block table. Gives whether one kernel must serve all steps from
    /// now on, since the bits differ.
    ///
    /// # Errors
    /// `device_lost`.
    fn check_rows(&mut self, part: usize, scratch: u32) -> Running<'_, bool>;

    /// Holds what the kernels make of one row of a small fixed input to plain arithmetic; gives the name of the first that is
    /// off by more than rounding. It writes over `scratch`, a block of the KV cache, and slot 0's block table. A runner whose
    /// kernels no driver compiles has nothing to ask.
    ///
    /// # Errors
    /// `device_lost`.
    fn known_answer(&mut self, _scratch: u32) -> Running<'_, Option<String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether one kernel serves all steps.
    fn single_kernel_path(&self) -> bool;

    /// Takes what [`check_rows`](Self::check_rows) found before, in all parts, with the same fingerprint on the same device.
    fn set_single_kernel_path(&mut self, single: bool);
}
