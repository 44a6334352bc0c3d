//! The reader and the layout without a device: into buffers that know which of their bytes were written. Files are made at
//! random, split and damaged; whatever they are, they are refused with a short message or fill every buffer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::{Layout, Limits, ModelConfig, Reader};
use crate::error::{ErrorCode, Result};
use crate::format::quant::QuantType;
use crate::testing::{Entry, F32, Model, Q4_0, Tensor};

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
    let mut reader = Reader::new(limits);
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
        layers: 0,
        d: 32,
        ff: 32,
        heads: 1,
        kv_heads: 1,
        head_dim: 32,
        vocab: 600_001,
        context: 64,
        rope_base: 10_000.0,
        eps: 1e-5,
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
        let layout = Layout::new(config, &[&[embedding, norm]], limits).unwrap();
        let parts = layout.buffers.iter().filter(|buffer| buffer.parameter == "token_embd");
        parts.map(|buffer| (buffer.matrices[0].first, buffer.matrices[0].rows)).collect()
    };
    let limits = Limits { bytes: u64::MAX, rows: 65_535 * 8 };
    assert_eq!(rows(600_001, &config, limits), [(0, 300_004), (300_004, 299_997)]);
    let small = Limits { bytes: 5 << 20, ..limits };
    assert_eq!(rows(600_001, &config, small).len(), 3);
    config.vocab = 65_535 * 8;
    assert_eq!(rows(65_535 * 8, &config, limits), [(0, 65_535 * 8)]);
}

/// A name that a file might have in place of another.
fn names() -> impl Strategy<Value = String> {
    let parts = (
        prop::sample::select(vec!["", "blk.0.", "blk.1.", "blk.00.", "blk..", "v.", "output"]),
        prop::sample::select(vec![
            "attn_q",
            "attn_k",
            "ffn_up",
            "attn_norm",
            "attn_q_norm",
            "attn_rot_embd",
            "output",
            "",
        ]),
        prop::sample::select(vec![".weight", ".bias", ".scale", ".inv_freq", ""]),
    );
    prop_oneof![
        8 => parts.prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        1 => Just("rope_freqs.weight".to_string()),
        1 => Just("output.weight".to_string()),
        1 => any::<String>(),
        1 => (1usize..3000).prop_map(|n| "\u{1b}[2Jé".repeat(n)),
    ]
}

