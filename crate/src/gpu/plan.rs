//! One step: the whole forward pass over rows as one command buffer. Buffers, pipelines and bind groups are made once.
//!
//! A step is served at one of five tile heights ([`TILES`]): the same shader with its register tile written out for that
//! many rows, each row summed in the same order in all of them, so that a row's logits do not depend on its company.

use std::collections::HashMap;

use burn_wgpu::wgpu;
use minijinja::context;

use super::kernels::{Kernels, layout};
use super::readback::read;
use super::{Gpu, weights::DeviceWords};
use crate::Result;
use crate::model::loader::{Matrix, Parameter};
use crate::model::{ModelConfig, Weights, rope};

/// Rows of activations that one register tile holds. A step uses the first that holds all its rows, else the last.
pub const TILES: [usize; 5] = [1, 2, 4, 6, 8];

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
}

/// What the plan's buffers hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Rows a step.
    pub rows: usize,
    /// Rows with logits a step.
    pub outputs: usize,
    /// Sequences.
    pub slots: usize,
    /// Positions a sequence.
    pub positions: usize,
    /// Blocks of the KV cache, over all sequences.
    pub blocks: usize,
    /// Positions a block.
    pub block_size: usize,
}

/// The result of a step, one entry for each row with `output`, in row order.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// The greedy token.
    pub tokens: Vec<u32>,
    /// Logits, `[outputs, vocab]` f32, when asked for; else empty.
    pub logits: Vec<f32>,
}

struct Dispatch {
    pipelines: [wgpu::ComputePipeline; TILES.len()],
    group: wgpu::BindGroup,
    /// Workgroups along x; along y one for each tile of rows, or of outputs.
    x: u32,
    over: Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Tiles of rows.
    Rows,
    /// One workgroup row for each row.
    EachRow,
    /// Tiles of rows with logits.
    Outputs,
    /// One for each row with logits.
    EachOutput,
    /// x alone covers the outputs, four a workgroup.
    OutputsAlongX,
}

/// A recorded model on one device.
pub struct Plan {
    gpu: Gpu,
    config: ModelConfig,
    /// What the buffers hold.
    pub capacity: Capacity,
    max_blocks: usize,
    dispatches: Vec<Dispatch>,
    step: wgpu::Buffer,
    rows: wgpu::Buffer,
    block_table: wgpu::Buffer,
    logits: wgpu::Buffer,
    sampled: wgpu::Buffer,
    readback: wgpu::Buffer,
    /// Keeps the memory that the bind groups name: burn would give it to the next tensor.
    _memory: Vec<DeviceWords>,
}

struct Builder<'a> {
    gpu: &'a Gpu,
    kernels: Kernels,
    values: minijinja::Value,
    layouts: HashMap<&'static str, wgpu::BindGroupLayout>,
    pipelines: HashMap<String, [wgpu::ComputePipeline; TILES.len()]>,
    step: &'a wgpu::Buffer,
    rows: &'a wgpu::Buffer,
}

impl Builder<'_> {
    /// A dispatch of `shader`, whose bindings after step and rows are `bindings`, of these `kinds`.
    fn dispatch(
        &mut self,
        shader: &'static str,
        kinds: &str,
        bindings: &[wgpu::BindingResource<'_>],
        matrices: &[&Matrix],
        inner: usize,
        x: usize,
        over: Over,
    ) -> Result<Dispatch> {
        let gpu = self.gpu;
        let layout = self.layouts.entry(shader).or_insert_with(|| layout(gpu, shader, &format!("ur{kinds}")));
        let w: Vec<_> = matrices.iter().map(|m| context! { ty => m.ty.name(), p => m.planes }).collect();
        let key = format!("{shader} {inner} {w:?}");
        if !self.pipelines.contains_key(&key) {
            let tiled = matches!(over, Over::Rows | Over::Outputs);
            let mut made: Vec<wgpu::ComputePipeline> = Vec::with_capacity(TILES.len());
            for tile in TILES {
                let pipeline = match made.first() {
                    Some(first) if !tiled => first.clone(),
                    _ => {
                        let values = context! { T => tile, w => w, inner => inner, ..self.values.clone() };
                        self.kernels.pipeline(gpu, shader, layout, &values)?
                    }
                };
                made.push(pipeline);
            }
            self.pipelines.insert(key.clone(), made.try_into().expect("one for each tile"));
        }
        let all = [self.step.as_entire_binding(), self.rows.as_entire_binding()];
        let entries: Vec<_> = (0..)
            .zip(all.iter().chain(bindings))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource: resource.clone() })
            .collect();
        let group =
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(shader), layout, entries: &entries });
        Ok(Dispatch { pipelines: self.pipelines[&key].clone(), group, x: x as u32, over })
    }
}

