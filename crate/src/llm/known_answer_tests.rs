//! The known answer is right where the kernels are, and names a kernel whose shader was broken on purpose.

use super::weights::WeightLoader;
use crate::engine::known_answer::{SAMPLING, samples_well};
use crate::format::Parser;
use crate::gpu::{Gpu, Tuning, kernels};
use crate::model::{Decoder, arch};
use crate::program::{Capacity, Numerics, Precision, Runner};
use crate::testing::{Entry, F32, Model, Q4_0, Tensor};

pub(super) const VOCAB: usize = 70;
pub(super) const CAPACITY: Capacity =
    Capacity { rows: 8, outputs: 8, slots: 1, positions: 32, blocks: 4, block_size: 8 };

/// A small model of this architecture, with a layer of each kind.
pub(super) fn model(architecture: &str) -> Model {
    model_of(architecture, [64, 96, 32], Q4_0)
}

/// The same, of these widths: of the residual stream, the feed-forward, a head; and with matrices of this type.
fn model_of(architecture: &str, [d, ff, head]: [u32; 3], kind: u32) -> Model {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut model = Model::default().set("general.architecture", Entry::Text(architecture.into()));
    for (name, value) in [
        ("context_length", 64),
        ("block_count", if architecture == "gemma3" { 6 } else { 1 }),
        ("embedding_length", d),
        ("feed_forward_length", ff),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", head),
        ("attention.value_length", head),
        ("vocab_size", VOCAB as u32),
    ] {
        model = model.set(&key(name), Entry::U32(value));
    }
    model = model.set(&key("attention.layer_norm_rms_epsilon"), Entry::F32(1e-5));
    if architecture == "gemma3" {
        model = model.set(&key("attention.sliding_window"), Entry::U32(3));
    }
    let mut parser = Parser::new();
    parser.push(&model.header()).unwrap();
    let config = arch::read(&parser.into_header().unwrap().metadata, &|_| false).unwrap();
    let mut tensors = Vec::new();
    Decoder::new(&config, true, |spec| {
        tensors.extend(spec.pieces.iter().map(|piece| {
            let shape = piece.shape.map(|n| n as u64);
            let vector = piece.is_vector();
            Tensor::new(&piece.tensor, &shape[..if vector { 1 } else { 2 }], if vector { F32 } else { kind })
        }));
        Ok(())
    })
    .unwrap();
    model.tensors = tensors;
    model
}

/// What the known answer says of the kernels for this model.
fn answer(gpu: &Gpu, model: &Model) -> Option<String> {
    answer_with(gpu, model, Numerics::default())
}

fn answer_with(gpu: &Gpu, model: &Model, numerics: Numerics) -> Option<String> {
    let mut loader = WeightLoader::new(gpu, None);
    loader.read(model.file().as_slice()).unwrap();
    let mut plan = loader.finish().unwrap().runner_with(gpu, CAPACITY, numerics).unwrap();
    pollster::block_on(async {
        let wrong = plan.known_answer(1).await.unwrap();
        if wrong.is_some() || !plan.draws() || samples_well(&mut plan, VOCAB, 1).await.unwrap() {
            return wrong;
        }
        Some(SAMPLING.into())
    })
}

/// The adapter under each tuning, and without subgroups.
pub(super) fn adapters() -> [Gpu; 3] {
    let gpu = pollster::block_on(Gpu::open()).unwrap();
    let with = |tuning, subgroup| {
        let mut gpu = gpu.clone();
        (gpu.tuning, gpu.subgroup) = (tuning, subgroup);
        gpu
    };
    [with(Tuning::Gpu, gpu.subgroup), with(Tuning::Cpu, gpu.subgroup), with(Tuning::Cpu, 0)]
}

#[test]
fn right_kernels_give_the_known_answer() {
    let mut without_shuffles = adapters()[0].clone();
    without_shuffles.shuffles = false;
    for gpu in adapters().into_iter().chain([without_shuffles]) {
        for architecture in ["llama", "gemma3"] {
            assert_eq!(answer(&gpu, &model(architecture)), None, "{architecture}, {:?}", gpu.tuning);
        }
    }
}

#[test]
fn bytes_give_the_known_answer_of_bytes() {
    let [gpu, ..] = adapters();
    let fast = Numerics { precision: Precision::Fast, ..Numerics::default() };
    // Q4_0, Q4_1, Q5_0, Q8_0, Q5_K, Q6_K; Q5_1 and Q4_K are put together of the same parts.
    for kind in [Q4_0, 3, 6, 8, 13, 14] {
        let model = model_of("llama", [256, 512, 64], kind);
        assert_eq!(answer_with(&gpu, &model, fast), None, "type {kind}");
    }
    let model = model_of("llama", [256, 512, 64], Q4_0);
    for (shader, right, wrong, name) in [
        ("quantize.wgsl", "round(v_", "floor(v_", "quantize_256, qkv"),
        ("quantize.wgsl", "most / 127.0", "most / 126.0", "quantize_256, qkv"),
        ("common/lane_weights.wgsl", "\"Q4_0\": 8, \"Q5_0\"", "\"Q4_0\": 7, \"Q5_0\"", "quantize_256, qkv"),
        ("common/weights.wgsl", "{{ q }} & 0x0f0f0f0fu\n", "{{ q }} & 0x0f0f0f07u\n", "quantize_256, qkv of a prompt"),
    ] {
        kernels::broken(shader, right, wrong);
        assert_eq!(answer_with(&gpu, &model, fast).as_deref(), Some(name), "{shader}: {right} -> {wrong}");
        kernels::mended();
    }
}

