//! One step: the whole forward pass over rows as one command buffer. Buffers, pipelines and bind groups are made once.
//!
//! A step is served at one of five tile heights ([`TILES`](super::recorder::TILES)): the same shader with its register
//! tile written out for that many rows, each row summed in the same order in all of them, so that a row's logits do not
//! depend on its company. [`Plan::check_rows`] sees whether the driver keeps that order.

mod answer;
mod measure;

use std::cell::Cell;
use std::collections::BTreeMap;

use burn_wgpu::wgpu::{self, BufferUsages as Usage};
use futures::channel::oneshot;
use minijinja::context;

use super::kernel::Constant;
use super::readback::{read, wait};
use super::record::{Memory, record};
use super::recorder::{Compiled, Dispatch, Pipelines, Recorder, TILES};
use super::timing::Timer;
use super::{Gpu, weights::DeviceWords};
use crate::Result;
use crate::program::{
    Batch, BlockEntry, Buffer, CORRUPTED, Capacity, Parameter, Program, Row, Runner, Running, Shape, StepOutput,
};

pub use measure::{KernelInfo, Source};

/// A recorded model on one device.
pub struct Plan {
    gpu: Gpu,
    shape: Shape,
    /// What the buffers hold.
    pub capacity: Capacity,
    max_blocks: usize,
    pipelines: Pipelines,
    dispatches: Vec<Dispatch>,
    single_kernel_path: bool,
    timer: Option<Timer>,
    step: wgpu::Buffer,
    /// The rows of a step, and after them the block tables: both are small and written by the CPU, and a stage has eight
    /// bindings at least.
    rows: wgpu::Buffer,
    memory: Memory,
    readback: wgpu::Buffer,
    /// What the known answer looks at.
    probes: Vec<answer::Probe>,
    /// Settles when the last step has ended, where that step read nothing back.
    unread: Option<oneshot::Receiver<()>>,
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
    pub fn new(gpu: &Gpu, program: &Program<'_, Parameter<DeviceWords>>, capacity: Capacity) -> Result<Self> {
        let shape = program.shape;
        let allocator = Allocator { gpu, bytes: Cell::new(0) };
        let max_blocks = capacity.table_len();
        let step = allocator.buffer("step", 4, Usage::UNIFORM | Usage::COPY_DST)?;
        let rows = allocator.scratch("rows", capacity.rows * 4 + capacity.slots * max_blocks)?;
        let readback = allocator.buffer(
            "readback",
            capacity.outputs * (shape.vocab + 1) + 6,
            Usage::MAP_READ | Usage::COPY_DST,
        )?;
        let memory = allocator.memory(program, capacity)?;
        let values = context! {
            d => shape.d, ff => shape.ff, heads => shape.heads, kv_heads => shape.kv_heads, head_dim => shape.head_dim,
            q_d => shape.q_d(), kv_d => shape.kv_d(), vocab => shape.vocab,
            corrupted => CORRUPTED,
            block_size => capacity.block_size,
            eps => Constant(shape.eps),
            score_scale => Constant(shape.scales.attention),
            score_cap => shape.softcaps.attention.map(Constant),
        };
        let mut r = Recorder::new(gpu, &step, &rows, values);
        let ends = record(&mut r, gpu, program, &memory)?;
        gpu.check()?;
        let (pipelines, dispatches) = (r.pipelines, r.dispatches);
        let probes = answer::probes(program, &ends, &dispatches);
        let kept = kept(program, &memory);
        let memory_bytes = allocator.bytes.get() + kept.iter().map(DeviceWords::bytes).sum::<u64>();
        Ok(Self {
            gpu: gpu.clone(),
            shape,
            capacity,
            max_blocks,
            pipelines,
            dispatches,
            single_kernel_path: false,
            timer: Timer::new(gpu, 1),
            step,
            rows,
            memory,
            readback,
            probes,
            unread: None,
            memory_bytes,
            _memory: kept,
        })
    }

    /// Writes an entry of a block table.
    pub fn set_block(&self, entry: BlockEntry) {
        let BlockEntry { slot, index, block } = entry;
        let offset = self.capacity.rows * 16 + (slot as usize * self.max_blocks + index as usize) * 4;
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
        let all: Vec<usize> = (0..self.dispatches.len()).collect();
        self.run(rows, want_logits, &all).await
    }

