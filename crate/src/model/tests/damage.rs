//! What may be wrong with the parts of a model.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::testing::{Entry, F32, Model, Q4_0, Tensor};

/// A name that a file might have in place of another.
pub fn names() -> impl Strategy<Value = String> {
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

pub fn tensors() -> impl Strategy<Value = Tensor> {
    let shapes =
        prop::sample::select(vec![vec![32], vec![16], vec![32, 32], vec![32, 64], vec![32, 1, 1, 1], vec![1], vec![0]]);
    (names(), shapes, prop::sample::select(vec![F32, Q4_0, 1, 8, 14, 99])).prop_map(|(name, shape, kind)| Tensor {
        name,
        shape,
        kind,
    })
}

/// What may befall the parts of a split file.
#[derive(Clone, Debug)]
pub enum Damage {
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

pub fn damages() -> impl Strategy<Value = Damage> {
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
pub fn damaged(parts: &[Model], all: &[Damage]) -> Vec<Vec<u8>> {
    let mut parts = parts.to_vec();
    all.iter().for_each(|one| damage(&mut parts, one));
    let mut files = parts.iter().map(Model::file).collect::<Vec<_>>();
    all.iter().for_each(|one| damage_bytes(&mut files, one));
    files
}
