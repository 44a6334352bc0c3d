//! The engine as WebAssembly in a worker of a browser, on the browser's adapter: SwiftShader in Chromium without a GPU.
#![cfg(target_arch = "wasm32")]

mod common;
mod transformers;

use std::cell::OnceCell;
use std::sync::Once;

use common::lossless::{self, speculation};
use common::requests::{counter, finish, metric, params};
use common::{draws, quant, rows};
use embergram::config::LlmConfig;
use embergram::gpu::{Gpu, Tuning};
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::program::Precision;
use embergram::{ErrorCode, Result};
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The tiny model of `scripts/make_model.py`.
static TINY: &[u8] = include_bytes!(env!("EMBERGRAM_TINY_MODEL"));
const MIB: f64 = 1048576.0;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// A new device.
async fn open() -> Gpu {
    static ONCE: Once = Once::new();
    // Once for all, as in the package: else they run on every call from JS.
    // SAFETY: the linker defines it, it takes nothing, and nothing of burn has run before.
    ONCE.call_once(|| unsafe { __wasm_call_ctors() });
    Gpu::open().await.unwrap()
}

/// The device that tests share.
async fn gpu() -> Gpu {
    thread_local!(static GPU: OnceCell<Gpu> = const { OnceCell::new() });
    if let Some(gpu) = GPU.with(|gpu| gpu.get().cloned()) {
        return gpu;
    }
    let gpu = open().await;
    console_log!("{:?}, {:?}, subgroups of {}", gpu.adapter, gpu.tuning, gpu.subgroup);
    GPU.with(|cell| cell.get_or_init(|| gpu).clone())
}

/// Loads a file that comes in pieces of 10,000 bytes.
async fn load(gpu: &Gpu, config: Value, file: &[u8]) -> Result<Llm> {
    let mut loader = LlmLoader::new(gpu, LlmConfig::from_json(&config)?)?;
    for piece in file.chunks(10_000) {
        loader.push(piece)?;
    }
    let mut llm = loader.finish()?;
    llm.warm_up(None).await?;
    Ok(llm)
}

/// Bytes of the module's memory. It never shrinks, so this is the most that was in use so far.
fn memory() -> f64 {
    core::arch::wasm32::memory_size(0) as f64 * 65536.0
}

/// Two prompts, one greedy and one sampled, with this `num_speculative_tokens`; their tokens, and how many were drafted.
async fn two_prompts(llm: &mut Llm, k: u32) -> (Vec<Vec<u32>>, u64) {
    llm.set_speculation(speculation(json!(k)));
    let mut ids = Vec::new();
    for p in [json!({ "temperature": 0 }), json!({ "temperature": 2.0, "seed": 11, "repetition_penalty": 1.05 })] {
        let mut p = p;
        p["max_tokens"] = json!(32);
        p["ignore_eos"] = json!(true);
        ids.extend(llm.add(&Prompt::Text("the water and the people and the water and".into()), &params(p)).unwrap());
    }
    let outputs = finish(llm, &ids).await;
    let drafts = |o: &embergram::engine::SequenceOutput| {
        o.metrics.as_ref().unwrap().speculative_decoding.as_ref().map_or(0, |s| s.num_draft_tokens)
    };
    let drafted = outputs.iter().map(drafts).sum();
    (outputs.into_iter().map(|o| o.token_ids).collect(), drafted)
}

#[wasm_bindgen_test]
async fn the_device_draws_what_the_sampler_would() {
    draws::the_device_draws_what_the_sampler_would(&gpu().await, TINY).await;
}

#[wasm_bindgen_test]
async fn kernels_dequantise_every_type_as_gguf_does() {
    quant::kernels_dequantise_every_type_as_gguf_does(&gpu().await).await;
}

#[wasm_bindgen_test]
async fn any_grouping_gives_the_same_logits() {
    let gpu = gpu().await;
    assert_eq!(gpu.tuning, Tuning::Cpu, "SwiftShader is a software adapter");
    rows::any_grouping_gives_the_same_logits(&gpu, TINY, 4, Precision::Full).await;
}

/// A browser's compiler takes the shaders that GPUs get, too.
#[wasm_bindgen_test]
async fn any_grouping_gives_the_same_logits_with_a_gpu_s_kernels() {
    let mut gpu = gpu().await;
    gpu.tuning = Tuning::Gpu;
    for precision in [Precision::Full, Precision::Fast] {
        rows::any_grouping_gives_the_same_logits(&gpu, TINY, 1, precision).await;
    }
}

#[wasm_bindgen_test]
async fn architectures_give_the_logits_and_tokens_of_transformers() {
    let gpu = gpu().await;
    for tiny in &transformers::ALL {
        let model = transformers::of_folder(&gpu, tiny, None);
        let difference = transformers::gives_the_logits_and_tokens_of_transformers(&gpu, tiny, &model).await;
        console_log!("{}: {difference:e}", tiny.name);
    }
}

#[wasm_bindgen_test]
async fn every_depth_gives_the_tokens_of_none() {
    let mut llm = load(&gpu().await, lossless::config(), TINY).await.unwrap();
    let report = |line| console_log!("{line}");
    // `npm run test:full` compiles with it set.
    let cases = if option_env!("EMBERGRAM_FULL") == Some("1") { 240 } else { 48 };
    lossless::every_depth_gives_the_tokens_of_none(&mut llm, cases, report).await;
}

