//! One step: the rows' lists into the kernels' memory, the kernels over all operations, the tokens and logits out of it.

use std::collections::BTreeMap;
use std::future::ready;

use embergram_kernels::scratch_bytes;
use embergram_kernels::step::{self, Kind, Step};

use super::record::{self, Memory, record};
use super::{Kernels, SharedKernels, reserve};
use crate::error::Result;
use crate::program::{
    Batch, BlockEntry, Buffer, CacheType, Capacity, Numerics, Parameter, Precision, Program, Row, Runner, Running,
    Shape, StepOutput, rms_norm,
};

/// About how much memory the KV cache takes at a time.
const KV_BYTES: u64 = 8 << 20;

/// Heights of tiles that the row check looks at: every one of the kernels for decoding, and so all of those for prompts.
const TILES: [usize; 6] = [2, 3, 4, 5, 6, 8];

/// Runs a program on the CPU.
pub struct CpuRunner {
    kernels: SharedKernels,
    capacity: Capacity,
    shape: Shape,
    /// What no step changes.
    plain: Step,
    /// Where operations begin: all, and for the row check one of each kind.
    all: Operations,
    once: Operations,
    /// Room for a step and its lists.
    step_at: u32,
    tables_at: u32,
    /// Where each slot's blocks lie; 0 for none.
    tables: Vec<u32>,
    /// Where each block of the KV cache lies, as far as it has memory.
    blocks: Vec<Option<u32>>,
    /// The memory that the next blocks get, and how many it has room for.
    spare: (u32, u64),
    ropes: Vec<u32>,
    logits_at: u32,
    /// Where the residual stream lies, and the gain of the norm after it.
    residual_at: u32,
    gain_at: u32,
    fingerprint: u64,
    single: bool,
    words: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Operations {
    at: u32,
    count: u32,
}

impl CpuRunner {
    /// Takes memory for a step and writes the program's descriptors. Its parameters, matrices in panels, are offsets into the kernels'
    /// memory, and may still be on their way; before the first step they must have arrived, and
    /// [`set_ropes`](Runner::set_ropes) been called. The KV cache takes memory as its blocks come into use.
    ///
    /// # Errors
    /// `adapter_too_small` where the memory has no room.
    pub fn new(
        shared: &SharedKernels,
        program: &Program<'_, Parameter<u32>>,
        capacity: Capacity,
        numerics: Numerics,
    ) -> Result<Self> {
        let shape = program.shape;
        let mut kernels = shared.borrow_mut();
        let mut take = |values: usize, what: &str| reserve(&mut *kernels, values as u64 * 4, what);
        let mut activations = BTreeMap::new();
        for buffer in program.buffers() {
            activations.insert(buffer, take(capacity.rows * buffer.width(&shape), "a step's activations")?);
        }
        let rope = |_| take(capacity.positions * shape.head_dim, "a rotary table");
        let ropes = (0..program.ropes).map(rope).collect::<Result<Vec<_>>>()?;
        let logits = take(capacity.outputs * shape.vocab, "the logits")?;
        let sampled = take(capacity.outputs, "the sampled tokens")?;
        let tables_at = take(capacity.slots * capacity.table_len(), "the block tables")?;
        let query = activations[&Buffer::Query];
        let memory = Memory { activations, ropes, logits };
        let ops = record(program, &memory);
        let lists = capacity.rows * 4 + capacity.outputs + ops.len();
        let step_at = take(size_of::<Step>() / 4 + lists, "a step's lists")?;

        let Numerics { cache, precision } = numerics;
        let fingerprint = fingerprint(&ops, &shape, kernels.is_relaxed(), numerics);
        let all = write_ops(&mut *kernels, &ops)?;
        let once = write_ops(&mut *kernels, &one_of_each(&ops))?;
        let kernel_shape = record::shape(&shape);
        let scratch = scratch_bytes(&kernel_shape, capacity.positions) as u64;
        let all_scratch = scratch * u64::from(kernels.threads());
        let plain = Step {
            shape: kernel_shape,
            control: kernels.control(),
            scratch: reserve(&mut *kernels, all_scratch, "the threads' scratch memory")?,
            scratch_bytes: scratch as u32,
            block_size: capacity.block_size as u32,
            halves: u32::from(cache == CacheType::F16),
            block_bytes: (capacity.block_size * shape.kv_d() * cache.bytes()) as u32,
            query,
            sampled,
            fast: u32::from(precision == Precision::Fast),
            ..Step::default()
        };
        Ok(Self {
            kernels: shared.clone(),
            capacity,
            shape,
            plain,
            all,
            once,
            step_at,
            tables_at,
            tables: vec![0; capacity.slots * capacity.table_len()],
            blocks: vec![None; capacity.blocks],
            spare: (0, 0),
            ropes: memory.ropes,
            logits_at: logits,
            residual_at: memory.activations[&Buffer::Residual],
            gain_at: ops.iter().find(|op| op.kind == Kind::Logits as u32).map_or(0, |op| op.gain),
            fingerprint,
            single: false,
            words: Vec::new(),
        })
    }

