//! One step: the whole forward pass over rows as one command buffer. Buffers, pipelines and bind groups are made once.
//!
//! A step is served at one of five tile heights ([`TILES`](super::recorder::TILES)): the same shader with its register
//! tile written out for that many rows, each row summed in the same order in all of them, so that a row's logits do not
//! depend on its company. [`Plan::check_rows`] sees whether the driver keeps that order.

mod answer;
mod flight;
mod measure;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use burn_wgpu::wgpu::{self, BufferUsages as Usage};
use minijinja::context;

use super::kernel::{AttentionShare, Constant};
use super::record::{Memory, record};
use super::recorder::{Compiled, Counts, Dispatch, Pipelines, Recorder, TILES};
use super::timing::Timer;
use super::tuning::{CHANGE_SIZE, PARTS};
use super::{Gpu, Tuning, weights::DeviceWords};
use crate::Result;
use crate::program::{
    Batch, BlockEntry, Buffer, CORRUPTED, CacheType, Capacity, Change, Draw, Numerics, Op, Parameter, Precision,
    Program, Row, Runner, Running, Shape, StepOutput,
};

use flight::{Flight, IN_FLIGHT, Recorded};
pub use measure::{KernelInfo, Source};

/// With it a row's token is that of an output of the step before (shaders/embed.wgsl).
const SAMPLED: u32 = 1 << 31;

/// What the KV cache takes at first, as far as it may be as large.
const FIRST_CACHE_BYTES: usize = if cfg!(test) { 1 } else { 32 << 20 };

/// What buffers of the KV cache are called.
const KV_CACHE: &str = "KV cache of a layer";

/// A recorded model on one device.
pub struct Plan {
    gpu: Gpu,
    shape: Shape,
    /// What the buffers hold.
    pub capacity: Capacity,
    max_blocks: usize,
    pipelines: Pipelines,
    /// Whether all pipelines have been begun.
    begun: bool,
    dispatches: Vec<Dispatch>,
    /// Whether keys and values are kept as halves.
    half_cache: bool,
    single_kernel_path: bool,
    timer: Option<Timer>,
    step: wgpu::Buffer,
    /// The rows of a step, and after them the block tables: both are small and written by the CPU, and a stage has eight
    /// bindings at least.
    rows: wgpu::Buffer,
    memory: Memory,
    /// Blocks of the KV cache that have memory, and how many must.
    blocks: usize,
    used_blocks: Cell<usize>,
    /// What results are read through, in turns. They grow to what is wanted of a step.
    readbacks: [wgpu::Buffer; IN_FLIGHT],
    turn: usize,
    in_flight: VecDeque<Flight>,
    recorded: VecDeque<Recorded>,
    /// Of the step that was submitted last.
    counts: Counts,
    /// The gain of the norm before the output matrix.
    gain: Option<DeviceWords>,
    /// What the known answer looks at.
    probes: Vec<answer::Probe>,
    memory_bytes: u64,
    /// Keeps the memory that the bind groups name: burn would give it to the next tensor.
    _memory: Vec<DeviceWords>,
}

