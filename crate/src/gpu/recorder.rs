//! Records dispatches: bind groups once for each dispatch, pipelines once for each shape, when they are first used.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::OnceLock;

use burn_wgpu::wgpu;
use minijinja::{context, value::merge_maps};

use super::kernel::Kernel;
use super::kernels::{Kernels, SHADERS, layout};
use super::tuning::{CHANGE_SIZE, PARTS, Tile};
use super::{Gpu, Tuning, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

/// Rows of activations that one register tile holds. A step uses the first that holds all its rows, else the last.
pub const TILES: [usize; 5] = [1, 2, 4, 6, 8];

/// One kernel of a plan. Each of its pipelines is compiled when a step first needs it: a CPU adapter takes half a second for
/// one, and many plans never see some of them.
pub(super) struct Compiled {
    pub kernel: Kernel,
    /// The kinds of its bindings, as [`layout`] takes them.
    pub kinds: String,
    layout: wgpu::BindGroupLayout,
    /// One, or for a product one for each of [`TILES`], and where prompts are a role of their own, one for their rows.
    variants: Vec<Variant>,
}

struct Variant {
    tile: Option<Tile>,
    /// What the template's values are.
    values: minijinja::Value,
    pipeline: OnceLock<wgpu::ComputePipeline>,
}

impl Compiled {
    fn pipeline(&self, gpu: &Gpu, templates: &Kernels, variant: usize) -> Result<&wgpu::ComputePipeline> {
        let Variant { values, pipeline, .. } = &self.variants[variant];
        if pipeline.get().is_none() {
            let _ = pipeline.set(templates.pipeline(gpu, self.kernel.shader(), &self.layout, values)?);
        }
        Ok(pipeline.get().expect("just made"))
    }

    /// Begins to compile its pipelines beside everything else, where the device can.
    #[cfg(target_family = "wasm")]
    fn begin(&self, gpu: &Gpu, templates: &Kernels) -> Result<()> {
        let shader = self.kernel.shader();
        for variant in self.variants.iter().filter(|variant| variant.pipeline.get().is_none()) {
            gpu.compiler.begin(shader, &templates.render(shader, &variant.values)?, &self.kinds);
        }
        Ok(())
    }

    /// Each pipeline's WGSL, and the rows of its tile.
    pub fn sources(&self, templates: &Kernels) -> Result<Vec<(usize, String)>> {
        let rows = |variant: &Variant| variant.tile.map_or(1, |tile| tile.rows);
        let source = |variant| Ok((rows(variant), templates.render(self.kernel.shader(), &variant.values)?));
        self.variants.iter().map(source).collect()
    }
}

/// What dispatches run: the kernels, and the templates they are made of.
pub(super) struct Pipelines {
    pub templates: Kernels,
    pub kernels: Vec<Compiled>,
}

/// How many rows a step has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All.
    pub rows: usize,
    /// Those of decoding, which come first. All, where prompts are no role of their own.
    pub decode: usize,
    /// Those whose tokens are wanted, and how many of them are drawn.
    pub outputs: usize,
    pub draws: usize,
    /// Logits that are changed, or somewhat more.
    pub changes: usize,
    /// Groups of decoding's rows for attention, and of prompts'.
    pub decode_groups: usize,
    pub prompt_groups: usize,
    /// Most splits of one of decoding's rows.
    pub splits: usize,
}

/// Which rows a dispatch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Rows,
    Outputs,
    Draws,
    Changes,
}

/// How many workgroups a dispatch has.
#[derive(Clone, Debug)]
pub(super) enum Grid {
    /// A product of sections of so many times four outputs: what the tile makes of them.
    Product(Vec<usize>),
    /// So many for each row.
    Each(usize),
    /// So many invocations for each row, in workgroups of so many.
    Flat(usize, usize),
    /// So many for each split of each group of decoding's rows.
    Splits(usize),
    /// So many for each of decoding's rows, where one of them has more than one split.
    Merge(usize),
    /// So many for each group of prompts' rows.
    Prompts(usize),
}

