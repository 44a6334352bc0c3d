//! Every tensor type's WGSL dequantisation, run on the adapter, against values computed by the `gguf` package
//! (tests/fixtures/quant). The embedding kernel writes dequantised weights out as they are.

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

/// The weights of `blocks`, by the kernel, 32 a row. `base` bytes lie before the tensor, as before k and v in q's buffer.
async fn by_kernel(gpu: &Gpu, ty: QuantType, blocks: &[u8], base: u64) -> Vec<f32> {
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

    let rows = (elements / 32) as u32;
    let buffer = |bytes: u64, usage| {
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false })
    };
    let step = buffer(16, Usage::UNIFORM | Usage::COPY_DST);
    let row_list = buffer(u64::from(rows) * 16, Usage::STORAGE | Usage::COPY_DST);
    let x = buffer(elements * 4, Usage::STORAGE | Usage::COPY_SRC);
    let squares = buffer(elements, Usage::STORAGE);
    let staging = buffer(elements * 4, Usage::MAP_READ | Usage::COPY_DST);
    gpu.queue.write_buffer(&step, 0, bytemuck::cast_slice(&[rows, 0, 0, 0]));
    let words: Vec<[u32; 4]> = (0..rows).map(|token| [token, 0, 0, 0]).collect();
    gpu.queue.write_buffer(&row_list, 0, bytemuck::cast_slice(&words));

    let layout = layout(gpu, "embed", "urrww");
    let p: Vec<u64> = planes.offsets.iter().map(|o| (base + o) / 4).collect();
    let values = context! { d => 32, w => [context! { ty => ty.name(), p }] };
    let pipeline = Kernels::new().pipeline(gpu, "embed.wgsl", &layout, &values).unwrap();
    let bindings = [
        step.as_entire_binding(),
        row_list.as_entire_binding(),
        table.binding(),
        x.as_entire_binding(),
        squares.as_entire_binding(),
    ];
    let entries: Vec<_> =
        (0..).zip(bindings).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    let group =
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, rows, 1);
    }
    encoder.copy_buffer_to_buffer(&x, 0, &staging, 0, elements * 4);
    gpu.queue.submit([encoder.finish()]);
    read(gpu, &staging, elements * 4, bytemuck::pod_collect_to_vec).await.unwrap()
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
        for (gpu, base) in [(gpu, 0), (&without_burn, 48)] {
            let ours = by_kernel(gpu, ty, blocks, base).await;
            assert!(ours.len() >= 32 && ours.len() <= expected.len(), "{}: {} values", ty.name(), ours.len());
            for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
                // A driver may fuse the product and the minimum: the error is then that of one rounding less.
                let start = i / 32 * 32;
                let group = expected[start..(start + 32).min(expected.len())].iter().filter(|v| v.is_finite());
                let scale = group.fold(0.0f32, |m, v| m.max(v.abs()));
                let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * scale;
                assert!(same, "{} weight {i}: kernel {a:e}, gguf {b:e}", ty.name());
            }
        }
    }
}
