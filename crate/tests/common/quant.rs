//! Every tensor type's WGSL dequantisation, run on the adapter, against values computed by the `gguf` package
//! (tests/fixtures/quant).

use burn_wgpu::wgpu::{self, BufferUsages as Usage};
use embergram::format::quant::{PlaneLayout, PlaneSplitter, QuantType};
use embergram::gpu::Gpu;
use embergram::gpu::kernels::{Kernels, layout};
use embergram::gpu::readback::read;
use embergram::gpu::weights::DeviceWords;
use minijinja::context;

/// Blocks of a type, and their weights as f32.
fn fixture(ty: QuantType) -> (&'static [u8], &'static [u8]) {
    macro_rules! file {
        ($name:ident, $end:literal) => {
            &include_bytes!(concat!("../../../tests/fixtures/quant/", stringify!($name), $end))[..]
        };
    }
    macro_rules! files {
        ($($name:ident)*) => {
            match ty {
                $(QuantType::$name => (file!($name, ".bin"), file!($name, ".expected.bin")),)*
            }
        };
    }
    files!(F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K)
}

/// Writes out all weights, 32 an invocation; `subgroup` 4: once for each lane, in its order.
const SHADER: &str = r#"
{% from "common/weights.wgsl" import weights %}
{% from "common/lanes.wgsl" import order %}
@group(0) @binding(0) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
{{ weights("group", "table", ty, p, subgroup) }}
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) id: vec3<u32>) {
  let lane = id.y;
  {{ order(subgroup) }}
  let v = group(id.x{{ ", order" if subgroup == 4 }});
  let at = (id.y * {{ groups }}u + id.x) * 8u;
  {%- for i in range(8) %}
  x[at + {{ i }}u] = v[{{ i }}];
  {%- endfor %}
}
"#;

/// The weights of `blocks`, by the kernels' function; with `subgroup` 4 one lane's after another's. `base` bytes lie before
/// the tensor, as before v in q's buffer where their types differ.
async fn by_kernel(gpu: &Gpu, ty: QuantType, blocks: &[u8], base: u64, subgroup: u32) -> Vec<f32> {
    let elements = (blocks.len() / ty.block_bytes() * ty.block_len()) as u64;
    let planes = PlaneLayout::new(ty, elements);
    let table = DeviceWords::empty(gpu, base + planes.total_bytes, "the tensor").unwrap();
    let mut write = |offset: u64, bytes: &[u8]| {
        table.write(gpu, base + offset, bytes);
        Ok(())
    };
    let mut splitter = PlaneSplitter::new(ty, elements);
    splitter.push(blocks, &mut write).unwrap();
    splitter.finish(&mut write).unwrap();

    let (groups, lanes) = ((elements / 32) as u32, subgroup.max(1));
    let bytes = elements * 4 * u64::from(lanes);
    let buffer = |usage| {
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false })
    };
    let x = buffer(Usage::STORAGE | Usage::COPY_SRC);
    let staging = buffer(Usage::MAP_READ | Usage::COPY_DST);
    let layout = layout(gpu, "test", "rw");
    let p: Vec<u64> = planes.offsets.iter().map(|o| (base + o) / 4).collect();
    let mut kernels = Kernels::new();
    kernels.add("test", SHADER);
    let values = context! { ty => ty.name(), p, subgroup, groups };
    let pipeline = kernels.pipeline(gpu, "test", &layout, &values).unwrap();
    let entries: Vec<_> = (0..)
        .zip([table.binding(), x.as_entire_binding()])
        .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
        .collect();
    let group =
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(groups, lanes, 1);
    }
    encoder.copy_buffer_to_buffer(&x, 0, &staging, 0, bytes);
    gpu.queue.submit([encoder.finish()]);
    read(gpu, &staging, bytes, bytemuck::pod_collect_to_vec).await.unwrap()
}

/// The kernel's weights are gguf's, for every type.
pub async fn kernels_dequantise_every_type_as_gguf_does(gpu: &Gpu) {
    // As in a browser whose adapter has no timestamp queries.
    let mut without_burn = gpu.clone();
    without_burn.burn = None;
    for ty in QuantType::ALL {
        let (blocks, expected) = fixture(ty);
        // Whole groups of 32, which rows are made of.
        let per_group = (32 / ty.block_len()).max(1) * ty.block_bytes();
        let blocks = &blocks[..blocks.len() / per_group * per_group];
        let expected: Vec<f32> = bytemuck::pod_collect_to_vec(expected);
        let plain = by_kernel(gpu, ty, blocks, 0, 0).await;
        assert!(plain.len() >= 32 && plain.len() <= expected.len(), "{}: {} values", ty.name(), plain.len());
        let ordered = by_kernel(&without_burn, ty, blocks, 48, 4).await;
        assert_eq!(ordered.len(), 4 * plain.len());
        for (lane, ours) in [(0, &plain[..])].into_iter().chain((0..).zip(ordered.chunks(plain.len()))) {
            for (at, a) in ours.iter().enumerate() {
                // In turn t of a half, four vec4, a lane is at vec4 t ^ lane.
                let i = at ^ (lane * 4);
                let b = &expected[i];
                // A driver may fuse the product and the minimum: the error is then that of one rounding less.
                let start = i / 32 * 32;
                let group = expected[start..(start + 32).min(expected.len())].iter().filter(|v| v.is_finite());
                let scale = group.fold(0.0f32, |m, v| m.max(v.abs()));
                let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * scale;
                assert!(same, "{} lane {lane} weight {i}: kernel {a:e}, gguf {b:e}", ty.name());
            }
        }
    }
}
