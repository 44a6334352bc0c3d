//! What a header tells is refused as soon as the header is complete: before a byte of a tensor comes, with a message that
//! says what is wrong. What the engine does not use is refused by name.

#[path = "support/gguf.rs"]
mod gguf;

use std::panic::{AssertUnwindSafe, catch_unwind};

use embergram::config::{LlmConfig, SamplingParams};
use embergram::gpu::Gpu;
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::{Error, ErrorCode, Result};
use gguf::{Entry, F32, Model, Tensor};
use serde_json::{Value, json};

fn gpu() -> Gpu {
    pollster::block_on(Gpu::open()).unwrap()
}

fn loader(gpu: &Gpu, config: Value) -> LlmLoader {
    LlmLoader::new(gpu, LlmConfig::from_json(&config).unwrap()).unwrap()
}

/// Loads parts as the web host does: the headers of all but the first, then all from the beginning.
fn load(gpu: &Gpu, config: Value, announced: &[Vec<u8>], files: &[Vec<u8>]) -> Result<Llm> {
    let mut loader = loader(gpu, config);
    for file in announced {
        assert!(loader.announce(file)?, "the header is complete");
    }
    for (i, file) in files.iter().enumerate() {
        if i > 0 {
            loader.next_part()?;
        }
        loader.push(file)?;
    }
    loader.finish()
}

fn files(parts: &[Model]) -> Vec<Vec<u8>> {
    parts.iter().map(Model::file).collect()
}

/// What a loader says when it has had the header, and no more.
fn at_the_header(gpu: &Gpu, config: Value, model: &Model) -> Result<()> {
    loader(gpu, config).push(&model.header())
}

#[track_caller]
fn says<T>(what: &str, result: Result<T>, code: ErrorCode, text: &str) {
    match result {
        Ok(_) => panic!("{what}: accepted"),
        Err(Error { code: got, message }) => {
            assert!(got == code && message.contains(text), "{what}: {got:?} {message}");
        }
    }
}

#[test]
fn a_good_header_is_taken() {
    let gpu = gpu();
    let model = Model::tiny();
    at_the_header(&gpu, json!({}), &model).unwrap();
    let whole = tokens(&mut load(&gpu, json!({}), &[], &[model.file()]).unwrap());
    let parts = files(&model.split(4));
    assert_eq!(tokens(&mut load(&gpu, json!({}), &parts[1..], &parts).unwrap()), whole);
}

fn tokens(llm: &mut Llm) -> Vec<u32> {
    let params = SamplingParams::from_json(&json!({ "temperature": 0, "max_tokens": 8, "ignore_eos": true })).unwrap();
    let outputs = pollster::block_on(llm.generate(&[Prompt::Tokens(vec![1, 2, 3])], &params)).unwrap();
    outputs[0][0].token_ids.clone()
}

#[test]
fn tensors_that_nobody_uses_are_refused_by_name() {
    let gpu = gpu();
    for name in [
        "blk.0.attn_output.bias",
        "blk.0.ffn_up.bias",
        "blk.0.attn_q_norm.weight",
        "output.bias",
        "output_norm.bias",
        "blk.1.attn_q.weight",
        "rope_factors_long.weight",
        "",
    ] {
        let model = Model::tiny().with(Tensor::new(name, &[32], F32));
        says(name, at_the_header(&gpu, json!({}), &model), ErrorCode::InvalidTensor, &format!("'{name}'"));
    }
    for name in ["blk.0.attn_rot_embd", "blk.0.attn_rot_embd.weight", "blk.0.attn_rot_embd.inv_freq"] {
        at_the_header(&gpu, json!({}), &Model::tiny().with(Tensor::new(name, &[16], F32))).unwrap();
    }
}

