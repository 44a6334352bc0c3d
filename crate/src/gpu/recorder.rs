//! Records dispatches: bind groups once for each dispatch, pipelines once for each shape, when they are first used.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use burn_wgpu::wgpu;
use minijinja::{context, value::merge_maps};

use super::kernel::Kernel;
use super::kernels::{Kernels, SHADERS, layout};
use super::tuning::Tile;
use super::{Gpu, Tuning, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

/// Rows of activations that one register tile holds. A step uses the first that holds all its rows, else the last.
pub const TILES: [usize; 5] = [1, 2, 4, 6, 8];

/// One kernel of a plan, compiled: where it is a product, a pipeline for each tile of rows of decoding, then one for a prompt's. Each is compiled when a step first
/// needs it: a CPU adapter takes half a second for one, and many plans never see some of them.
struct Compiled {
    shader: &'static str,
    layout: wgpu::BindGroupLayout,
    /// What the template's values are for each pipeline.
    variants: Vec<(minijinja::Value, OnceLock<wgpu::ComputePipeline>)>,
}

impl Compiled {
    fn pipeline(&self, gpu: &Gpu, templates: &Kernels, variant: usize) -> Result<&wgpu::ComputePipeline> {
        let (values, made) = &self.variants[variant];
        if made.get().is_none() {
            let _ = made.set(templates.pipeline(gpu, self.shader, &self.layout, values)?);
        }
        Ok(made.get().expect("just made"))
    }
}

/// What dispatches run: the kernels, and the templates they are made of.
pub(super) struct Pipelines {
    templates: Kernels,
    kernels: Vec<Compiled>,
}

/// How many rows a step has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All.
    pub rows: usize,
    /// Those of decoding, which come first. All, where prompts are no role of their own.
    pub decode: usize,
    /// Those that are sampled.
    pub outputs: usize,
}

/// Which rows a dispatch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Rows,
    Outputs,
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
}

impl Pipelines {
    /// What tells these kernels from others: shaders and the values they are written out with.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for kernel in &self.kernels {
            for (values, _) in &kernel.variants {
                (kernel.shader, format!("{values:?}")).hash(&mut hasher);
            }
        }
        SHADERS.hash(&mut hasher);
        hasher.finish()
    }
}

/// One recorded dispatch.
pub(super) struct Dispatch {
    pub name: &'static str,
    /// Which of the plan's pipelines.
    pub kernel: usize,
    group: wgpu::BindGroup,
    grid: Grid,
    over: Over,
}

impl Dispatch {
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
        let n = if self.over == Over::Rows { counts.rows } else { counts.outputs };
        let mut dispatch = |variant: usize, [x, y, z]: [usize; 3]| -> Result<()> {
            if x * y * z > 0 {
                let kernel = &pipelines.kernels[self.kernel];
                pass.set_pipeline(kernel.pipeline(gpu, &pipelines.templates, variant)?);
                pass.set_bind_group(0, &self.group, &[]);
                pass.dispatch_workgroups(x as u32, y as u32, z as u32);
            }
            Ok(())
        };
        match &self.grid {
            Grid::Each(x) => dispatch(0, [*x, n, 1]),
            Grid::Flat(each, workgroup) => dispatch(0, [(n * each).div_ceil(*workgroup), 1, 1]),
            Grid::Product(sections) => {
                let decode = if self.over == Over::Rows { counts.decode } else { n };
                let tiles = gpu.tuning.tiles();
                let largest = tiles.len() - 1;
                let variant =
                    if one_tile { largest } else { tiles.iter().position(|t| t.rows >= decode).unwrap_or(largest) };
                dispatch(variant, grid(gpu, tiles[variant], sections, decode))?;
                match gpu.tuning.prompt_tile() {
                    Some(tile) if n > decode => dispatch(tiles.len(), grid(gpu, tile, sections, n - decode)),
                    _ => Ok(()),
                }
            }
        }
    }
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

/// Something bound to a kernel, and whether the kernel writes it.
pub(super) struct Bound<'a>(wgpu::BindingResource<'a>, bool);

/// Memory that a kernel can bind.
pub(super) trait Memory {
    fn resource(&self) -> wgpu::BindingResource<'_>;
}

impl Memory for wgpu::Buffer {
    fn resource(&self) -> wgpu::BindingResource<'_> {
        self.as_entire_binding()
    }
}

impl Memory for DeviceWords {
    fn resource(&self) -> wgpu::BindingResource<'_> {
        self.binding()
    }
}

/// `memory`, bound to be read only.
pub(super) fn reads(memory: &impl Memory) -> Bound<'_> {
    Bound(memory.resource(), false)
}

/// `memory`, bound to be written.
pub(super) fn writes(memory: &impl Memory) -> Bound<'_> {
    Bound(memory.resource(), true)
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
            parts => gpu.tuning.parts(),
            parts_per_workgroup => 16,
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
    pub fn dispatch(&mut self, kernel: Kernel, over: Over, grid: Grid, bindings: &[Bound<'_>]) -> Result<()> {
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
        let x = match &grid {
            Grid::Product(sections) => {
                gpu.tuning.tiles().map(|t| self::grid(gpu, t, sections, 1)[0]).into_iter().max().unwrap_or(0)
            }
            Grid::Each(x) => *x,
            Grid::Flat(..) => 0,
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
            let variants = match &grid {
                Grid::Product(sections) => {
                    let prompt = gpu.tuning.prompt_tile().filter(|_| over == Over::Rows);
                    let tiles = gpu.tuning.tiles().into_iter().chain(prompt);
                    let tile = |tile: Tile| {
                        let groups_y = groups_y(gpu, tile.groups(sections));
                        context! { T => tile.rows, tile => tile.name, quads => tile.quads, groups_y }
                    };
                    tiles.map(tile).collect()
                }
                _ => vec![context! {}],
            };
            let variants = variants
                .into_iter()
                .map(|tile| (merge_maps([tile, kernel.values(), self.values.clone()]), OnceLock::new()))
                .collect();
            self.pipelines.kernels.push(Compiled { shader, layout: layout.clone(), variants });
            next
        });
        let common = [self.step.as_entire_binding(), self.rows.as_entire_binding()];
        let entries: Vec<_> = (0..)
            .zip(common.iter().chain(bindings.iter().map(|b| &b.0)))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource: resource.clone() })
            .collect();
        let group =
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(shader), layout, entries: &entries });
        self.dispatches.push(Dispatch { name: shader, kernel, group, grid, over });
        Ok(())
    }
}