impl Plan {
    /// Allocates the buffers, binds the parameters, which may still be on their way, and records the program. Before the
    /// first step they must have arrived, and [`set_ropes`](Runner::set_ropes) been called.
    ///
    /// # Errors
    /// `adapter_too_small` where a buffer or a kernel is over the adapter's limits, or memory ran out.
    pub fn new(
        gpu: &Gpu,
        program: &Program<'_, Parameter<DeviceWords>>,
        capacity: Capacity,
        Numerics { cache, precision }: Numerics,
    ) -> Result<Self> {
        let shape = program.shape;
        let allocator = Allocator::new(gpu);
        let max_blocks = capacity.table_len();
        let step = allocator.buffer("step", 8, Usage::UNIFORM | Usage::COPY_DST)?;
        let table_at = capacity.rows + capacity.rows.div_ceil(4);
        let rows = allocator.scratch("rows", table_at * 4 + capacity.slots * max_blocks)?;
        let readback = || allocator.readback(4 * capacity.outputs as u64 + 64);
        let readbacks = [readback()?, readback()?, readback()?];
        let layer_block_bytes = 2 * capacity.block_size * shape.kv_d() * cache.bytes();
        let first = FIRST_CACHE_BYTES / (shape.layers * layer_block_bytes);
        let blocks = first.clamp(1, capacity.blocks);
        let memory = allocator.memory(program, capacity, blocks * layer_block_bytes, precision)?;
        let values = context! {
            d => shape.d, ff => shape.ff, heads => shape.heads, kv_heads => shape.kv_heads, head_dim => shape.head_dim,
            q_d => shape.q_d(), kv_d => shape.kv_d(), vocab => shape.vocab,
            corrupted => CORRUPTED,
            block_size => capacity.block_size,
            half_cache => cache == CacheType::F16,
            eps => Constant(shape.eps),
            score_scale => Constant(shape.scales.attention),
            score_cap => shape.softcaps.attention.map(Constant),
        };
        let mut r = Recorder::new(gpu, &step, &rows, values);
        let ends = record(&mut r, gpu, program, &memory)?;
        gpu.check()?;
        let (pipelines, dispatches) = (r.pipelines, r.dispatches);
        // A GPU's driver compiles while the weights are on their way. A software adapter would take the processor from them.
        let begun = gpu.tuning == Tuning::Gpu;
        if begun {
            pipelines.begin(gpu)?;
        }
        let probes = answer::probes(program, &ends, &dispatches);
        let kept = kept(program, &memory);
        let memory_bytes = allocator.bytes.get() + kept.iter().map(DeviceWords::bytes).sum::<u64>();
        Ok(Self {
            gpu: gpu.clone(),
            shape,
            capacity,
            max_blocks,
            pipelines,
            begun,
            dispatches,
            half_cache: cache == CacheType::F16,
            single_kernel_path: false,
            timer: Timer::new(gpu, 1),
            step,
            rows,
            memory,
            blocks,
            used_blocks: Cell::new(0),
            readbacks,
            turn: 0,
            in_flight: VecDeque::new(),
            recorded: VecDeque::new(),
            counts: Counts::default(),
            gain: program.ops.iter().find_map(|op| match *op {
                Op::Logits { norm, .. } => Some(norm.whole().words.clone()),
                _ => None,
            }),
            probes,
            memory_bytes,
            _memory: kept,
        })
    }

    /// Writes an entry of a block table. The block has memory when a step runs.
    pub fn set_block(&self, entry: BlockEntry) {
        let BlockEntry { slot, index, block } = entry;
        self.used_blocks.set(self.used_blocks.get().max(block as usize + 1));
        let offset = self.table_at() * 16 + (slot as usize * self.max_blocks + index as usize) * 4;
        self.gpu.queue.write_buffer(&self.rows, offset as u64, &block.to_le_bytes());
    }

    /// Runs one step over `rows`. Rows of one slot must come in ascending positions, and their blocks be set.
    ///
    /// # Panics
    /// When there are more rows or outputs than the capacity: the scheduler's fault.
    ///
    /// # Errors
    /// `device_lost`.
    pub async fn run_rows(&mut self, rows: &[Row], want_logits: bool) -> Result<StepOutput> {
        let outputs = if want_logits { rows.iter().filter(|row| row.output).count() } else { 0 };
        let batch = Batch { rows: rows.to_vec(), logits: (0..outputs).collect(), ..Batch::default() };
        self.step(&batch).await
    }

    fn encode(&self, dispatch: &Dispatch, pass: &mut wgpu::ComputePass<'_>, counts: Counts) -> Result<()> {
        dispatch.encode(pass, &self.gpu, &self.pipelines, counts, self.single_kernel_path)
    }

