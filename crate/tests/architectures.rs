//! Every architecture against `transformers`, in both tunings, and the reference in burn's operations against the same.

mod common;
mod transformers;

use burn::tensor::{Device, DeviceKind};
use common::{On, lossless};
use embergram::format::QuantType;
use embergram::gpu::Tuning;
use embergram::model::reference::Reference;
use embergram::program::{CacheType, Precision};
use transformers::{ALL, difference, gives_the_logits_and_tokens_of_transformers, last_difference, of_folder, of_gguf};

#[test]
fn plans_give_the_logits_and_tokens_of_transformers() {
    let mut gpu = common::gpu();
    for tiny in &ALL {
        for tuning in [Tuning::Cpu, Tuning::Gpu] {
            gpu.tuning = tuning;
            let folder = (tuning == Tuning::Cpu || common::full()).then(|| of_folder(&gpu, tiny, None));
            for model in [of_gguf(&gpu, tiny)].into_iter().chain(folder) {
                let difference = pollster::block_on(gives_the_logits_and_tokens_of_transformers(&gpu, tiny, &model));
                eprintln!("{}, {tuning:?}: {difference:e}", tiny.name);
            }
        }
    }
}

/// Eight bits change the logits a little, four bits more; `transformers`' are the measure.
#[test]
fn folders_are_quantised_while_they_are_loaded() {
    let gpu = common::gpu();
    for tiny in &ALL {
        let of = |ty| pollster::block_on(last_difference(&gpu, tiny, &of_folder(&gpu, tiny, Some(ty))));
        let (eight, four) = (of(QuantType::Q8_0), of(QuantType::Q4_0));
        eprintln!("{}: {eight:e}, {four:e}", tiny.name);
        assert!(1e-4 < eight && eight < 0.1 && eight < four, "{}: {eight:e}, {four:e}", tiny.name);
    }
}

#[test]
fn the_reference_gives_the_logits_of_transformers() {
    for tiny in &ALL {
        let golden = tiny.golden();
        let n = golden.token_ids.len();
        let model = Reference::read(tiny.file, n, &Device::wgpu(DeviceKind::DefaultDevice)).unwrap();
        let logits: Vec<f32> = model.forward(&golden.token_ids).into_data().try_to_vec().unwrap();
        let difference = difference(&logits[logits.len() - golden.logits_last.len()..], &golden.logits_last);
        eprintln!("{}: {difference:e}", tiny.name);
        assert!(difference < 1e-4, "{}: {difference:e}", tiny.name);
    }
}

#[test]
fn rows_do_not_depend_on_their_company() {
    let mut gpu = common::gpu();
    let rounds = if common::full() { 50 } else { 2 };
    for tiny in &ALL {
        for tuning in [Tuning::Cpu, Tuning::Gpu] {
            gpu.tuning = tuning;
            pollster::block_on(common::rows::any_grouping_gives_the_same_logits(
                &gpu,
                tiny.file,
                rounds,
                Precision::Full,
            ));
        }
    }
}

/// Contexts of several splits of the GPUs' attention, windows among them, with either type of cache: the same logits as one
/// invocation per head gives, and a row's bits alone and among its drafts.
#[test]
fn long_contexts_agree_between_the_tunings() {
    let mut gpu = common::gpu();
    for (name, cache) in [("llama3", CacheType::F32), ("gemma3", CacheType::F32), ("qwen2", CacheType::F16)] {
        let tiny = ALL.iter().find(|tiny| tiny.name == name).unwrap();
        let logits = [Tuning::Cpu, Tuning::Gpu].map(|tuning| {
            gpu.tuning = tuning;
            let model = of_gguf(&gpu, tiny);
            pollster::block_on(common::rows::long_context(&gpu, &model, cache))
        });
        let difference = difference(&logits[1], &logits[0]);
        eprintln!("{name}, {cache:?}: {difference:e}");
        assert!(difference < 1e-4, "{name}, {cache:?}: {difference:e}");
    }
}

fn drafts_change_no_token(on: On, cases: usize) {
    for tiny in &ALL {
        let mut llm = on.read(tiny.file, lossless::config());
        let drafts = pollster::block_on(lossless::drafts_change_no_token(&mut llm, cases, 3..320));
        eprintln!("{}: {drafts:?}", tiny.name);
        let few = 2 * cases as u64;
        assert!(drafts.accepted >= few && drafts.rejected() >= few, "{}: too few to tell: {drafts:?}", tiny.name);
    }
}

#[test]
fn drafts_change_no_token_on_the_cpu() {
    drafts_change_no_token(On::Cpu(2), 40);
}

#[test]
fn drafts_change_no_token_on_the_adapter() {
    drafts_change_no_token(On::Gpu, if common::full() { 40 } else { 8 });
}
