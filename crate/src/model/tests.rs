//! The reader and the layout without a device: into buffers that know which of their bytes were written. Files are made at
//! random, split and damaged; whatever they are, they are refused with a short message or fill every buffer.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod damage;

use damage::{damaged, damages, names, tensors};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::config::Pairs;
use super::{Layout, Limits, ModelConfig, Reader, layout};
use crate::error::{ErrorCode, Result};
use crate::format::quant::QuantType;
use crate::program::{Activation, Scales, Softcaps};
use crate::testing::Model;

/// A fortieth of this is what a test run takes by default.
const RUNS: u32 = 100_000;

/// Runs `test` on many values; `EMBERGRAM_FUZZ=1` makes it a hundred thousand.
fn fuzz<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let all = std::env::var("EMBERGRAM_FUZZ").is_ok_and(|v| v == "1");
    let cases = if all { RUNS } else { RUNS / 40 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = |value| {
        test(value);
        Ok(())
    };
    TestRunner::new(config).run(&strategy, run).unwrap();
}

const LIMITS: Limits = Limits { bytes: 1 << 27, rows: 1 << 20 };

/// A buffer, and which of its bytes were written.
struct Memory(Vec<Option<u8>>);

/// Reads parts as the web host does, in pieces of this length; gives what the buffers hold.
fn read(announced: &[Vec<u8>], files: &[Vec<u8>], piece: usize, limits: Limits) -> Result<Vec<Memory>> {
    let mut reader = Reader::new(limits, None);
    for file in announced {
        for piece in file.chunks(piece) {
            if reader.announce(piece)? {
                break;
            }
        }
    }
    let mut memory = Vec::new();
    for (i, file) in files.iter().enumerate() {
        if i > 0 {
            reader.next_part()?;
        }
        for piece in file.chunks(piece) {
            let used = reader.header(piece)?;
            if let Some(described) = reader.described()
                && memory.is_empty()
            {
                let buffers = described.layout.buffers.iter();
                memory.extend(buffers.map(|buffer| Memory(vec![None; buffer.bytes as usize])));
            }
            reader.push(&piece[used..], &mut |buffer, offset, data| {
                assert!(offset % 4 == 0 && data.len().is_multiple_of(4));
                // Out of range is a panic, as it is on a device.
                let place = &mut memory[buffer].0[offset as usize..][..data.len()];
                assert!(place.iter().all(Option::is_none), "written twice");
                place.iter_mut().zip(data).for_each(|(place, byte)| *place = Some(*byte));
                Ok(())
            })?;
        }
    }
    reader.finish()?;
    for Memory(bytes) in &memory {
        // Only what a plane lacks to its 16-byte boundary stays as it was.
        let gaps = bytes.split(Option::is_some).map(<[_]>::len).max();
        assert!(gaps < Some(16), "a hole of {gaps:?} bytes");
    }
    Ok(memory)
}

/// As [`read`]; errors must be short and plain.
fn outcome(announced: &[Vec<u8>], files: &[Vec<u8>], piece: usize) -> Result<Vec<Memory>> {
    let result = read(announced, files, piece, LIMITS);
    if let Err(error) = &result {
        let message = &error.message;
        assert!(error.code != ErrorCode::Internal, "{message}");
        assert!(message.len() < 700 && !message.contains(char::is_control), "{message:?}");
    }
    result
}

fn bytes(memory: &[Memory]) -> Vec<&[Option<u8>]> {
    memory.iter().map(|memory| memory.0.as_slice()).collect()
}

fn files(parts: &[Model]) -> Vec<Vec<u8>> {
    parts.iter().map(Model::file).collect()
}

#[test]
fn parts_fill_the_buffers_of_the_whole_file() {
    let model = Model::tiny();
    let whole = read(&[], &[model.file()], 1000, LIMITS).unwrap();
    for each in 1..=model.tensors.len() {
        let parts = files(&model.split(each));
        let split = read(&parts[1..], &parts, 777, LIMITS).unwrap();
        assert_eq!(bytes(&split), bytes(&whole), "{each} a part");
    }
}