    /// Whether a row has the prompts' role, where there is one.
    fn is_prompt(&self, row: &Row) -> bool {
        row.prompt && self.gpu.tuning.has_prompt_role()
    }

    /// Rows in the order of the device.
    fn order(&self, rows: &[Row]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| self.is_prompt(&rows[*i]));
        order
    }

    /// Writes the rows of a step, those of decoding first where prompts are a role of their own.
    fn write_rows(&self, batch: &Batch) -> Counts {
        let Batch { rows, carried, changes, draws, .. } = batch;
        let order = self.order(rows);
        let mut output_rows: Vec<(usize, u32)> =
            (0..).zip(&order).filter(|(_, i)| rows[**i].output).map(|(at, i)| (*i, at)).collect();
        output_rows.sort_unstable();
        let decode = rows.iter().filter(|row| !self.is_prompt(row)).count();
        let groups = self.groups(&order, rows, decode);
        let decode_groups = groups.iter().filter(|(first, _)| *first < decode).count();
        let last = order[..decode].iter().map(|i| rows[*i].position as usize).max();
        let counts = Counts {
            rows: rows.len(),
            decode,
            outputs: output_rows.len(),
            draws: draws.len(),
            // So that many steps have as many workgroups.
            changes: if changes.is_empty() { 0 } else { changes.len().next_power_of_two().max(CHANGE_SIZE) },
            decode_groups,
            prompt_groups: groups.len() - decode_groups,
            splits: last.zip(self.share()).map_or(0, |(last, share)| last / share.split + 1),
        };
        assert!(
            counts.rows <= self.capacity.rows && counts.outputs <= self.capacity.outputs,
            "a step over its capacity"
        );
        assert!(self.share().is_none() || decode <= self.capacity.outputs, "rows of decoding are sampled");
        let mut words: Vec<[u32; 4]> = order
            .iter()
            .enumerate()
            .map(|(at, i)| {
                let Row { token, slot, position, .. } = rows[*i];
                let carry = carried.iter().find(|carry| carry.row == *i);
                let token = carry.map_or(token, |carry| SAMPLED | carry.output);
                [token, slot, position, output_rows.get(at).map_or(0, |(_, row)| *row)]
            })
            .collect();
        if !groups.is_empty() {
            words.resize(self.capacity.rows, [0; 4]);
            let mut packed: Vec<u32> = groups.iter().map(|(first, count)| (first | count << 16) as u32).collect();
            packed.resize(packed.len().next_multiple_of(4), 0);
            words.extend(packed.chunks_exact(4).map(|four| <[u32; 4]>::try_from(four).expect("four")));
        }
        let numbers = [
            counts.rows,
            counts.outputs,
            self.max_blocks,
            self.table_at(),
            counts.decode,
            self.capacity.rows,
            counts.decode_groups,
            changes.len(),
        ]
        .map(|n| n as u32);
        self.gpu.queue.write_buffer(&self.rows, 0, bytemuck::cast_slice(&words));
        self.gpu.queue.write_buffer(&self.step, 0, bytemuck::cast_slice(&numbers));
        counts
    }

    /// Gives the KV cache memory for the blocks that are in use. It at least doubles, so that little is copied.
    fn grow_cache(&mut self) -> Result<()> {
        let used = self.used_blocks.get();
        if used <= self.blocks {
            return Ok(());
        }
        let blocks = used.max(2 * self.blocks).min(self.capacity.blocks);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut replaced = Vec::new();
        for layer in 0..self.memory.kv.len() {
            let words = self.memory.kv[layer].size() as usize / 4 / self.blocks * blocks;
            let new = Allocator::new(&self.gpu).scratch(KV_CACHE, words)?;
            let old = std::mem::replace(&mut self.memory.kv[layer], new.clone());
            encoder.copy_buffer_to_buffer(&old, 0, &new, 0, old.size());
            self.replace(&old, &new);
            replaced.push(old);
        }
        self.gpu.queue.submit([encoder.finish()]);
        // A browser would keep them until it next collects garbage.
        replaced.iter().for_each(wgpu::Buffer::destroy);
        self.blocks = blocks;
        Ok(())
    }

    /// Lets all dispatches bind another buffer in the place of one, which nothing to come names any more.
    fn replace(&mut self, old: &wgpu::Buffer, new: &wgpu::Buffer) {
        self.dispatches.iter_mut().for_each(|dispatch| dispatch.replace(&self.gpu, &self.pipelines, old, new));
        self.recorded.clear();
        self.memory_bytes += new.size();
        self.memory_bytes -= old.size();
    }

    /// Writes what becomes of logits: (place, bias, factor, less) of each.
    fn write_changes(&mut self, changes: &[Change]) -> Result<()> {
        if self.memory.changes.size() < 16 * changes.len() as u64 {
            let new = Allocator::new(&self.gpu).scratch("changes", 4 * changes.len().next_power_of_two())?;
            let old = std::mem::replace(&mut self.memory.changes, new.clone());
            self.replace(&old, &new);
            old.destroy();
        }
        let words = |change: &Change| {
            let place = change.output * self.shape.vocab as u32 + change.token;
            [place, change.bias.to_bits(), change.factor.to_bits(), change.less.to_bits()]
        };
        if !changes.is_empty() {
            let words: Vec<[u32; 4]> = changes.iter().map(words).collect();
            self.gpu.queue.write_buffer(&self.memory.changes, 0, bytemuck::cast_slice(&words));
        }
        Ok(())
    }

    /// Writes how rows are sampled: (output, position, seed) and (1 / temperature, largest distance, top_k, top_p) of each.
    fn write_draws(&self, draws: &[Draw]) {
        let words = |draw: &Draw| {
            // A distance is in 2^-26 nats; of no `min_p` it is as large as that of any token.
            let most = (-f64::from(draw.min_p).ln() * f64::from(1 << 26)).min(f64::from(u32::MAX - 1)) as u32;
            let scale = draw.temperature.recip().to_bits();
            let seed = [draw.seed as u32, (draw.seed >> 32) as u32];
            [draw.output, draw.position, seed[0], seed[1], scale, most, draw.top_k, draw.top_p.to_bits()]
        };
        if !draws.is_empty() {
            let words: Vec<[u32; 8]> = draws.iter().map(words).collect();
            self.gpu.queue.write_buffer(&self.memory.draws, 0, bytemuck::cast_slice(&words));
        }
    }

    /// How attention is shared out, on GPUs.
    fn share(&self) -> Option<AttentionShare> {
        self.memory.splits.as_ref().map(|(share, _)| *share)
    }

    /// Where the block tables begin in `rows`, in vec4: after the rows and their groups.
    fn table_at(&self) -> usize {
        self.capacity.rows + self.capacity.rows.div_ceil(4)
    }

    /// The rows in this order, as runs of one slot and one role: each run's first place and length, which attention takes
    /// together. None where attention takes rows alone.
    fn groups(&self, order: &[usize], rows: &[Row], decode: usize) -> Vec<(usize, usize)> {
        let Some(share) = self.share() else { return Vec::new() };
        let mut groups: Vec<(usize, usize)> = Vec::new();
        for (at, i) in order.iter().enumerate() {
            match groups.last_mut() {
                Some((first, count))
                    if *count < share.row_count && at != decode && rows[order[*first]].slot == rows[*i].slot =>
                {
                    *count += 1;
                }
                _ => groups.push((at, 1)),
            }
        }
        groups
    }

    /// The tiles of more than one row that a step may have, the largest last.
    pub fn tiles(&self) -> Vec<usize> {
        let most = self.capacity.rows.min(self.capacity.outputs);
        TILES.into_iter().filter(|t| (2..=most).contains(t)).collect()
    }

    /// Compares one row alone with the same row in every row of a tile, bit for bit, on a small fixed input; where they
    /// differ, every step from then on takes the largest tile's kernels. WGSL lets a compiler reassociate, so two pipelines
    /// of one source may round differently. It runs each pipeline once, not the whole model; slot 0 must have its first
    /// block set, whose first four positions it overwrites. Gives [`Plan::single_kernel_path`].
    ///
    /// # Errors
    /// `device_lost`.
    pub async fn check_tile(&mut self, tile: usize) -> Result<bool> {
        let once: Vec<usize> = (0..self.dispatches.len())
            .filter(|i| self.dispatches[..*i].iter().all(|d| d.kernel != self.dispatches[*i].kernel))
            .collect();
        let row = |position| Row {
            token: position % self.shape.vocab as u32,
            slot: 0,
            position,
            output: position == 3,
            prompt: false,
        };
        let before = [row(0), row(1), row(2)];
        let probe = row(3);
        let batch = |rows: Vec<Row>| Batch {
            logits: (0..rows.iter().filter(|row| row.output).count()).collect(),
            rows,
            ..Batch::default()
        };
        for row in before {
            self.run(&batch(vec![row]), once.clone()).await?;
        }
        let alone = self.run(&batch(vec![probe]), once.clone()).await?.logits;
        let logits = self.run(&batch(vec![probe; tile]), once).await?.logits;
        let same = |row: &[f32]| row.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
        self.single_kernel_path |= !logits.chunks(self.shape.vocab).all(same);
        Ok(self.single_kernel_path)
    }
}

