//! Every architecture against `transformers`, in both tunings, and the reference in burn's operations against the same.

mod common;
mod transformers;

use burn::tensor::{Device, DeviceKind};
use common::lossless;
use embergram::gpu::Tuning;
use embergram::model::reference::Reference;
use transformers::{ALL, difference, gives_the_logits_and_tokens_of_transformers};

#[test]
fn plans_give_the_logits_and_tokens_of_transformers() {
    let mut gpu = common::gpu();
    for tiny in &ALL {
        for tuning in [Tuning::Cpu, Tuning::Gpu] {
            gpu.tuning = tuning;
            let difference = pollster::block_on(gives_the_logits_and_tokens_of_transformers(&gpu, tiny));
            eprintln!("{}, {tuning:?}: {difference:e}", tiny.name);
        }
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
            pollster::block_on(common::rows::any_grouping_gives_the_same_logits(&gpu, tiny.file, rounds));
        }
    }
}

#[test]
fn drafts_change_no_token() {
    for tiny in &ALL {
        let mut llm = common::read(tiny.file, lossless::config());
        let drafts = pollster::block_on(lossless::drafts_change_no_token(&mut llm, 40, 3..320));
        eprintln!("{}: {drafts:?}", tiny.name);
        assert!(drafts.accepted >= 100 && drafts.rejected() >= 100, "{}: too few to tell: {drafts:?}", tiny.name);
    }
}