/// 65,535 workgroups are the most of a dispatch, and a workgroup may make as few as eight outputs.
#[test]
fn a_vocabulary_lies_in_as_many_parts_as_limits_call_for() {
    let mut config = ModelConfig {
        arch: "llama",
        d: 32,
        ff: 32,
        heads: 1,
        kv_heads: 1,
        head_dim: 32,
        vocab: 600_001,
        context: 64,
        eps: 1e-5,
        layers: Vec::new(),
        ropes: Vec::new(),
        pairs: Pairs::Neighbours,
        pre_norm: true,
        post_norm: false,
        qk_norm: None,
        qkv_bias: false,
        fused: false,
        activation: Activation::Silu,
        scales: Scales::plain(32),
        softcaps: Softcaps::default(),
        gain_offset: 0.0,
    };
    let tensor = |name: &str, shape: &[u64], ty: QuantType| crate::format::gguf::TensorInfo {
        name: name.into(),
        shape: shape.into(),
        ty,
        offset: 0,
        size: 0,
    };
    let rows = |vocab: u64, config: &ModelConfig, limits: Limits| -> Vec<(usize, usize)> {
        let embedding = tensor("token_embd.weight", &[32, vocab], QuantType::Q4_0);
        let norm = tensor("output_norm.weight", &[32], QuantType::F32);
        let tensors = [embedding, norm];
        let index = layout::Index::new(vec![&tensors]).unwrap();
        let layout = Layout::new(config, &index, limits.into(), None).unwrap();
        layout.decoder.embedding.parts.iter().map(|part| (part.matrices[0].first, part.matrices[0].rows)).collect()
    };
    let limits = Limits { bytes: u64::MAX, rows: 65_535 * 8 };
    assert_eq!(rows(600_001, &config, limits), [(0, 300_004), (300_004, 299_997)]);
    let small = Limits { bytes: 5 << 20, ..limits };
    assert_eq!(rows(600_001, &config, small).len(), 3);
    config.vocab = 65_535 * 8;
    assert_eq!(rows(65_535 * 8, &config, limits), [(0, 65_535 * 8)]);
}

/// The names of the tiny model's tensors and of what else a Llama of one layer may have.
fn is_used(name: &str) -> bool {
    let rotary = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let harmless = rotary.is_some_and(|(n, rest)| {
        n.chars().all(|c| c.is_ascii_digit())
            && ["attn_rot_embd", "attn_rot_embd.weight", "attn_rot_embd.inv_freq"].contains(&rest)
    });
    harmless
        || ["rope_freqs.weight", "output.weight"].contains(&name)
        || Model::tiny().tensors.iter().any(|tensor| tensor.name == name)
}

/// Tensors put in, at any place, into whole files and parts: one that no parameter takes is refused, whatever it is.
#[test]
fn fuzz_unknown_tensors() {
    let added = prop::collection::vec((tensors(), any::<Index>()), 1..4);
    let renamed = prop::option::of((any::<Index>(), names()));
    fuzz((added, renamed, 1usize..14, 1usize..5000), |(added, renamed, each, piece)| {
        let mut model = Model::tiny();
        if let Some((at, name)) = renamed {
            let at = at.index(model.tensors.len());
            model.tensors[at].name = name;
        }
        for (tensor, at) in added {
            let at = at.index(model.tensors.len() + 1);
            model.tensors.insert(at, tensor);
        }
        let parts = files(&model.split(each));
        let result = outcome(&parts[1..], &parts, piece);
        if let Some(unused) = model.tensors.iter().find(|tensor| !is_used(&tensor.name)) {
            assert!(result.is_err(), "'{}' was accepted", unused.name);
        }
        let mut names: Vec<_> = model.tensors.iter().map(|tensor| &tensor.name).collect();
        names.sort();
        assert!(result.is_err() || names.windows(2).all(|pair| pair[0] != pair[1]), "one is there twice");
    });
}

/// Parts damaged before they are announced, and others again before they are read.
#[test]
fn fuzz_split_files() {
    let accepted = std::cell::Cell::new(0);
    let both = prop::collection::vec(damages(), 0..3);
    let read = prop::collection::vec(damages(), 0..3);
    fuzz((both, read, 1usize..12, 1usize..5000), |(both, read, each, piece)| {
        let parts = Model::tiny().split(each);
        let announced = damaged(&parts, &both);
        let files = damaged(&parts, &[both.clone(), read.clone()].concat());
        let further = announced.get(1..).unwrap_or_default();
        let result = catch_unwind(AssertUnwindSafe(|| outcome(further, &files, piece)));
        let result = result.unwrap_or_else(|_| panic!("{both:?}, then {read:?}"));
        accepted.set(accepted.get() + u32::from(result.is_ok()));
    });
    assert!(accepted.get() > 50, "{} were accepted: the test sees only refusals", accepted.get());
}