#[test]
fn metadata_that_would_change_the_arithmetic_is_refused_unless_it_is_neutral() {
    use Entry::{Bool, F32, Text, U32};
    let gpu = gpu();
    let scale = 1.0 / 32f32.sqrt();
    let text = |text: &str| Text(text.into());
    for (key, wrong, neutral) in [
        ("llama.rope.scaling.type", vec![text("yarn"), text("longrope")], vec![text("none"), text("linear")]),
        ("llama.rope.scaling.factor", vec![F32(4.0), F32(f32::NAN), text("4")], vec![F32(1.0), F32(0.0)]),
        ("llama.rope.scale_linear", vec![F32(2.0)], vec![F32(1.0)]),
        ("llama.rope.scaling.attn_factor", vec![F32(1.2), F32(0.0)], vec![F32(1.0)]),
        ("llama.rope.scaling.original_context_length", vec![], vec![U32(32)]),
        ("llama.rope.scaling.finetuned", vec![], vec![Bool(true)]),
        ("llama.rope.dimension_count", vec![U32(64), U32(6)], vec![U32(32), U32(16)]),
        ("llama.rope.freq_base_swa", vec![], vec![F32(10_000.0)]),
        ("llama.expert_count", vec![U32(8)], vec![U32(0)]),
        ("llama.expert_used_count", vec![U32(2)], vec![U32(0)]),
        ("llama.attention.scale", vec![F32(0.5)], vec![F32(scale), F32(0.0)]),
        ("llama.attention.value_length", vec![U32(16)], vec![U32(32)]),
        ("llama.attention.causal", vec![Bool(false)], vec![Bool(true)]),
        ("llama.attention.sliding_window", vec![], vec![U32(16), U32(64), U32(4096), U32(0)]),
        ("llama.attention.clamp_kqv", vec![F32(8.0)], vec![F32(0.0)]),
        ("llama.attention.max_alibi_bias", vec![F32(8.0)], vec![F32(0.0)]),
        ("llama.attention.layer_norm_epsilon", vec![], vec![F32(1e-5)]),
        ("llama.attn_logit_softcapping", vec![F32(50.0)], vec![F32(0.0)]),
        ("llama.final_logit_softcapping", vec![F32(30.0)], vec![F32(0.0)]),
        ("llama.logit_scale", vec![F32(0.0625)], vec![F32(1.0), F32(0.0)]),
        ("llama.residual_scale", vec![F32(0.22)], vec![F32(1.0)]),
        ("llama.embedding_scale", vec![F32(12.0)], vec![F32(1.0)]),
        ("llama.use_parallel_residual", vec![Bool(true)], vec![Bool(false)]),
        ("llama.hidden_activation", vec![text("gelu")], vec![text("silu")]),
        ("llama.tensor_data_layout", vec![], vec![text("Meta AI original pth")]),
        ("llama.a_key_of_tomorrow", vec![F32(2.0), Bool(true), text("on")], vec![F32(0.0), Bool(false), U32(0)]),
        ("tokenizer.ggml.add_eos_token", vec![Bool(true)], vec![Bool(false)]),
        ("tokenizer.ggml.add_space_prefix", vec![Bool(true)], vec![Bool(false)]),
        ("tokenizer.ggml.padding_token_id", vec![], vec![U32(0)]),
        ("general.quantization_version", vec![], vec![U32(2)]),
    ] {
        for value in wrong {
            let model = Model::tiny().set(key, value.clone());
            let what = format!("{key} {value:?}");
            says(&what, at_the_header(&gpu, json!({}), &model), ErrorCode::UnsupportedModel, key);
        }
        for value in neutral {
            let what = format!("{key} {value:?}");
            at_the_header(&gpu, json!({}), &Model::tiny().set(key, value)).expect(&what);
        }
    }
}

#[test]
fn what_the_options_and_the_tokenizer_refuse_is_refused_with_the_header() {
    let gpu = gpu();
    let text = |text: &str| Entry::Text(text.into());
    let tiny = Model::tiny;
    let (config, model, small) = (ErrorCode::InvalidConfig, ErrorCode::UnsupportedModel, ErrorCode::AdapterTooSmall);
    for (what, options, file, code, text) in [
        ("a family", json!({}), tiny().set("tokenizer.ggml.model", text("bert")), model, "tokenizer.ggml.model"),
        ("a pre", json!({}), tiny().set("tokenizer.ggml.pre", text("porcupine")), model, "porcupine"),
        ("a length", json!({ "max_model_len": 65 }), tiny(), config, "max_model_len"),
        ("a cache", json!({ "kv_cache_memory_bytes": 1 }), tiny(), config, "kv_cache_memory_bytes"),
        ("rows", json!({ "max_num_batched_tokens": u32::MAX }), tiny(), small, "max_num_batched_tokens"),
        (
            "a layer's cache",
            json!({ "max_num_seqs": 65_000, "kv_cache_memory_bytes": u64::MAX }),
            tiny().set("llama.context_length", Entry::U32(1 << 20)),
            small,
            "lower",
        ),
    ] {
        says(what, at_the_header(&gpu, options, &file), code, text);
    }
}

/// Memory that runs out, and a device that goes away, end a load while it runs.
#[test]
fn a_device_that_fails_ends_the_load() {
    let gpu = gpu();
    let file = Model::tiny().file();
    let mut loader = loader(&gpu, json!({}));
    loader.push(&file[..file.len() - 2000]).unwrap();
    gpu.device.destroy();
    says("lost", loader.push(&file[file.len() - 2000..]), ErrorCode::DeviceLost, "lost");
}

