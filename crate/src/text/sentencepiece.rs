//! SentencePiece's BPE as merges: a file has scores instead, and whichever two neighbours make the token with the best score
//! are joined first.

use std::collections::HashMap;

use super::tokenizer::BYTE;

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

/// Every way to make a token of two others, the best score first; of one token, the halves with the lower ids first.
pub(super) fn merges(tokens: &[String], types: &[i32], scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| types.get(*id).is_none_or(|kind| *kind != BYTE)) {
        let splits = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        found.extend(splits.filter_map(|(left, right)| Some((id, *ids.get(left)?, *ids.get(right)?))));
    }
    found.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.cmp(b)));
    found.into_iter().map(|(_, left, right)| (tokens[left].clone(), tokens[right].clone())).collect()
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
        let merges = merges(&tokens, &[1, 1, 1, 1, 1, BYTE], &[-1.0, -1.0, -5.0, -4.0, -9.0, 0.0]);
        let expected = [("b", "b"), ("a", "b"), ("a", "bb"), ("ab", "b")];
        assert_eq!(merges, expected.map(|(l, r)| (l.to_string(), r.to_string())));
    }
}