impl Pipelines {
    /// Begins to compile all pipelines that no step has needed yet, beside each other and beside everything else. wgpu has no such
    /// thing natively: there they are compiled as steps first need them.
    pub fn begin(&self, gpu: &Gpu) -> Result<()> {
        // A software adapter never samples.
        let needed = self.kernels.iter().filter(|kernel| gpu.tuning == Tuning::Gpu || !kernel.kernel.samples());
        for _kernel in needed {
            #[cfg(target_family = "wasm")]
            _kernel.begin(gpu, &self.templates)?;
        }
        Ok(())
    }

    /// What tells these kernels from others: shaders and the values they are written out with.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for kernel in &self.kernels {
            for variant in &kernel.variants {
                (kernel.kernel.shader(), format!("{:?}", variant.values)).hash(&mut hasher);
            }
        }
        SHADERS.hash(&mut hasher);
        hasher.finish()
    }
}

/// One recorded dispatch.
pub(super) struct Dispatch {
    /// Which of the plan's pipelines.
    pub kernel: usize,
    /// What it binds, from binding 0 on.
    memory: Vec<Binding>,
    group: wgpu::BindGroup,
    grid: Grid,
    over: Over,
}

impl Dispatch {
    /// Puts another buffer in the place of one that it binds whole.
    pub fn replace(&mut self, gpu: &Gpu, pipelines: &Pipelines, old: &wgpu::Buffer, new: &wgpu::Buffer) {
        if self.memory.iter().any(|memory| memory.buffer == *old) {
            let others = self.memory.iter_mut().filter(|memory| memory.buffer == *old);
            others.for_each(|memory| *memory = Binding::whole(new));
            let Compiled { kernel, layout, .. } = &pipelines.kernels[self.kernel];
            self.group = group(gpu, kernel.shader(), layout, &self.memory);
        }
    }

    /// Whether it changes logits.
    pub fn is_of_changes(&self) -> bool {
        self.over == Over::Changes
    }

    /// Whether each step has it.
    pub fn is_always(&self) -> bool {
        !matches!(self.over, Over::Draws | Over::Changes) && !matches!(self.grid, Grid::Merge(_) | Grid::Prompts(_))
    }

    /// Records it. `one_tile` takes the largest tile however few the rows are.
    ///
    /// # Errors
    /// `internal` for a template that does not render.
    pub fn encode(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        gpu: &Gpu,
        pipelines: &Pipelines,
        counts: Counts,
        one_tile: bool,
    ) -> Result<()> {
        let n = match self.over {
            Over::Rows => counts.rows,
            Over::Outputs => counts.outputs,
            Over::Draws => counts.draws,
            Over::Changes => counts.changes,
        };
        let kernel = &pipelines.kernels[self.kernel];
        let mut dispatch = |variant: usize, [x, y, z]: [usize; 3]| -> Result<()> {
            if x * y * z > 0 {
                pass.set_pipeline(kernel.pipeline(gpu, &pipelines.templates, variant)?);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(x as u32, y as u32, z as u32);
            }
            Ok(())
        };
        match &self.grid {
            Grid::Each(x) => dispatch(0, [*x, n, 1]),
            Grid::Flat(each, workgroup) => dispatch(0, [(n * each).div_ceil(*workgroup), 1, 1]),
            Grid::Splits(x) => dispatch(0, [*x, counts.decode_groups, counts.splits]),
            Grid::Merge(x) if counts.splits > 1 => dispatch(0, [*x, counts.decode, 1]),
            Grid::Merge(_) => Ok(()),
            Grid::Prompts(x) => dispatch(0, [*x, counts.prompt_groups, 1]),
            Grid::Product(sections) => {
                let mut product = |variant: usize, rows| {
                    let tile = kernel.variants[variant].tile.expect("a product has tiles");
                    dispatch(variant, grid(gpu, tile, sections, rows))
                };
                let decode = if self.over == Over::Rows { counts.decode } else { n };
                let largest = TILES.len() - 1;
                let least = TILES.iter().position(|rows| *rows >= decode).unwrap_or(largest);
                product(if one_tile { largest } else { least }, decode)?;
                if n > decode { product(TILES.len(), n - decode) } else { Ok(()) }
            }
        }
    }
}

