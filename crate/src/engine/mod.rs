//! Rows in, sampled tokens out: the only room that knows sequences, KV blocks and drafts at once.
//!
//! [`sequence`] is one request's state, [`kv_cache`] owns the blocks, [`requests`] takes requests in and counts them out,
//! [`scheduler`] picks a step's rows as a [`Batch`], [`step`] gives it to the runner, and [`commit`] takes the samples in.
//! Between the two [`process`] shows logits to those who asked for them.
//! [`known_answer`] holds the runner's kernels to arithmetic that no driver compiles.
//! [`recover`] puts another runner in the place of one whose device was lost.
//! [`scripted`] is a runner that knows what will be said, and [`replay`] runs known texts on it.

mod changes;
mod commit;
pub(crate) mod known_answer;
pub mod kv_cache;
mod pooled;
mod process;
mod recover;
pub mod replay;
mod requests;
mod scheduler;
pub mod scripted;
pub mod sequence;
mod step;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use web_time::Instant;

use crate::metrics::{Gauge, ParentRequest, Registry};
use crate::program::{Batch, Capacity, Runner};
use crate::sample::{Grammars, Mask, Sampler};
use crate::speculate::{Bid, HoldRates, SpeculativeConfig, StepCost, StepCosts};
use crate::text::Tokenizer;
pub use changes::changes;
use kv_cache::KvCache;
use scheduler::Share;
use sequence::Waiting;
pub use sequence::{Logprob, Sequence, SequenceOutput, StopReason};

/// The sequences in flight over one runner.
pub struct Engine {
    runner: Box<dyn Runner>,
    /// The runner's.
    capacity: Capacity,
    tokenizer: Arc<Tokenizer>,
    sampler: Sampler,
    /// What compiles the grammars of requests, once there is one.
    grammars: Option<Box<dyn Grammars>>,
    kv: KvCache,
    metrics: Registry,
    speculation: Option<SpeculativeConfig>,
    vocab: usize,
    /// Whether `warm_up` was done.
    warm: bool,
    /// Parts of the row check that were not run on this device.
    unchecked: Vec<usize>,
    waiting: VecDeque<Waiting>,
    /// Sequences whose keys and values are gone: they come before those that wait.
    preempted: VecDeque<Sequence>,
    /// Whether sequences outlive their device.
    recover: bool,
    max_num_waiting: usize,
    /// Positions that a row sees in any layer, its own among them; none where a layer sees all.
    window: Option<usize>,
    running: Vec<Sequence>,
    free_slots: Vec<usize>,
    next_id: u64,
    /// Requests with several sequences, by the id of the first.
    parents: HashMap<u64, Parent>,
    /// Of the next step, as [`Flight`] has it.
    longest: usize,
    started: Instant,
    /// What steps cost by rows, and how guesses fared in all sequences: what `"auto"` goes by.
    costs: StepCosts,
    /// What they cost that run after another without a pause.
    ahead_costs: StepCosts,
    acceptance: HoldRates,
    bids: Vec<Bid>,
    /// The next step, and each sequence's part of it.
    batch: Batch,
    shares: Vec<Share>,
    /// The steps that were submitted and not taken in yet, in order.
    in_flight: VecDeque<Flight>,
    /// Whether a step may be submitted before the one before it has ended.
    async_scheduling: bool,
    /// When a step was last taken off the device.
    finished: Instant,
    /// The tokens that a sequence got in the current step, its draft, and what a row may have. Kept for their memory.
    tokens: Vec<u32>,
    draft: Vec<u32>,
    mask: Mask,
}

/// A step that was submitted.
struct Flight {
    batch: Batch,
    shares: Vec<Share>,
    /// The longest of its sequences, its draft tokens among it (see [`DraftWindow`]).
    ///
    /// [`DraftWindow`]: crate::speculate::DraftWindow
    longest: usize,
    submitted: Instant,
    /// Whether no other step was in flight with it so far.
    alone: bool,
    /// Whether another one was in flight when it was submitted.
    behind: bool,
}

