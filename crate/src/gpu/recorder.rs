//! Records dispatches: bind groups once for each dispatch, pipelines once for each shape, when they are first used.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use burn_wgpu::wgpu;
use minijinja::{context, value::merge_maps};

use super::kernel::Kernel;
use super::kernels::{Kernels, SHADERS, layout};
use super::{Gpu, Tuning, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

/// Rows of activations that one register tile holds. A step uses the first that holds all its rows, else the last.
pub const TILES: [usize; 5] = [1, 2, 4, 6, 8];

/// One kernel of a plan, compiled: a pipeline for each tile where it works on tiles. Each is compiled when a step first
/// needs it: a CPU adapter takes half a second for one, and many plans never see some of them.
pub(super) struct Compiled {
    pub kernel: Kernel,
    /// The kinds of its bindings, as [`layout`] takes them.
    pub kinds: String,
    layout: wgpu::BindGroupLayout,
    /// What the template's values are for each pipeline.
    variants: Vec<(minijinja::Value, OnceLock<wgpu::ComputePipeline>)>,
}

impl Compiled {
    fn pipeline(&self, gpu: &Gpu, templates: &Kernels, variant: usize) -> Result<&wgpu::ComputePipeline> {
        let (values, made) = &self.variants[variant];
        if made.get().is_none() {
            let _ = made.set(templates.pipeline(gpu, self.kernel.shader(), &self.layout, values)?);
        }
        Ok(made.get().expect("just made"))
    }

    /// Each pipeline's WGSL, and the rows of its tile.
    pub fn sources(&self, templates: &Kernels) -> Result<Vec<(usize, String)>> {
        let source = |(values, _): &(minijinja::Value, _)| {
            let tile = values.get_attr("T").ok().and_then(|rows| rows.as_usize()).unwrap_or(1);
            Ok((tile, templates.render(self.kernel.shader(), values)?))
        };
        self.variants.iter().map(source).collect()
    }
}

/// What dispatches run: the kernels, and the templates they are made of.
pub(super) struct Pipelines {
    pub templates: Kernels,
    pub kernels: Vec<Compiled>,
}

/// What the second dimension of a dispatch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Rows,
    Outputs,
}

/// How many workgroups a dispatch has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grid {
    /// So many for each tile of rows.
    Tiles(usize),
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
                (kernel.kernel.shader(), format!("{values:?}")).hash(&mut hasher);
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
    group: wgpu::BindGroup,
    grid: Grid,
    over: Over,
}

impl Dispatch {
    /// Records it for so many rows and outputs. `one_tile` takes the largest tile however few the rows are.
    ///
    /// # Errors
    /// `internal` for a template that does not render.
    pub fn encode(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        gpu: &Gpu,
        pipelines: &Pipelines,
        rows: usize,
        outputs: usize,
        one_tile: bool,
    ) -> Result<()> {
        let n = if self.over == Over::Rows { rows } else { outputs };
        if n == 0 {
            return Ok(());
        }
        let largest = TILES.len() - 1;
        let tile = if one_tile { largest } else { TILES.iter().position(|t| *t >= n).unwrap_or(largest) };
        let (pipeline, x, y) = match self.grid {
            Grid::Tiles(x) => (tile, x, n.div_ceil(TILES[tile])),
            Grid::Each(x) => (0, x, n),
            Grid::Flat(each, workgroup) => (0, (n * each).div_ceil(workgroup), 1),
        };
        pass.set_pipeline(pipelines.kernels[self.kernel].pipeline(gpu, &pipelines.templates, pipeline)?);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x as u32, y as u32, 1);
        Ok(())
    }
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
        // Only kernels for CPU adapters use them.
        let subgroup = if gpu.tuning == Tuning::Cpu { gpu.subgroup } else { 0 };
        let values = context! {
            tuning => gpu.tuning.name(),
            subgroup,
            // naga has subgroups without the directive and refuses it; a browser wants it.
            enable_subgroups => subgroup > 0 && gpu.adapter.backend == wgpu::Backend::BrowserWebGpu,
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
        if let Grid::Tiles(x) | Grid::Each(x) = grid
            && x > most
        {
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
            let tiles = if matches!(grid, Grid::Tiles(_)) { &TILES[..] } else { &[1] };
            let variant = |tile: &usize| {
                let values = merge_maps([context! { T => tile }, kernel.values(), self.values.clone()]);
                (values, OnceLock::new())
            };
            let variants = tiles.iter().map(variant).collect();
            let (kernel, kinds, layout) = (kernel.clone(), kinds, layout.clone());
            self.pipelines.kernels.push(Compiled { kernel, kinds, layout, variants });
            next
        });
        let common = [self.step.as_entire_binding(), self.rows.as_entire_binding()];
        let entries: Vec<_> = (0..)
            .zip(common.iter().chain(bindings.iter().map(|b| &b.0)))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource: resource.clone() })
            .collect();
        let group =
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(shader), layout, entries: &entries });
        self.dispatches.push(Dispatch { kernel, group, grid, over });
        Ok(())
    }
}