/// With a GPU's kernels, which sample on the device: a step makes nothing anew, and reads back four bytes for each row.
#[wasm_bindgen_test]
async fn a_step_makes_nothing_and_reads_back_its_tokens() {
    let mut gpu = gpu().await;
    gpu.tuning = Tuning::Gpu;
    let mut llm = load(&gpu, json!({ "max_model_len": 64, "max_num_seqs": 2 }), TINY).await.unwrap();
    // Pipelines are compiled when they are first used.
    let before = two_prompts(&mut llm, 5).await;
    let count = "
        const names = ['createBuffer', 'createBindGroup', 'createComputePipeline', 'createShaderModule'];
        const plain = Object.fromEntries(names.map((name) => [name, GPUDevice.prototype[name]]));
        const made = [];
        for (const name of names) {
            GPUDevice.prototype[name] = function (...args) {
                made.push(name);
                return plain[name].apply(this, args);
            };
        }
        return () => {
            Object.assign(GPUDevice.prototype, plain);
            return made.join(' ');
        };";
    let made = js_sys::Function::new_no_args(count).call0(&JsValue::NULL).unwrap();
    llm.reset_metrics();
    let after = two_prompts(&mut llm, 5).await;
    let bytes = counter(&llm, "embergram:readback_bytes", None);
    let steps = metric(&llm, "embergram:step_time_seconds", None)["count"].as_u64().unwrap();
    let made = js_sys::Function::from(made).call0(&JsValue::NULL).unwrap().as_string().unwrap();
    assert_eq!(made, "");
    assert_eq!(before, after);
    // Two sequences of six rows at most, in each step.
    assert!(bytes <= steps * (4 * 2 * 6 + 64), "{bytes} bytes in {steps} steps");
}

/// Adapters that lack what the engine can do without.
#[wasm_bindgen_test]
async fn an_adapter_without_timestamps_and_subgroups_serves() {
    // Before its device is asked for, an adapter is only what it says of itself.
    let hide = "
        const getter = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'features');
        const get = function () {
            return new Set([...getter.get.call(this)].filter((f) => !['timestamp-query', 'subgroups'].includes(f)));
        };
        Object.defineProperty(GPUAdapter.prototype, 'features', { ...getter, get });
        return () => Object.defineProperty(GPUAdapter.prototype, 'features', getter);";
    let restore = js_sys::Function::new_no_args(hide).call0(&JsValue::NULL).unwrap();
    let gpu = open().await;
    js_sys::Function::from(restore).call0(&JsValue::NULL).unwrap();
    assert!(gpu.burn.is_none() && gpu.subgroup == 0 && gpu.device.features().is_empty(), "{gpu:?}");
    let with = self::gpu().await;
    assert!(with.burn.is_some(), "the adapter itself has timestamps: {with:?}");
    assert!(with.subgroup > 0 || with.tuning == Tuning::Gpu, "Chromium's own adapter has subgroups of four: {with:?}");

    let mut llm = load(&gpu, json!({ "max_model_len": 64, "max_num_seqs": 2 }), TINY).await.unwrap();
    let (expected, drafted) = two_prompts(&mut llm, 0).await;
    assert!(drafted == 0 && expected.iter().all(|tokens| tokens.len() == 32), "{expected:?}");
    assert_ne!(expected[0], expected[1]);
    let (speculated, drafted) = two_prompts(&mut llm, 5).await;
    assert!(drafted > 0);
    assert_eq!(expected, speculated);
}

#[wasm_bindgen_test]
async fn bad_files_are_refused_by_code_and_the_next_load_works() {
    let gpu = gpu().await;
    let name = b"llama.block_count";
    let at = TINY.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4;
    let mut no_layers = TINY.to_vec();
    no_layers[at] = 0;
    let page = b"<!DOCTYPE html><title>404</title>".to_vec();
    for (what, file, code) in [
        ("no bytes", vec![], ErrorCode::TruncatedFile),
        ("a web page", page, ErrorCode::InvalidFile),
        ("half its tensors", TINY[..TINY.len() - 5000].to_vec(), ErrorCode::TruncatedFile),
        ("no layers", no_layers, ErrorCode::UnsupportedModel),
    ] {
        let error = load(&gpu, json!({}), &file).await.err().expect(what);
        assert_eq!(error.code, code, "{what}: {error}");
    }
    let too_long = json!({ "max_model_len": 1 << 20 });
    assert_eq!(load(&gpu, too_long, TINY).await.err().unwrap().code, ErrorCode::InvalidConfig);

    let before = memory();
    let mut llm = load(&gpu, json!({ "max_model_len": 64, "max_num_seqs": 2 }), TINY).await.unwrap();
    console_log!(
        "the module's memory: {:.1} MiB, and {:.1} MiB more for this load",
        memory() / MIB,
        (memory() - before) / MIB
    );
    assert_eq!(two_prompts(&mut llm, 3).await.0[0].len(), 32);
    // All tests of this file share the module: what all of them together needed is within what one load may.
    assert!(memory() <= 128.0 * MIB, "{:.1} MiB", memory() / MIB);
}