/// A request with `n > 1` whose sequences have not all ended.
struct Parent {
    left: usize,
    request: ParentRequest,
}

impl Engine {
    /// An engine without requests. `vocab` is the number of logits a row has.
    pub fn new(
        runner: Box<dyn Runner>,
        tokenizer: Tokenizer,
        vocab: usize,
        prefix_caching: bool,
        mut metrics: Registry,
    ) -> Self {
        let capacity = runner.capacity();
        metrics.set(Gauge::GpuMemoryBytes, runner.memory_bytes() as f64);
        Self {
            sampler: Sampler::new(tokenizer.eos_ids()),
            kv: KvCache::new(capacity.blocks, capacity.block_size, prefix_caching),
            runner,
            capacity,
            tokenizer: Arc::new(tokenizer),
            grammars: None,
            metrics,
            speculation: None,
            vocab,
            warm: false,
            unchecked: Vec::new(),
            waiting: VecDeque::new(),
            preempted: VecDeque::new(),
            recover: false,
            max_num_waiting: usize::MAX,
            window: None,
            running: Vec::new(),
            free_slots: (0..capacity.slots).rev().collect(),
            next_id: 0,
            parents: HashMap::new(),
            longest: 0,
            started: Instant::now(),
            costs: StepCosts::new(capacity.rows),
            ahead_costs: StepCosts::new(capacity.rows),
            acceptance: HoldRates::default(),
            bids: Vec::new(),
            batch: Batch::default(),
            shares: Vec::with_capacity(capacity.slots),
            in_flight: VecDeque::new(),
            async_scheduling: true,
            finished: Instant::now(),
            tokens: Vec::new(),
            draft: Vec::new(),
            mask: Mask::default(),
        }
    }

    /// Speculation for requests added from now on; `None` for none.
    pub fn set_speculation(&mut self, config: Option<SpeculativeConfig>) {
        if let Some(config) = &config {
            self.metrics.configure_speculation(config.num_speculative_tokens);
        }
        self.speculation = config;
    }

    /// Refuses requests from now on that would let more sequences wait than this.
    pub fn set_max_num_waiting(&mut self, most: usize) {
        self.max_num_waiting = most;
    }

    /// Says whether a step may be submitted before the one before it has ended, where the runner can take it.
    pub fn set_async_scheduling(&mut self, asynchronous: bool) {
        self.async_scheduling = asynchronous;
    }

    /// Says how far back any layer of the model looks: blocks of the KV cache behind that are given back.
    pub fn set_window(&mut self, window: Option<usize>) {
        self.window = window;
    }

    /// The counters.
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// Sets counters and histograms back to zero.
    pub fn reset_metrics(&mut self) {
        self.metrics.reset();
    }

    /// What steps cost by rows, as measured.
    pub fn step_costs(&self) -> Vec<StepCost> {
        self.costs.measured().collect()
    }

    /// Lets `"auto"` go by these costs and not by what it measures; see [`StepCosts::fix`].
    pub fn fix_step_costs(&mut self, table: &[(usize, f64)]) {
        self.costs.fix(table);
    }

    /// What compiles grammars for requests added from now on.
    pub fn set_grammars(&mut self, grammars: Box<dyn Grammars>) {
        self.grammars = Some(grammars);
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Whether any sequence is in flight.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.preempted.is_empty() || !self.running.is_empty()
    }

    /// Seconds since the engine was made.
    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn update_gauges(&mut self) {
        let used = self.kv.len() - self.kv.num_free();
        self.metrics.set(Gauge::RequestsRunning, self.running.len() as f64);
        self.metrics.set(Gauge::RequestsWaiting, (self.waiting.len() + self.preempted.len()) as f64);
        self.metrics.set(Gauge::GpuMemoryBytes, self.runner.memory_bytes() as f64);
        self.metrics.set(Gauge::KvCacheUsage, used as f64 / self.kv.len().max(1) as f64);
    }
}