    /// Bytes of a block of the KV cache, over all layers.
    fn block_bytes(&self) -> u64 {
        2 * self.shape.layers as u64 * u64::from(self.plain.block_bytes)
    }

    /// Where a block lies; it gets memory when it is first used.
    fn block(&mut self, block: u32) -> Result<u32> {
        if let Some(at) = self.blocks[block as usize] {
            return Ok(at);
        }
        let bytes = self.block_bytes();
        if self.spare.1 == 0 {
            let without = self.blocks.iter().filter(|at| at.is_none()).count() as u64;
            let count = (KV_BYTES / bytes).clamp(1, without);
            self.spare = (reserve(&mut *self.kernels.borrow_mut(), count * bytes, "the KV cache")?, count);
        }
        let (at, count) = self.spare;
        // Blocks end on eight bytes, since a head's width is a multiple of four.
        self.spare = (at.wrapping_add(bytes as u32), count - 1);
        self.blocks[block as usize] = Some(at);
        Ok(at)
    }

    fn set_block(&mut self, entry: &BlockEntry) -> Result<()> {
        let at = self.block(entry.block)?;
        let place = entry.slot as usize * self.capacity.table_len() + entry.index as usize;
        self.tables[place] = at;
        self.kernels.borrow_mut().write(self.tables_at + place as u32 * 4, &at.to_le_bytes());
        Ok(())
    }

    fn execute(&mut self, rows: &[Row], logits: &[usize], ops: Operations) -> StepOutput {
        let order = order(rows);
        let decode_rows = rows.iter().filter(|row| !row.prompt).count();
        let mut places = vec![0; rows.len()];
        (0..).zip(&order).for_each(|(place, row)| places[*row] = place);
        let outputs: Vec<u32> = rows.iter().zip(places).filter(|(row, _)| row.output).map(|(_, place)| place).collect();
        assert!(rows.len() <= self.capacity.rows && outputs.len() <= self.capacity.outputs, "a step over its capacity");
        self.write_step(rows, &order, decode_rows, &outputs, ops);
        let mut kernels = self.kernels.borrow_mut();
        kernels.run(self.step_at);
        let mut tokens = vec![0u32; outputs.len()];
        kernels.read(self.plain.sampled, bytemuck::cast_slice_mut(&mut tokens));
        let vocab = self.shape.vocab;
        let mut wanted = vec![0f32; logits.len() * vocab];
        for (output, row) in logits.iter().zip(wanted.chunks_exact_mut(vocab)) {
            kernels.read(self.logits_at + (output * vocab * 4) as u32, bytemuck::cast_slice_mut(row));
        }
        StepOutput { tokens, logits: wanted, ..StepOutput::default() }
    }

    /// Hidden states of some rows of the step that ran last.
    fn read_hidden(&self, rows: &[Row], wanted: &[usize]) -> Vec<f32> {
        let d = self.shape.d;
        let order = order(rows);
        let (mut hidden, mut gain) = (vec![0f32; wanted.len() * d], vec![0f32; d]);
        let kernels = self.kernels.borrow();
        kernels.read(self.gain_at, bytemuck::cast_slice_mut(&mut gain));
        for (row, state) in wanted.iter().zip(hidden.chunks_exact_mut(d)) {
            let place = order.iter().position(|i| i == row).expect("a row of the step");
            kernels.read(self.residual_at + (place * d * 4) as u32, bytemuck::cast_slice_mut(state));
            rms_norm(state, &gain, self.shape.eps);
        }
        hidden
    }

    /// Writes a step and, after it, its lists.
    fn write_step(&mut self, rows: &[Row], order: &[usize], decode_rows: usize, outputs: &[u32], ops: Operations) {
        let (size, table_len) = (self.capacity.block_size, self.capacity.table_len());
        let position_bytes = self.plain.block_bytes / size as u32;
        let words = &mut self.words;
        words.clear();
        words.resize(size_of::<Step>() / 4, 0);
        let list = |words: &mut Vec<u32>, values: &mut dyn Iterator<Item = u32>| {
            let at = self.step_at + words.len() as u32 * 4;
            words.extend(values);
            at
        };
        let mut each = order.iter().map(|i| &rows[*i]);
        let step = Step {
            ops: ops.at,
            op_count: ops.count,
            rows: rows.len() as u32,
            decode_rows: decode_rows as u32,
            outputs: outputs.len() as u32,
            single: u32::from(self.single),
            tokens: list(words, &mut each.clone().map(|row| row.token)),
            positions: list(words, &mut each.clone().map(|row| row.position)),
            tables: list(words, &mut each.clone().map(|row| self.tables_at + row.slot * table_len as u32 * 4)),
            places: list(
                words,
                &mut each.by_ref().map(|row| {
                    let (index, inside) = (row.position as usize / size, row.position as usize % size);
                    self.tables[row.slot as usize * table_len + index] + inside as u32 * position_bytes
                }),
            ),
            output_rows: list(words, &mut outputs.iter().copied()),
            counters: list(words, &mut (0..ops.count).map(|_| 0)),
            ..self.plain
        };
        words[..size_of::<Step>() / 4].copy_from_slice(bytemuck::cast_slice(bytemuck::bytes_of(&step)));
        self.kernels.borrow_mut().write(self.step_at, bytemuck::cast_slice(words));
    }