/// A bind group of these, from binding 0 on.
fn group(gpu: &Gpu, shader: &str, layout: &wgpu::BindGroupLayout, memory: &[Binding]) -> wgpu::BindGroup {
    let entry = |(binding, memory)| wgpu::BindGroupEntry { binding, resource: Binding::resource(memory) };
    let entries: Vec<_> = (0..).zip(memory).map(entry).collect();
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(shader), layout, entries: &entries })
}

/// The workgroups of a product over so many rows. Outputs are the second and third dimension where rows are the first.
fn grid(gpu: &Gpu, tile: Tile, sections: &[usize], rows: usize) -> [usize; 3] {
    let (groups, rows) = (tile.groups(sections), rows.div_ceil(tile.rows));
    if !tile.rows_first() {
        return [groups, rows, 1];
    }
    let y = groups_y(gpu, groups);
    [rows, y, groups.div_ceil(y)]
}

/// How many of so many workgroups for outputs are the second dimension of a dispatch.
fn groups_y(gpu: &Gpu, groups: usize) -> usize {
    let most = gpu.device.limits().max_compute_workgroups_per_dimension as usize;
    groups.div_ceil(groups.div_ceil(most))
}

/// A part of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    /// None for all that follows.
    pub size: Option<NonZeroU64>,
}

impl Binding {
    fn whole(buffer: &wgpu::Buffer) -> Self {
        Self { buffer: buffer.clone(), offset: 0, size: None }
    }

    fn resource(&self) -> wgpu::BindingResource<'_> {
        let Self { buffer, offset, size } = self;
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size: *size })
    }
}

/// Something bound to a kernel, and whether the kernel writes it.
pub(super) struct Bound(Binding, bool);

/// Memory that a kernel can bind.
pub(super) trait Memory {
    fn bound(&self) -> Binding;
}

impl Memory for wgpu::Buffer {
    fn bound(&self) -> Binding {
        Binding::whole(self)
    }
}

impl Memory for DeviceWords {
    fn bound(&self) -> Binding {
        self.part()
    }
}

/// `memory`, bound to be read only.
pub(super) fn reads(memory: &impl Memory) -> Bound {
    Bound(memory.bound(), false)
}

/// `memory`, bound to be written.
pub(super) fn writes(memory: &impl Memory) -> Bound {
    Bound(memory.bound(), true)
}

/// Collects a plan's dispatches.
pub(super) struct Recorder<'a> {
    gpu: &'a Gpu,
    /// What every shader may name: the model's shape and the tuning.
    values: minijinja::Value,
    step: &'a wgpu::Buffer,
    rows: &'a wgpu::Buffer,
    /// By shader and kinds of bindings.
    layouts: HashMap<(&'static str, String), wgpu::BindGroupLayout>,
    known: HashMap<Kernel, usize>,
    pub pipelines: Pipelines,
    pub dispatches: Vec<Dispatch>,
}