impl Plan {
    /// Allocates the buffers, compiles the pipelines, binds the parameters.
    pub fn new(gpu: &Gpu, config: &ModelConfig, weights: &Weights, capacity: Capacity) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let buffer = |name: &str, words: usize, usage: Usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: (words * 4).next_multiple_of(16).max(16) as u64,
                usage,
                mapped_at_creation: false,
            })
        };
        let scratch =
            |name: &str, words: usize| buffer(name, words, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST);
        let ModelConfig { layers, d, ff, heads, kv_heads, head_dim, vocab, .. } = *config;
        let (q_d, kv_d) = (config.q_d(), config.kv_d());
        let max_blocks = capacity.positions.div_ceil(capacity.block_size);
        let v_offset = capacity.blocks * capacity.block_size * kv_d;

        let step = buffer("step", 4, Usage::UNIFORM | Usage::COPY_DST);
        let rows = scratch("rows", capacity.rows * 4);
        let block_table = scratch("block_table", capacity.slots * max_blocks);
        let x = scratch("x", capacity.rows * d);
        let squares = scratch("squares", capacity.rows * d / 4);
        let q = scratch("q", capacity.rows * q_d);
        let attended = scratch("attended", capacity.rows * q_d);
        let inner = scratch("inner", capacity.rows * ff);
        let logits = scratch("logits", capacity.outputs * vocab);
        let parts = scratch("parts", capacity.outputs * 64 * 2);
        let sampled = scratch("sampled", capacity.outputs);
        let readback = buffer("readback", capacity.outputs * (vocab + 1) + 4, Usage::MAP_READ | Usage::COPY_DST);
        let angles = DeviceWords::empty(gpu, (capacity.positions * head_dim * 4) as u64, "the rotary table")?;
        angles.write(
            gpu,
            0,
            bytemuck::cast_slice(&rope::table(config, capacity.positions, weights.rope_factors.as_deref())),
        );

        let mut b = Builder {
            gpu,
            kernels: Kernels::new(),
            values: context! {
                d, ff, heads, kv_heads, head_dim, q_d, kv_d, vocab, v_offset,
                block_size => capacity.block_size,
                eps => format!("{:e}", config.eps),
                scale => format!("{:e}", (head_dim as f32).powf(-0.5)),
            },
            layouts: HashMap::new(),
            pipelines: HashMap::new(),
            step: &step,
            rows: &rows,
        };
        let mut memory = vec![angles.clone()];
        let mut dispatches = Vec::new();
        fn matrices(parameter: &Parameter) -> Vec<&Matrix> {
            parameter.matrices.iter().collect()
        }
        let mut hold = |words: &DeviceWords| memory.push(words.clone());
        let (x_, squares_) = (x.as_entire_binding(), squares.as_entire_binding());

        let embedding = weights.get("token_embd");
        hold(&embedding.words);
        let bindings = [embedding.words.binding(), x_.clone(), squares_.clone()];
        dispatches.push(b.dispatch(
            "embed.wgsl",
            "rww",
            &bindings,
            &matrices(embedding),
            d,
            (d / 32).div_ceil(16),
            Over::EachRow,
        )?);
        for i in 0..layers {
            let get = |name: &str| weights.get(&format!("blk.{i}.{name}"));
            let kv = DeviceWords::empty(gpu, (2 * v_offset * 4) as u64, "the KV cache of a layer")?;
            let (norm, qkv) = (get("attn_norm"), get("attn_qkv"));
            let bindings = [
                x_.clone(),
                squares_.clone(),
                norm.words.binding(),
                angles.binding(),
                block_table.as_entire_binding(),
                q.as_entire_binding(),
                kv.binding(),
                qkv.words.binding(),
            ];
            let heads_in_all = heads + 2 * kv_heads;
            dispatches.push(b.dispatch(
                "norm_qkv_rope.wgsl",
                "rrrrrwwr",
                &bindings,
                &matrices(qkv),
                d,
                heads_in_all,
                Over::Rows,
            )?);
            let bindings =
                [q.as_entire_binding(), kv.binding(), block_table.as_entire_binding(), attended.as_entire_binding()];
            dispatches.push(b.dispatch(
                "attention.wgsl",
                "rrrw",
                &bindings,
                &[],
                0,
                heads.div_ceil(4),
                Over::EachRow,
            )?);
            let output = get("attn_output");
            let bindings = [attended.as_entire_binding(), output.words.binding(), x_.clone(), squares_.clone()];
            let tiles = (d / 4).div_ceil(16);
            dispatches.push(b.dispatch(
                "project_residual.wgsl",
                "rrww",
                &bindings,
                &matrices(output),
                q_d,
                tiles,
                Over::Rows,
            )?);
            let (ffn_norm, gate, up) = (get("ffn_norm"), get("ffn_gate"), get("ffn_up"));
            let bindings = [
                x_.clone(),
                squares_.clone(),
                ffn_norm.words.binding(),
                gate.words.binding(),
                up.words.binding(),
                inner.as_entire_binding(),
            ];
            let both: Vec<_> = matrices(gate).into_iter().chain(matrices(up)).collect();
            let tiles_ff = (ff / 2).div_ceil(16);
            dispatches.push(b.dispatch(
                "norm_gate_up_silu.wgsl",
                "rrrrrw",
                &bindings,
                &both,
                d,
                tiles_ff,
                Over::Rows,
            )?);
            let down = get("ffn_down");
            let bindings = [inner.as_entire_binding(), down.words.binding(), x_.clone(), squares_.clone()];
            dispatches.push(b.dispatch(
                "project_residual.wgsl",
                "rrww",
                &bindings,
                &matrices(down),
                ff,
                tiles,
                Over::Rows,
            )?);
            hold(&kv);
            [norm, qkv, output, ffn_norm, gate, up, down].into_iter().for_each(|p| hold(&p.words));
        }
        let (norm, output) = (weights.get("output_norm"), weights.output());
        hold(&norm.words);
        hold(&output.words);
        let bindings =
            [x_.clone(), squares_.clone(), norm.words.binding(), output.words.binding(), logits.as_entire_binding()];
        let tiles = vocab.div_ceil(4).div_ceil(16);
        dispatches.push(b.dispatch(
            "norm_logits.wgsl",
            "rrrrw",
            &bindings,
            &matrices(output),
            d,
            tiles,
            Over::Outputs,
        )?);
        let bindings = [logits.as_entire_binding(), parts.as_entire_binding()];
        dispatches.push(b.dispatch("argmax_part.wgsl", "rw", &bindings, &[], 0, 4, Over::EachOutput)?);
        let bindings = [parts.as_entire_binding(), sampled.as_entire_binding()];
        dispatches.push(b.dispatch("argmax.wgsl", "rw", &bindings, &[], 0, 1, Over::OutputsAlongX)?);
        Ok(Self {
            gpu: gpu.clone(),
            config: config.clone(),
            capacity,
            max_blocks,
            dispatches,
            step,
            rows,
            block_table,
            logits,
            sampled,
            readback,
            _memory: memory,
        })
    }

    /// Dispatches a step.
    pub fn dispatches(&self) -> usize {
        self.dispatches.len()
    }

    /// Says that positions `index * block_size ..` of `slot` lie in `block`.
    pub fn set_block(&self, slot: usize, index: usize, block: u32) {
        let offset = ((slot * self.max_blocks + index) * 4) as u64;
        self.gpu.queue.write_buffer(&self.block_table, offset, &block.to_le_bytes());
    }

    /// Runs one step over `rows`. Rows of one slot must come in ascending positions, and their blocks be set.
    ///
    /// # Panics
    /// When there are more rows or outputs than the capacity: the scheduler's fault.
    ///
    /// # Errors
    /// `device_lost`.
    pub async fn step(&mut self, rows: &[Row], want_logits: bool) -> Result<StepOutput> {
        let output_rows: Vec<u32> = (0..).zip(rows).filter(|(_, r)| r.output).map(|(i, _)| i).collect();
        let outputs = output_rows.len();
        assert!(rows.len() <= self.capacity.rows && outputs <= self.capacity.outputs, "a step over its capacity");
        if rows.is_empty() {
            return Ok(StepOutput::default());
        }
        let words: Vec<[u32; 4]> = rows
            .iter()
            .enumerate()
            .map(|(i, r)| [r.token, r.slot, r.position, output_rows.get(i).copied().unwrap_or(0)])
            .collect();
        let counts = [rows.len() as u32, outputs as u32, self.max_blocks as u32, 0];
        self.gpu.queue.write_buffer(&self.rows, 0, bytemuck::cast_slice(&words));
        self.gpu.queue.write_buffer(&self.step, 0, bytemuck::cast_slice(&counts));

        let mut encoder =
            self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("step") });
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in &self.dispatches {
                let n = match dispatch.over {
                    Over::Rows | Over::EachRow => rows.len(),
                    Over::Outputs | Over::EachOutput | Over::OutputsAlongX => outputs,
                };
                if n == 0 {
                    continue;
                }
                let tile = TILES.iter().position(|t| *t >= n).unwrap_or(TILES.len() - 1);
                let (x, y) = match dispatch.over {
                    Over::Rows | Over::Outputs => (dispatch.x, n.div_ceil(TILES[tile])),
                    Over::EachRow | Over::EachOutput => (dispatch.x, n),
                    Over::OutputsAlongX => (n.div_ceil(4) as u32, 1),
                };
                pass.set_pipeline(&dispatch.pipelines[tile]);
                pass.set_bind_group(0, &dispatch.group, &[]);
                pass.dispatch_workgroups(x, y as u32, 1);
            }
        }
        let token_bytes = (outputs * 4) as u64;
        let logit_bytes = if want_logits { (outputs * self.config.vocab * 4) as u64 } else { 0 };
        if outputs > 0 {
            encoder.copy_buffer_to_buffer(&self.sampled, 0, &self.readback, 0, token_bytes);
        }
        if logit_bytes > 0 {
            encoder.copy_buffer_to_buffer(&self.logits, 0, &self.readback, token_bytes, logit_bytes);
        }
        self.gpu.queue.submit([encoder.finish()]);
        if outputs == 0 {
            return Ok(StepOutput::default());
        }
        // A mapped range is a multiple of eight bytes long.
        let bytes = (token_bytes + logit_bytes).next_multiple_of(8);
        read(&self.gpu, &self.readback, bytes, |view| {
            let (tokens, rest) = view.split_at(token_bytes as usize);
            StepOutput {
                tokens: bytemuck::pod_collect_to_vec(tokens),
                logits: bytemuck::pod_collect_to_vec(&rest[..logit_bytes as usize]),
            }
        })
        .await
    }
}
