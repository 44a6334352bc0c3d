//! A known answer: what each kind of operation makes of one row, held to plain arithmetic on the CPU. The row check compares
//! kernels with each other; a driver that computes nonsense does so for every row.

mod reads;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn_wgpu::wgpu::{self, BufferUsages as Usage};

use self::reads::Reads;
use self::reference::{Check, Reference, State};
use super::{Dispatch, Plan};
use crate::Result;
use crate::gpu::readback::read;
use crate::gpu::record::next_norm;
use crate::gpu::weights::DeviceWords;
use crate::program::{Batch, BlockEntry, Buffer, Op, Parameter, Program, QkNorm, Row, Then};

/// Positions of the sequence that the answer is known of: the last one's row is looked at.
const POSITIONS: usize = 4;

/// An operation to be looked at, and its dispatches.
pub(super) struct Probe {
    dispatches: Range<usize>,
    op: Known,
    /// The gain of the norm that follows, with which who writes the residual stream multiplies.
    gain: Option<P>,
}

type P = Parameter<DeviceWords>;

/// [`Op`], with parameters of its own.
enum Known {
    Embed { table: P },
    Qkv { layer: usize, norm: bool, weights: P, then: Then },
    QkNorm { layer: usize, gains: P, over: QkNorm, rope: Option<usize> },
    Attention { layer: usize, window: Option<usize> },
    Project { from: Buffer, weights: P, to: Buffer },
    AddNormed { gain: P },
    GateUp { norm: bool, gate: P, up: P },
    Logits { output: P },
    Argmax,
}

impl Known {
    fn of(op: &Op<'_, P>) -> Self {
        match *op {
            Op::Embed { table } => Self::Embed { table: table.clone() },
            Op::Qkv { layer, norm, weights, then } => {
                Self::Qkv { layer, norm: norm.is_some(), weights: weights.clone(), then }
            }
            Op::QkNorm { layer, gains, over, rope } => Self::QkNorm { layer, gains: gains.clone(), over, rope },
            Op::Attention { layer, window } => Self::Attention { layer, window },
            Op::Project { from, weights, to } => Self::Project { from, weights: weights.clone(), to },
            Op::AddNormed { gain } => Self::AddNormed { gain: gain.clone() },
            Op::GateUp { norm, gate, up } => Self::GateUp { norm: norm.is_some(), gate: gate.clone(), up: up.clone() },
            Op::Logits { output, .. } => Self::Logits { output: output.clone() },
            Op::Argmax => Self::Argmax,
        }
    }

    /// Whose cache it touches.
    fn layer(&self) -> Option<usize> {
        match self {
            Self::Qkv { layer, .. } | Self::QkNorm { layer, .. } | Self::Attention { layer, .. } => Some(*layer),
            _ => None,
        }
    }
}

/// The operations that are the first to run one of their kernels, in order; and before an attention whatever writes its cache.
/// `ends` says of each operation where its dispatches end.
pub(super) fn probes(program: &Program<'_, P>, ends: &[usize], dispatches: &[Dispatch]) -> Vec<Probe> {
    let range = |i: usize| i.checked_sub(1).map_or(0, |before| ends[before])..ends[i];
    let mut seen = BTreeSet::new();
    let mut chosen = BTreeSet::new();
    let mut cache = Vec::new();
    for (i, op) in program.ops.iter().enumerate() {
        let new = dispatches[range(i)].iter().fold(false, |new, dispatch| seen.insert(dispatch.kernel) || new);
        match op {
            Op::Qkv { .. } => cache = vec![i],
            Op::QkNorm { .. } => cache.push(i),
            Op::Attention { .. } if new => chosen.extend(cache.iter().copied()),
            _ => {}
        }
        if new {
            chosen.insert(i);
        }
    }
    let probe = |i: usize| {
        let gain = next_norm(&program.ops[i + 1..]).cloned();
        Probe { dispatches: range(i), op: Known::of(&program.ops[i]), gain }
    };
    chosen.into_iter().map(probe).collect()
}

impl Plan {
    /// Runs each kind of operation on one row of a small fixed input, and computes some of its outputs anew on the CPU, out of what
    /// the device had before it: the parameters as they lie there, among them. Gives the name of the first kernel that is off
    /// by more than rounding. Writes over `scratch`, a block of the KV cache, and slot 0's block table.
    ///
    /// # Errors
    /// `device_lost`.
    pub(super) async fn first_wrong_kernel(&mut self, scratch: u32) -> Result<Option<String>> {
        if let Some(wrong) = self.first_wrong(scratch, false).await? {
            return Ok(Some(wrong));
        }
        // Where prompts are a role of their own, so are their kernels.
        match self.gpu.tuning.has_prompt_role() {
            true => Ok(self.first_wrong(scratch, true).await?.map(|name| format!("{name} of a prompt"))),
            false => Ok(None),
        }
    }