#[test]
fn a_broken_kernel_is_named() {
    let [gpu, cpu, alone] = adapters();
    let (llama, gemma) = (model("llama"), model("gemma3"));
    let inverse = "inverseSqrt(total / {{ d }}.0 + {{ eps }})";
    let attention = "attention_gpu, attention_merge, attention_prompt";
    let of_prompt = format!("{attention} of a prompt");
    for (gpu, model, shader, right, wrong, name) in [
        (&gpu, &llama, "embed.wgsl", "32 }}u + g)", "32 }}u + (g ^ 1u))", "embed"),
        (&gpu, &llama, "common/residual.wgsl", "= dot(v, v)", "= dot(v, v.yxzw)", "embed"),
        (&gpu, &llama, "common/residual.wgsl", "v * gain[quad]", "-v * gain[quad]", "embed"),
        (&gpu, &llama, "common/weights.wgsl", "in_place(8 if", "in_place(7 if", "embed"),
        (&gpu, &llama, "common/rotate.wgsl", "v.x * c.x - v.y", "v.x * c.x + v.y", "qkv"),
        (
            &gpu,
            &llama,
            "qkv.wgsl",
            "cache(VALUES + cache_at(r.y, r.z)",
            "cache(VALUES + 1u + cache_at(r.y, r.z)",
            "qkv",
        ),
        (&gpu, &llama, "common/cache.wgsl", "2 * block_size", "block_size", "qkv"),
        (&gpu, &llama, "common/tile_gpu.wgsl", "+= dot(squares", "-= dot(squares", "qkv"),
        (&gpu, &llama, "common/tile_gpu.wgsl", inverse, "inverseSqrt(total + {{ eps }})", "qkv"),
        (&gpu, &llama, "common/tile_gpu.wgsl", "= fma(w_{{ i }}", "= fma(-w_{{ i }}", "qkv"),
        (&gpu, &llama, "common/lane_weights.wgsl", "\"Q4_0\": -8", "\"Q4_0\": -7", "qkv"),
        (
            &gpu,
            &llama,
            "attention_gpu.wgsl",
            "cached(places[i_{{ u }}] + lane)",
            "cached(places[i_{{ u }}] + (lane ^ 1u))",
            attention,
        ),
        (&gpu, &llama, "attention_gpu.wgsl", "p <= position_{{ r }}", "p < position_{{ r }}", attention),
        (&gpu, &llama, "common/tile_prompt.wgsl", "= fma(v_{{ i }}", "= fma(-v_{{ i }}", "qkv of a prompt"),
        (&gpu, &llama, "attention_gpu.wgsl", "* keep + total", "* keep - total", &of_prompt),
        (&gpu, &llama, "project.wgsl", "x[at] + ", "x[at] - ", "project_128"),
        (&gpu, &llama, "gate_up.wgsl", "exp(-v.xy)", "exp(v.xy)", "gate_up"),
        (&gpu, &llama, "logits.wgsl", "logits[at + {{ j }}u]", "logits[at + {{ 3 - j }}u]", "logits"),
        (
            &gpu,
            &llama,
            "argmax_part.wgsl",
            "vec2<u32>(best, bits)",
            "vec2<u32>(best ^ 1u, bits)",
            "argmax_part, argmax",
        ),
        (&gpu, &llama, "common/best.wgsl", "vb > va ||", "vb < va ||", "argmax_part, argmax"),
        (&gpu, &llama, "adjust.wgsl", "v / factor", "v * factor", SAMPLING),
        (&gpu, &llama, "adjust.wgsl", "- bitcast<f32>(change.w)", "+ bitcast<f32>(change.w)", SAMPLING),
        (&gpu, &llama, "adjust.wgsl", "+ bitcast<f32>(change.y)", "- bitcast<f32>(change.y)", SAMPLING),
        (&gpu, &llama, "common/noise.wgsl", "c.y ^ key.x", "c.y", SAMPLING),
        (&gpu, &llama, "common/noise.wgsl", "0.69314718", "-0.69314718", SAMPLING),
        (&gpu, &llama, "draw.wgsl", "gumbel(noise[i]) - distances[i]", "gumbel(noise[i]) + distances[i]", SAMPLING),
        (&gpu, &llama, "draw.wgsl", "(prefix << 8u) | bin", "(prefix << 8u) + bin + 40u", SAMPLING),
        (&gpu, &gemma, "qk_norm.wgsl", "f32(count * 4u)", "f32(count)", "qk_norm"),
        (&gpu, &gemma, "add_normed.wgsl", "x[at] + branch", "x[at] - branch", "add_normed"),
        (&gpu, &gemma, "gate_up.wgsl", "let u = v.xy", "let u = -v.xy", "gate_up"),
        (
            &gpu,
            &gemma,
            "common/window.wgsl",
            "window - 1",
            "window - 2",
            "attention_gpu_3, attention_merge, attention_prompt",
        ),
        (&cpu, &llama, "common/tile_cpu.wgsl", "_{{ t }} += dot", "_{{ t }} -= dot", "qkv"),
        (&cpu, &llama, "attention_subgroup.wgsl", "VALUES + {{ turn", "1u + VALUES + {{ turn", "attention_subgroup"),
        (&alone, &llama, "attention_alone.wgsl", "let v_at = VALUES + k_at", "let v_at = k_at", "attention_alone"),
    ] {
        kernels::broken(shader, right, wrong);
        assert_eq!(answer(gpu, model).as_deref(), Some(name), "{shader}: {right} -> {wrong}");
        kernels::mended();
    }
}