fn tensors() -> impl Strategy<Value = Tensor> {
    let shapes =
        prop::sample::select(vec![vec![32], vec![16], vec![32, 32], vec![32, 64], vec![32, 1, 1, 1], vec![1], vec![0]]);
    (names(), shapes, prop::sample::select(vec![F32, Q4_0, 1, 8, 14, 99])).prop_map(|(name, shape, kind)| Tensor {
        name,
        shape,
        kind,
    })
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

/// What may befall the parts of a split file.
#[derive(Clone, Debug)]
enum Damage {
    /// A tensor is in another part, or in two, or nowhere.
    Move(Index, Index),
    Copy(Index, Index),
    Drop(Index),
    Name(Index, String),
    Shape(Index, Vec<u64>),
    Kind(Index, u32),
    /// A key of a part.
    Set(Index, &'static str, u32),
    Unset(Index, Index),
    /// Of the parts themselves.
    Swap(Index, Index),
    Repeat(Index),
    Lose(Index),
    /// Bytes of a file: one is another, or the file ends.
    Byte(Index, Index, u8),
    Cut(Index, Index),
}

fn damages() -> impl Strategy<Value = Damage> {
    use Damage::*;
    let at = any::<Index>;
    let keys = prop::sample::select(vec!["split.no", "split.count", "split.tensors.count", "llama.block_count"]);
    prop_oneof![
        (at(), at()).prop_map(|(a, b)| Move(a, b)),
        (at(), at()).prop_map(|(a, b)| Copy(a, b)),
        at().prop_map(Drop),
        (at(), names()).prop_map(|(a, b)| Name(a, b)),
        (at(), prop::collection::vec(prop::sample::select(vec![0u64, 1, 31, 32, 64, 1 << 40]), 0..5))
            .prop_map(|(a, b)| Shape(a, b)),
        (at(), 0u32..45).prop_map(|(a, b)| Kind(a, b)),
        (at(), keys, prop_oneof![0u32..14, any::<u32>()]).prop_map(|(a, b, c)| Set(a, b, c)),
        (at(), at()).prop_map(|(a, b)| Unset(a, b)),
        (at(), at()).prop_map(|(a, b)| Swap(a, b)),
        at().prop_map(Repeat),
        at().prop_map(Lose),
        (at(), at(), any::<u8>()).prop_map(|(a, b, c)| Byte(a, b, c)),
        (at(), at()).prop_map(|(a, b)| Cut(a, b)),
    ]
}

/// One of the parts with tensors, and one of these.
fn pick<'a>(parts: &'a mut [Model], at: &Index) -> Option<(&'a mut Model, usize)> {
    let total: usize = parts.iter().map(|part| part.tensors.len()).sum();
    let mut left = if total == 0 { return None } else { at.index(total) };
    let part = parts.iter_mut().find(|part| {
        let here = left < part.tensors.len();
        left -= if here { 0 } else { part.tensors.len() };
        here
    });
    part.map(|part| (part, left))
}

fn damage(parts: &mut Vec<Model>, damage: &Damage) {
    if parts.is_empty() {
        return;
    }
    let count = parts.len();
    match damage {
        Damage::Move(from, to) | Damage::Copy(from, to) => {
            let Some((part, i)) = pick(parts, from) else { return };
            let tensor = part.tensors[i].clone();
            if matches!(damage, Damage::Move(..)) {
                part.tensors.remove(i);
            }
            parts[to.index(count)].tensors.push(tensor);
        }
        Damage::Drop(at) => {
            if let Some((part, i)) = pick(parts, at) {
                part.tensors.remove(i);
            }
        }
        Damage::Name(at, name) => {
            if let Some((part, i)) = pick(parts, at) {
                part.tensors[i].name.clone_from(name);
            }
        }
        Damage::Shape(at, shape) => {
            if let Some((part, i)) = pick(parts, at) {
                part.tensors[i].shape.clone_from(shape);
            }
        }
        Damage::Kind(at, kind) => {
            if let Some((part, i)) = pick(parts, at) {
                part.tensors[i].kind = *kind;
            }
        }
        Damage::Set(at, key, value) => {
            let part = &mut parts[at.index(count)];
            *part = std::mem::take(part).set(key, Entry::U32(*value));
        }
        Damage::Unset(at, key) => {
            let part = &mut parts[at.index(count)];
            if !part.entries.is_empty() {
                part.entries.remove(key.index(part.entries.len()));
            }
        }
        Damage::Swap(a, b) => parts.swap(a.index(count), b.index(count)),
        Damage::Repeat(at) => parts.push(parts[at.index(count)].clone()),
        Damage::Lose(at) => drop(parts.remove(at.index(count))),
        Damage::Byte(..) | Damage::Cut(..) => {}
    }
}

fn damage_bytes(files: &mut [Vec<u8>], damage: &Damage) {
    let (Damage::Byte(file, at, _) | Damage::Cut(file, at)) = damage else { return };
    if files.is_empty() {
        return;
    }
    let file = file.index(files.len());
    let file = &mut files[file];
    if file.is_empty() {
        return;
    }
    // Most in the header.
    let at = at.index(file.len().min(3000));
    match damage {
        Damage::Byte(_, _, byte) => file[at] = *byte,
        _ => file.truncate(at),
    }
}

/// Files of these parts, with what befell them.
fn damaged(parts: &[Model], all: &[Damage]) -> Vec<Vec<u8>> {
    let mut parts = parts.to_vec();
    all.iter().for_each(|one| damage(&mut parts, one));
    let mut files = files(&parts);
    all.iter().for_each(|one| damage_bytes(&mut files, one));
    files
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