    async fn first_wrong(&mut self, scratch: u32, prompt: bool) -> Result<Option<String>> {
        self.set_block(BlockEntry { slot: 0, index: 0, block: scratch });
        let last = POSITIONS.min(self.capacity.block_size).min(self.capacity.positions) - 1;
        let row = |position: usize| Row {
            token: (position % self.shape.vocab) as u32,
            slot: 0,
            position: position as u32,
            output: position == last,
            prompt,
        };
        let (before, probe): (Vec<Row>, Row) = ((0..last).map(row).collect(), row(last));
        let all: Vec<usize> = self.probes.iter().flat_map(|probe| probe.dispatches.clone()).collect();
        for row in before {
            let batch = Batch { rows: vec![row], ..Batch::default() };
            self.run(&batch, all.clone()).await?;
        }
        let (staging, checks) = self.look(probe, scratch)?;
        let wrong = read(&self.gpu, &staging, staging.size(), |bytes| {
            let mut checks = checks.into_iter();
            checks.position(|check| !check(bytes)).map(|i| self.probe_name(i))
        });
        wrong.await
    }

    /// Runs the operations over the row, and reads what the checks need of the time before and after each.
    fn look(&self, row: Row, scratch: u32) -> Result<(wgpu::Buffer, Vec<Check>)> {
        let counts = self.write_rows(&Batch { rows: vec![row], ..Batch::default() });
        let mut reads = Reads::default();
        let mut states = vec![self.state(&mut reads, None, scratch)];
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        // Where all of it goes is known before it is copied.
        let mut pieces = vec![reads.take()];
        for probe in &self.probes {
            states.push(self.state(&mut reads, probe.op.layer(), scratch));
            pieces.push(reads.take());
        }
        let reference = Reference {
            shape: self.shape,
            memory: &self.memory,
            half_cache: self.half_cache,
            fast: self.memory.bytes.is_some(),
            row,
        };
        let each = self.probes.iter().zip(states.windows(2));
        let checks = each
            .map(|(probe, states)| reference.check(&probe.op, probe.gain.as_ref(), &states[0], &states[1], &mut reads));
        let checks: Vec<Check> = checks.collect();
        pieces[0].extend(reads.take());
        let staging = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("known answer"),
            size: reads.bytes().next_multiple_of(8),
            usage: Usage::MAP_READ | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        for (i, pieces) in pieces.into_iter().enumerate() {
            if i > 0 {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for dispatch in &self.dispatches[self.probes[i - 1].dispatches.clone()] {
                    self.encode(dispatch, &mut pass, counts)?;
                }
            }
            pieces.iter().for_each(|piece| piece.copy(&mut encoder, &staging));
        }
        self.gpu.queue.submit([encoder.finish()]);
        Ok((staging, checks))
    }

    /// The row's activations, its result, and where it is of interest a block of a layer's cache.
    fn state(&self, reads: &mut Reads, layer: Option<usize>, scratch: u32) -> State {
        let memory = &self.memory;
        let activations: BTreeMap<_, _> = memory
            .activations
            .iter()
            .map(|(name, buffer)| (*name, reads.want((buffer, 0), 0, 4 * name.width(&self.shape))))
            .collect();
        let squares = memory.squares.iter();
        let block = 2 * self.capacity.block_size * self.shape.kv_d() * if self.half_cache { 2 } else { 4 };
        State {
            activations,
            squares: squares.map(|(name, buffer)| (*name, reads.want((buffer, 0), 0, self.shape.d))).collect(),
            gained: reads.want((&memory.gained, 0), 0, 4 * self.shape.d),
            cache: layer.map(|layer| reads.want((&memory.kv[layer], 0), scratch as usize * block, block)),
            logits: reads.want((&memory.logits, 0), 0, 4 * self.shape.vocab),
            sampled: reads.want((&memory.sampled, 0), 0, 4),
        }
    }

    /// What runs the kernels of a probe.
    fn probe_name(&self, index: usize) -> String {
        let dispatches = &self.dispatches[self.probes[index].dispatches.clone()];
        let mut names: Vec<String> = dispatches
            .iter()
            .filter(|dispatch| !dispatch.is_of_changes())
            .map(|dispatch| self.pipelines.kernels[dispatch.kernel].kernel.name())
            .collect();
        names.dedup();
        names.join(", ")
    }
}