impl Runner for Plan {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Of a step of decoding whose sequences are of one split.
    fn launches(&self) -> usize {
        self.dispatches.iter().filter(|dispatch| dispatch.is_always()).count()
    }

    fn set_ropes(&mut self, tables: &[Vec<f32>]) {
        for (words, table) in self.memory.ropes.iter().zip(tables) {
            words.write(&self.gpu, 0, bytemuck::cast_slice(table));
        }
    }

    fn steps_in_flight(&self) -> usize {
        match self.gpu.tuning {
            // Its steps are long, and the processor has other work as well.
            Tuning::Cpu => 2,
            Tuning::Gpu => IN_FLIGHT,
        }
    }

    fn submit(&mut self, batch: &Batch) -> Result<()> {
        batch.tables.iter().for_each(|entry| self.set_block(*entry));
        self.begin(batch)
    }

    fn finish<'a>(&'a mut self, _batch: &'a Batch) -> Running<'a, StepOutput> {
        Box::pin(self.end())
    }

    /// A software adapter samples slower than the CPU itself.
    fn draws(&self) -> bool {
        self.gpu.tuning == Tuning::Gpu
    }

    /// Shaders, model shape, tensor types, tuning.
    fn fingerprint(&self) -> u64 {
        self.pipelines.fingerprint()
    }

