//! SentencePiece's BPE as merges: a file has scores instead, and whichever two neighbours make the token with the best
//! score are joined first.

use super::tokenizer::{BYTE, is_added};
use std::cmp::Ordering;
use tokenizers::models::bpe::{Merges, Vocab};

/// How a space is spelled in a vocabulary.
pub(super) const SPACE: &str = "\u{2581}";

/// Appends the bytes that a token stands for: `<0x0A>` of type byte is that byte, all else is text.
pub(super) fn append_bytes(token: &str, kind: i32, out: &mut Vec<u8>) {
    let byte = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>')).filter(|_| kind == BYTE);
    match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => out.push(byte),
        None => out.extend_from_slice(token.replace(SPACE, " ").as_bytes()),
    }
}

/// The two tokens that make each token, the best score first. Only ordinary tokens take part: the others are found in
/// the text, or stand for bytes.
pub(super) fn merges(vocab: &Vocab, types: &[i32], scores: &[f32]) -> Merges {
    let is_ordinary = |id: &u32| types.get(*id as usize).is_none_or(|kind| !is_added(*kind) && *kind != BYTE);
    let id_of = |token: &str| vocab.get(token).copied().filter(is_ordinary);
    let by_score = |a: u32, b: u32| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b));
    let ordinary = vocab.iter().filter(|(_, id)| is_ordinary(id));
    let mut made: Vec<_> =
        ordinary.filter_map(|(token, id)| Some((*id, token.split_at(seam(token, id_of, by_score)?)))).collect();
    made.sort_unstable_by(|a, b| by_score(a.0, b.0));
    made.into_iter().map(|(_, (left, right))| (left.to_owned(), right.to_owned())).collect()
}

/// The byte at which the last two parts of a token meet, if joins make it at all. It is enough to look at the token
/// alone: parts are never taken apart, so where the token comes about nothing has reached across its ends.
fn seam(token: &str, id_of: impl Fn(&str) -> Option<u32>, by_score: impl Fn(u32, u32) -> Ordering) -> Option<usize> {
    let mut ends: Vec<usize> = token.char_indices().map(|(at, _)| at).chain([token.len()]).collect();
    while ends.len() > 3 {
        let joins = ends.windows(3).zip(1..).filter_map(|(ends, i)| Some((id_of(&token[ends[0]..ends[2]])?, i)));
        // Of two with the same score the first.
        let (_, i) = joins.min_by(|a, b| by_score(a.0, b.0))?;
        ends.remove(i);
    }
    let [_, at, _] = ends[..] else { return None };
    id_of(&token[..at]).and(id_of(&token[at..])).map(|_| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_spaces_are_spelled_out() {
        let bytes = |token: &str, kind| {
            let mut out = Vec::new();
            append_bytes(token, kind, &mut out);
            out
        };
        assert_eq!(bytes("<0xE2>", BYTE), [0xe2]);
        assert_eq!(bytes("<0xE2>", 1), b"<0xE2>");
        assert_eq!(bytes("\u{2581}a\u{2581}", 1), b" a ");
    }

    #[test]
    fn the_best_score_is_joined_first() {
        let tokens = ["a", "b", "ab", "bb", "abb", "<0x61>"].map(String::from);
        let vocab = tokens.into_iter().zip(0..).collect();
        let merges = merges(&vocab, &[1, 1, 1, 1, 1, BYTE], &[-1.0, -1.0, -5.0, -4.0, -9.0, 0.0]);
        let expected = [("b", "b"), ("a", "b"), ("a", "bb")];
        assert_eq!(merges, expected.map(|(l, r)| (l.to_string(), r.to_string())));
    }
}