impl<'a> Recorder<'a> {
    pub fn new(gpu: &'a Gpu, step: &'a wgpu::Buffer, rows: &'a wgpu::Buffer, shape: minijinja::Value) -> Self {
        // Kernels for CPU adapters need their number, kernels for GPUs only that there are eight.
        let subgroup = if gpu.tuning == Tuning::Cpu { gpu.subgroup } else { 0 };
        let shuffle = gpu.tuning == Tuning::Gpu && gpu.shuffles;
        let values = context! {
            tuning => gpu.tuning.name(),
            subgroup,
            shuffle,
            // naga has subgroups without the directive and refuses it; a browser wants it.
            enable_subgroups => (subgroup > 0 || shuffle) && gpu.adapter.backend == wgpu::Backend::BrowserWebGpu,
            parts => PARTS,
            part_size => gpu.tuning.part_size(),
            draw_size => gpu.tuning.draw_size(),
            change_size => CHANGE_SIZE,
            ..shape
        };
        Self {
            gpu,
            values,
            step,
            rows,
            layouts: HashMap::new(),
            known: HashMap::new(),
            pipelines: Pipelines { templates: Kernels::new(), kernels: Vec::new() },
            dispatches: Vec::new(),
        }
    }

    /// A dispatch of `kernel`. Its bindings after step and rows are `bindings`.
    ///
    /// # Errors
    /// `adapter_too_small` where the adapter's limits are below what the shader binds or runs.
    pub fn dispatch(&mut self, kernel: Kernel, over: Over, grid: Grid, bindings: &[Bound]) -> Result<()> {
        let gpu = self.gpu;
        let shader = kernel.shader();
        let kinds: String = bindings.iter().map(|b| if b.1 { 'w' } else { 'r' }).collect();
        // `rows` is bound besides.
        let limit = gpu.device.limits().max_storage_buffers_per_shader_stage as usize;
        if bindings.len() + 1 > limit {
            return Err(Error::new(
                ErrorCode::AdapterTooSmall,
                format!(
                    "{shader} binds {} storage buffers, but adapter '{}' allows {limit}; WebGPU's least is 8",
                    bindings.len() + 1,
                    gpu.adapter.name
                ),
            ));
        }
        let most = gpu.device.limits().max_compute_workgroups_per_dimension as usize;
        let types = kernel.types();
        let x = match &grid {
            Grid::Product(sections) => self::grid(gpu, gpu.tuning.tiles(&types)[0], sections, 1)[0],
            Grid::Each(x) => *x,
            _ => 0,
        };
        if x > most {
            return Err(Error::new(
                ErrorCode::AdapterTooSmall,
                format!(
                    "{shader} takes {x} workgroups, but adapter '{}' allows {most}: use a smaller model",
                    gpu.adapter.name
                ),
            ));
        }
        let kinds = format!("ur{kinds}");
        let layout = self.layouts.entry((shader, kinds.clone())).or_insert_with(|| layout(gpu, shader, &kinds));
        let next = self.pipelines.kernels.len();
        let kernel = *self.known.entry(kernel).or_insert_with_key(|kernel| {
            let variant = |tile: Option<Tile>, own: minijinja::Value| {
                let values = merge_maps([own, kernel.values(), self.values.clone()]);
                Variant { tile, values, pipeline: OnceLock::new() }
            };
            let variants = match &grid {
                Grid::Product(sections) => {
                    let prompt = gpu.tuning.prompt_tile().filter(|_| over == Over::Rows);
                    let of_tile = |tile: Tile| {
                        let groups_y = groups_y(gpu, tile.groups(sections));
                        let own = context! { T => tile.rows, tile => tile.name, quads => tile.quads, groups_y };
                        variant(Some(tile), own)
                    };
                    gpu.tuning.tiles(&types).into_iter().chain(prompt).map(of_tile).collect()
                }
                _ => vec![variant(None, context! {})],
            };
            let (kernel, kinds, layout) = (kernel.clone(), kinds, layout.clone());
            self.pipelines.kernels.push(Compiled { kernel, kinds, layout, variants });
            next
        });
        let common = [self.step, self.rows].map(Binding::whole);
        let memory: Vec<Binding> = common.into_iter().chain(bindings.iter().map(|bound| bound.0.clone())).collect();
        let group = group(gpu, shader, layout, &memory);
        self.dispatches.push(Dispatch { kernel, memory, group, grid, over });
        Ok(())
    }
}