    /// A step of only these dispatches.
    async fn run(&mut self, rows: &[Row], want_logits: bool, dispatches: &[usize]) -> Result<StepOutput> {
        let outputs = self.write_rows(rows);
        if rows.is_empty() {
            return Ok(StepOutput::default());
        }
        let mut encoder =
            self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("step"),
                timestamp_writes: self.timer.as_ref().filter(|_| outputs > 0).map(|timer| timer.writes(0)),
            });
            for i in dispatches {
                self.encode(&self.dispatches[*i], &mut pass, rows.len(), outputs)?;
            }
        }
        if outputs == 0 {
            // Nothing is read back, so nothing says that the step has ended. One may run while the next is recorded; were
            // all of a long prompt queued at once, nobody could come in between.
            self.gpu.queue.submit([encoder.finish()]);
            let (sender, done) = oneshot::channel();
            self.gpu.queue.on_submitted_work_done(move || {
                let _ = sender.send(());
            });
            if let Some(before) = self.unread.replace(done) {
                wait(&self.gpu, before).await?;
            }
            return Ok(StepOutput::default());
        }
        self.unread = None;
        // Read back: the times, the tokens, the logits.
        let time_bytes = self.timer.as_ref().map_or(0, |t| t.resolve(&mut encoder, &self.readback));
        let token_bytes = (outputs * 4) as u64;
        let logit_bytes = if want_logits { (outputs * self.shape.vocab * 4) as u64 } else { 0 };
        encoder.copy_buffer_to_buffer(&self.memory.sampled, 0, &self.readback, time_bytes, token_bytes);
        if logit_bytes > 0 {
            encoder.copy_buffer_to_buffer(
                &self.memory.logits,
                0,
                &self.readback,
                time_bytes + token_bytes,
                logit_bytes,
            );
        }
        self.gpu.queue.submit([encoder.finish()]);
        // A mapped range is a multiple of eight bytes long.
        let bytes = (time_bytes + token_bytes + logit_bytes).next_multiple_of(8);
        let timer = self.timer.as_ref();
        read(&self.gpu, &self.readback, bytes, |view| {
            let (times, rest) = view.split_at(time_bytes as usize);
            let (tokens, rest) = rest.split_at(token_bytes as usize);
            StepOutput {
                tokens: bytemuck::pod_collect_to_vec(tokens),
                logits: bytemuck::pod_collect_to_vec(&rest[..logit_bytes as usize]),
                device_seconds: timer.map(|t| t.seconds(times)[0]),
            }
        })
        .await
    }

    fn encode(&self, dispatch: &Dispatch, pass: &mut wgpu::ComputePass<'_>, rows: usize, outputs: usize) -> Result<()> {
        dispatch.encode(pass, &self.gpu, &self.pipelines, rows, outputs, self.single_kernel_path)
    }

    /// Writes the rows of a step; gives the number of outputs.
    fn write_rows(&self, rows: &[Row]) -> usize {
        let output_rows: Vec<u32> = (0..).zip(rows).filter(|(_, r)| r.output).map(|(i, _)| i).collect();
        let outputs = output_rows.len();
        assert!(rows.len() <= self.capacity.rows && outputs <= self.capacity.outputs, "a step over its capacity");
        let words: Vec<[u32; 4]> = rows
            .iter()
            .enumerate()
            .map(|(i, r)| [r.token, r.slot, r.position, output_rows.get(i).copied().unwrap_or(0)])
            .collect();
        let counts = [rows.len() as u32, outputs as u32, self.max_blocks as u32, self.capacity.rows as u32];
        self.gpu.queue.write_buffer(&self.rows, 0, bytemuck::cast_slice(&words));
        self.gpu.queue.write_buffer(&self.step, 0, bytemuck::cast_slice(&counts));
        outputs
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
        for row in before {
            self.run(&[row], false, &once).await?;
        }
        let alone = self.run(&[probe], true, &once).await?.logits;
        let logits = self.run(&vec![probe; tile], true, &once).await?.logits;
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

    fn launches(&self) -> usize {
        self.dispatches.len()
    }

    fn set_ropes(&mut self, tables: &[Vec<f32>]) {
        for (words, table) in self.memory.ropes.iter().zip(tables) {
            words.write(&self.gpu, 0, bytemuck::cast_slice(table));
        }
    }

    fn step<'a>(&'a mut self, batch: &'a Batch) -> Running<'a, StepOutput> {
        batch.tables.iter().for_each(|entry| self.set_block(*entry));
        Box::pin(self.run_rows(&batch.rows, batch.want_logits))
    }

    fn has_unread(&self) -> bool {
        self.unread.is_some()
    }

    /// Shaders, model shape, tensor types, tuning.
    fn fingerprint(&self) -> u64 {
        self.pipelines.fingerprint()
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

impl Allocator<'_> {
    fn buffer(&self, name: &str, words: usize, usage: Usage) -> Result<wgpu::Buffer> {
        let size = (words as u64 * 4).next_multiple_of(16).max(16);
        let remedy = "lower max_model_len, max_num_seqs or max_num_batched_tokens";
        self.gpu.fits(size, &format!("the step's buffer '{name}'"), remedy)?;
        self.bytes.set(self.bytes.get() + size);
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        Ok(self.gpu.device.create_buffer(&descriptor))
    }

    fn scratch(&self, name: &str, words: usize) -> Result<wgpu::Buffer> {
        self.buffer(name, words, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)
    }

    /// What the program's operations read and write.
    fn memory(&self, program: &Program<'_, Parameter<DeviceWords>>, capacity: Capacity) -> Result<Memory> {
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
        let kv_bytes = (2 * capacity.blocks * capacity.block_size * shape.kv_d() * 4) as u64;
        let kv = (0..shape.layers).map(|_| DeviceWords::empty(gpu, kv_bytes, "the KV cache of a layer"));
        let rope_bytes = (capacity.positions * shape.head_dim * 4) as u64;
        let ropes = (0..program.ropes).map(|_| DeviceWords::empty(gpu, rope_bytes, "the rotary table"));
        Ok(Memory {
            activations,
            squares,
            kv: kv.collect::<Result<_>>()?,
            ropes: ropes.collect::<Result<_>>()?,
            logits: self.scratch("logits", capacity.outputs * shape.vocab)?,
            bests: self.scratch("bests", capacity.outputs * gpu.tuning.parts() * 2)?,
            sampled: self.scratch("sampled", capacity.outputs)?,
        })
    }
}

/// The memory that bind groups name and burn would give to the next tensor.
fn kept(program: &Program<'_, Parameter<DeviceWords>>, memory: &Memory) -> Vec<DeviceWords> {
    let parts = program.parameters().into_iter().flat_map(|parameter| &parameter.parts);
    let words = parts.map(|part| &part.words).chain(&memory.kv).chain(&memory.ropes);
    words.cloned().collect()
}