#[test]
fn parts_of_a_split_file_are_held_to_each_other() {
    let gpu = gpu();
    let good = Model::tiny().split(4);
    let run = |announced: &[Model], parts: &[Model]| {
        catch_unwind(AssertUnwindSafe(|| load(&gpu, json!({}), &files(announced), &files(parts))))
            .unwrap_or_else(|_| panic!("a panic"))
            .map(|_| ())
    };
    let both = |parts: &[Model]| run(&parts[1..], parts);
    let changed = |no: usize, change: &dyn Fn(Model) -> Model| {
        let mut parts = good.clone();
        parts[no] = change(parts[no].clone());
        parts
    };
    run(&good[1..], &good).unwrap();
    let invalid = ErrorCode::InvalidFile;

    // One tensor in two parts; with the total made right it is still there twice.
    let twice = changed(1, &|part| part.with(good[2].tensors[0].clone()));
    says("twice", both(&twice), invalid, "split.tensors.count");
    let total = Entry::U32(12);
    let twice: Vec<Model> = twice.into_iter().map(|part| part.set("split.tensors.count", total.clone())).collect();
    says("twice", both(&twice), invalid, &good[2].tensors[0].name);

    for no in 1..3 {
        let what = |key: &str, value| changed(no, &|part: Model| part.set(key, Entry::U32(value)));
        says("no", both(&what("split.no", 7)), invalid, "split.no");
        says("count", both(&what("split.count", 4)), invalid, "split.count");
        says("tensors", both(&what("split.tensors.count", 12)), invalid, "split.tensors.count");
        says("whole", both(&changed(no, &|part| Model { entries: vec![], ..part })), invalid, "split.no");
    }
    says("first", both(&changed(0, &|p| p.set("split.tensors.count", Entry::U32(9)))), invalid, "split.tensors.count");
    says("order", run(&[good[2].clone(), good[1].clone()], &good), invalid, "split.no");
    says("second as first", run(&good[1..], &[good[1].clone()]), invalid, "split.no");
    says("too few", run(&good[1..2], &good[..2]), invalid, "3");
    says("none announced", run(&[], &good[..1]), invalid, "3");

    // What is read is not what was announced.
    let other = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut part = good[1].clone();
        change(&mut part.tensors);
        part
    };
    for (what, part) in [
        ("a tensor less", other(&|tensors| drop(tensors.pop()))),
        ("a tensor more", other(&|tensors| tensors.push(Tensor::new("more", &[32], F32)))),
        ("another name", other(&|tensors| tensors[0].name = "another".into())),
        ("another type", other(&|tensors| tensors[3].kind = F32)),
        ("another shape", other(&|tensors| tensors[3].shape = vec![32, 64])),
        ("another order", other(&|tensors| tensors.reverse())),
        ("another part", good[2].clone()),
    ] {
        says(what, run(&good[1..], &[good[0].clone(), part, good[2].clone()]), invalid, "announced");
    }
    says("one missing", run(&good[1..], &good[..2]), ErrorCode::TruncatedFile, "missing");
    let more = [&good[..], &good[2..]].concat();
    says("one too many", run(&good[1..], &more), invalid, "more parts");
}

#[test]
fn names_out_of_a_file_are_cut_in_messages() {
    let gpu = gpu();
    let long = format!("\u{1b}[31m\n{}", "x".repeat(1 << 20));
    let text = || Entry::Text(long.clone());
    let tiny = Model::tiny;
    let mut renamed = tiny();
    renamed.tensors[3].shape = vec![0];
    renamed.tensors[3].name = long.clone();
    let mut unknown_type = tiny();
    unknown_type.tensors[3] = Tensor { kind: 16, ..Tensor::new(&long, &[32], F32) };
    let mut merges = tiny().set("tokenizer.ggml.merges", Entry::Texts(vec![format!("a {long}")]));
    merges.entries.reverse();
    for (what, model) in [
        ("architecture", tiny().set("general.architecture", text())),
        ("unused tensor", tiny().with(Tensor::new(&long, &[32], F32))),
        ("twice", tiny().with(Tensor::new(&long, &[32], F32)).with(Tensor::new(&long, &[32], F32))),
        ("empty", renamed),
        ("type", unknown_type),
        ("key", tiny().set(&format!("llama.{long}"), Entry::U32(1))),
        ("scaling", tiny().set("llama.rope.scaling.type", text())),
        ("model", tiny().set("tokenizer.ggml.model", text())),
        ("pre", tiny().set("tokenizer.ggml.pre", text())),
        ("merges", merges),
        ("one merge", tiny().set("tokenizer.ggml.merges", Entry::Texts(vec![long.clone()]))),
    ] {
        let Error { message, .. } = at_the_header(&gpu, json!({}), &model).expect_err(what);
        assert!(message.len() < 1000, "{what}: {} bytes: {}", message.len(), &message[..200]);
        assert!(!message.contains(char::is_control), "{what}: {message:?}");
    }
    // The file's name for itself is a label of every metric.
    let name = tiny().set("general.name", text());
    let llm = load(&gpu, json!({}), &[], &[name.file()]).unwrap();
    assert!(llm.info().name.len() < 600 && llm.metrics_text().len() < 1 << 20);
}