    /// Whether a row alone and the same row in a tile of such rows have the same logits.
    fn tile_is_like_one(&mut self, tile: usize, prompt: bool) -> bool {
        let vocab = self.shape.vocab;
        let row = |position| Row { token: position % vocab as u32, slot: 0, position, output: position == 3, prompt };
        for position in 0..3 {
            self.execute(&[row(position)], &[], self.once);
        }
        let alone = self.execute(&[row(3)], &[0], self.once).logits;
        let every: Vec<usize> = (0..tile).collect();
        let logits = self.execute(&vec![row(3); tile], &every, self.once).logits;
        let same = |row: &[f32]| row.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
        logits.chunks(vocab).all(same)
    }

    fn tiles(&self) -> impl Iterator<Item = usize> + use<> {
        let most = self.capacity.rows.min(self.capacity.outputs).min(self.capacity.positions);
        // Where multiply-adds are rounded twice, the order of the sums leaves no choice.
        let relaxed = self.kernels.borrow().is_relaxed();
        TILES.into_iter().filter(move |tile| relaxed && *tile <= most)
    }
}

/// Rows in the kernels' order: those of decoding come first.
fn order(rows: &[Row]) -> Vec<usize> {
    let (decode, prompts): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|i| !rows[*i].prompt);
    [decode, prompts].concat()
}

fn write_ops(kernels: &mut dyn Kernels, ops: &[step::Op]) -> Result<Operations> {
    let bytes: &[u8] = bytemuck::cast_slice(ops);
    let at = reserve(kernels, bytes.len() as u64, "the program")?;
    kernels.write(at, bytes);
    Ok(Operations { at, count: ops.len() as u32 })
}

/// The operations whose kernels none before it runs.
fn one_of_each(ops: &[step::Op]) -> Vec<step::Op> {
    let key = |op: &step::Op| (op.kind, op.flag, op.matrix.map(|m| m.format), op.inner);
    let first = |i: &usize| ops[..*i].iter().all(|op| key(op) != key(&ops[*i]));
    (0..ops.len()).filter(first).map(|i| ops[i]).collect()
}

/// FNV-1a over what tells kernels apart.
fn fingerprint(ops: &[step::Op], shape: &Shape, relaxed: bool, numerics: Numerics) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |value: u64| hash = (hash ^ value).wrapping_mul(0x100_0000_01b3);
    add(u64::from(relaxed) + numerics.cache.bytes() as u64);
    add(u64::from(numerics.precision == Precision::Fast));
    for value in [shape.layers, shape.d, shape.ff, shape.heads, shape.kv_heads, shape.head_dim, shape.vocab] {
        add(value as u64);
    }
    for op in ops {
        let numbers = [op.kind, op.flag, op.window].into_iter().chain(op.matrix.map(|matrix| matrix.format));
        numbers.for_each(|value| add(u64::from(value)));
    }
    env!("CARGO_PKG_VERSION").bytes().for_each(|byte| add(u64::from(byte)));
    hash
}

impl Runner for CpuRunner {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn memory_bytes(&self) -> u64 {
        self.kernels.borrow().reserved()
    }

    fn launches(&self) -> usize {
        self.all.count as usize
    }

    fn set_ropes(&mut self, tables: &[Vec<f32>]) {
        for (at, table) in self.ropes.iter().zip(tables) {
            self.kernels.borrow_mut().write(*at, bytemuck::cast_slice(table));
        }
    }

    fn finish<'a>(&'a mut self, batch: &'a Batch) -> Running<'a, StepOutput> {
        let changed = batch.tables.iter().try_for_each(|entry| self.set_block(entry));
        let output = changed.map(|()| match batch.rows.is_empty() {
            true => StepOutput::default(),
            false => {
                let output = self.execute(&batch.rows, &batch.logits, self.all);
                StepOutput { hidden: self.read_hidden(&batch.rows, &batch.hidden), ..output }
            }
        });
        Box::pin(ready(output))
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn row_checks(&self) -> usize {
        self.tiles().count()
    }

    fn check_rows(&mut self, part: usize, scratch: u32) -> Running<'_, bool> {
        let tile = self.tiles().nth(part).expect("a part of the row check");
        let entry = BlockEntry { slot: 0, index: 0, block: scratch };
        let single = self.set_block(&entry).map(|()| {
            self.single |= !(self.tile_is_like_one(tile, false) && self.tile_is_like_one(tile, true));
            self.single
        });
        Box::pin(ready(single))
    }

    fn single_kernel_path(&self) -> bool {
        self.single
    }

    fn set_single_kernel_path(&mut self, single: bool) {
        self.single = single;
    }
}