    fn compile(&mut self) -> Running<'_, ()> {
        Box::pin(async {
            if !std::mem::replace(&mut self.begun, true) {
                self.pipelines.begin(&self.gpu)?;
            }
            #[cfg(target_family = "wasm")]
            self.gpu.compiler.all().await;
            self.gpu.check()
        })
    }

    fn row_checks(&self) -> usize {
        self.tiles().len()
    }

    fn check_rows(&mut self, part: usize, scratch: u32) -> Running<'_, bool> {
        self.set_block(BlockEntry { slot: 0, index: 0, block: scratch });
        let tile = self.tiles()[part];
        Box::pin(self.check_tile(tile))
    }

    fn known_answer(&mut self, scratch: u32) -> Running<'_, Option<String>> {
        Box::pin(self.first_wrong_kernel(scratch))
    }

    fn single_kernel_path(&self) -> bool {
        self.single_kernel_path
    }

    fn set_single_kernel_path(&mut self, single: bool) {
        self.single_kernel_path = single;
    }
}

/// Makes a plan's buffers and counts their bytes.
struct Allocator<'a> {
    gpu: &'a Gpu,
    bytes: Cell<u64>,
}

impl<'a> Allocator<'a> {
    fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, bytes: Cell::new(0) }
    }

    fn buffer(&self, name: &str, words: usize, usage: Usage) -> Result<wgpu::Buffer> {
        let size = (words as u64 * 4).next_multiple_of(16).max(16);
        let remedy = "lower max_model_len, max_num_seqs or max_num_batched_tokens";
        self.gpu.fits(size, &format!("the step's buffer '{name}'"), remedy)?;
        self.bytes.set(self.bytes.get() + size);
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        Ok(self.gpu.device.create_buffer(&descriptor))
    }

    /// What a step's results are read through.
    fn readback(&self, bytes: u64) -> Result<wgpu::Buffer> {
        self.buffer("readback", bytes.div_ceil(4) as usize, Usage::MAP_READ | Usage::COPY_DST)
    }

    fn scratch(&self, name: &str, words: usize) -> Result<wgpu::Buffer> {
        self.buffer(name, words, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)
    }

    /// What the program's operations read and write.
    fn memory(
        &self,
        program: &Program<'_, Parameter<DeviceWords>>,
        capacity: Capacity,
        layer_bytes: usize,
        precision: Precision,
    ) -> Result<Memory> {
        let Self { gpu, .. } = *self;
        let shape = &program.shape;
        let (mut activations, mut squares) = (BTreeMap::new(), BTreeMap::new());
        for buffer in program.buffers() {
            let words = capacity.rows * buffer.width(shape);
            activations.insert(buffer, self.scratch(&format!("{buffer:?}"), words)?);
            if matches!(buffer, Buffer::Residual | Buffer::Branch) {
                squares.insert(buffer, self.scratch(&format!("{buffer:?} squares"), words / 4)?);
            }
        }
        let kv = (0..shape.layers).map(|_| self.scratch(KV_CACHE, layer_bytes / 4));
        let share = (gpu.tuning == Tuning::Gpu).then(|| AttentionShare::new(shape, capacity.positions));
        let splits = share
            .map(|share| {
                let vec4 = capacity.outputs * shape.heads * share.splits * (share.lanes + 1);
                Ok((share, self.scratch("attention's splits", vec4 * 4)?))
            })
            .transpose()?;
        let rope_bytes = (capacity.positions * shape.head_dim * 4) as u64;
        let ropes = (0..program.ropes).map(|_| DeviceWords::empty(gpu, rope_bytes, "the rotary table"));
        Ok(Memory {
            activations,
            squares,
            gained: self.scratch("gained", capacity.rows * shape.d)?,
            bytes: (precision == Precision::Fast)
                .then(|| self.scratch("bytes", capacity.rows * shape.d.max(shape.ff).max(shape.q_d()) * 5 / 16))
                .transpose()?,
            kv: kv.collect::<Result<_>>()?,
            splits,
            ropes: ropes.collect::<Result<_>>()?,
            logits: self.scratch("logits", capacity.outputs * shape.vocab)?,
            bests: self.scratch("bests", capacity.outputs * PARTS * 2)?,
            sampled: self.scratch("sampled", capacity.outputs)?,
            changes: self.scratch("changes", 4 * CHANGE_SIZE)?,
            draws: self.scratch("draws", capacity.outputs * 8)?,
        })
    }
}

/// The memory that bind groups name and burn would give to the next tensor.
fn kept(program: &Program<'_, Parameter<DeviceWords>>, memory: &Memory) -> Vec<DeviceWords> {
    let parts = program.parameters().into_iter().flat_map(|parameter| &parameter.parts);
    let words = parts.map(|part| &part.words).chain(&memory.ropes);
    words.cloned().collect()
}
