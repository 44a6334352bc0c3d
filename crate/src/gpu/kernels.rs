//! Pipelines out of `shaders/`. A shader is a minijinja template: loops over registers are written out with the model's
//! shape, since not every driver unrolls them, and every shape is a constant.

use burn_wgpu::wgpu;
use minijinja::{Environment, UndefinedBehavior, Value};

use super::Gpu;
use crate::{Error, ErrorCode, Result};

macro_rules! shaders {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../../shaders/", $name)))),*] };
}

/// Names and sources.
pub(super) const SHADERS: &[(&str, &str)] = shaders![
    "common/weights.wgsl",
    "common/lane_weights.wgsl",
    "common/matrix.wgsl",
    "common/residual.wgsl",
    "common/step.wgsl",
    "common/cache.wgsl",
    "common/norm.wgsl",
    "common/lanes.wgsl",
    "common/rotate.wgsl",
    "common/window.wgsl",
    "common/tile_cpu.wgsl",
    "common/tile_gpu.wgsl",
    "common/tile_prompt.wgsl",
    "quantize.wgsl",
    "embed.wgsl",
    "qkv.wgsl",
    "qk_norm.wgsl",
    "attention_alone.wgsl",
    "attention_subgroup.wgsl",
    "attention_gpu.wgsl",
    "attention_merge.wgsl",
    "project.wgsl",
    "add_normed.wgsl",
    "gate_up.wgsl",
    "logits.wgsl",
    "common/best.wgsl",
    "common/noise.wgsl",
    "adjust.wgsl",
    "argmax_part.wgsl",
    "argmax.wgsl",
    "draw.wgsl",
];

/// The shader templates, parsed once.
pub struct Kernels {
    environment: Environment<'static>,
}

impl Kernels {
    /// Parses all templates.
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_keep_trailing_newline(true);
        // A misspelt name must not render as nothing.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut kernels = Self { environment };
        for (name, source) in SHADERS {
            kernels.add(name, source);
        }
        #[cfg(test)]
        if let Some((name, source)) = BROKEN.get() {
            kernels.add(name, source);
        }
        kernels
    }

    /// Adds a shader, which may import from the others.
    ///
    /// # Panics
    /// When it is no valid template.
    pub fn add(&mut self, name: &'static str, source: &'static str) {
        self.environment.add_template(name, source).expect("shaders are valid templates");
    }

    /// The WGSL of shader `name` with these values.
    pub fn render(&self, name: &str, values: &Value) -> Result<String> {
        let template = self.environment.get_template(name).expect("a shader of SHADERS");
        template.render(values).map_err(|e| Error::new(ErrorCode::Internal, format!("shader {name}: {e:#}")))
    }

    /// The compute pipeline of shader `name`, entry point `main`, for bind groups of `layout`.
    pub fn pipeline(
        &self,
        gpu: &Gpu,
        name: &str,
        layout: &wgpu::BindGroupLayout,
        values: &Value,
    ) -> Result<wgpu::ComputePipeline> {
        let source = self.render(name, values)?;
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(layout)],
            immediate_size: 0,
        });
        Ok(gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            // Every kernel writes its workgroup memory before it reads it; naga clears it with one invocation.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        }))
    }
}

/// A bind group layout whose bindings, from 0 on, are of these kinds: `u` uniform, `r` read-only storage, `w` storage.
pub fn layout(gpu: &Gpu, name: &str, kinds: &str) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..)
        .zip(kinds.chars())
        .map(|(binding, kind)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match kind {
                    'u' => wgpu::BufferBindingType::Uniform,
                    _ => wgpu::BufferBindingType::Storage { read_only: kind == 'r' },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries })
}

impl Default for Kernels {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
thread_local! {
    /// A shader that a test has broken, for the plans of its thread.
    static BROKEN: std::cell::Cell<Option<(&'static str, &'static str)>> = const { std::cell::Cell::new(None) };
}

/// Breaks a shader for the plans that this thread makes from now on.
#[cfg(test)]
pub(crate) fn broken(shader: &'static str, right: &str, wrong: &str) {
    let (_, source) = SHADERS.iter().find(|(name, _)| *name == shader).expect("a shader of SHADERS");
    assert!(source.contains(right), "{shader} does not say {right}");
    BROKEN.set(Some((shader, source.replace(right, wrong).leak())));
}

/// Takes that back.
#[cfg(test)]
pub(crate) fn mended() {
    BROKEN.set(None);
}
