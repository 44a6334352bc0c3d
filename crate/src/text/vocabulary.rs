//! The vocabulary as others need it: what grammars are made over.

use super::Tokenizer;
use crate::error::Result;

/// A character that SentencePiece has a token of its own for, and that no text merges with.
const FENCE: char = '\u{2}';

impl Tokenizer {
    /// All tokens as bytes, in the form that the crate `embergram-grammar` takes. All numbers are `u32` in little endian: how
    /// many tokens there are; for each its length times two, plus one where it is special; how many tokens end a generation,
    /// and these; then the bytes of all tokens.
    pub fn vocabulary(&self) -> Vec<u8> {
        let tokens = || 0..self.vocab_size() as u32;
        let lengths = tokens().map(|id| self.token_bytes(id).len() as u32 * 2 + u32::from(self.is_special(id)));
        let ends = self.eos_ids();
        let numbers = [self.vocab_size() as u32].into_iter().chain(lengths);
        let numbers = numbers.chain([ends.len() as u32]).chain(ends.iter().copied());
        let mut bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
        tokens().for_each(|id| bytes.extend_from_slice(self.token_bytes(id)));
        bytes
    }

    /// The ids of a text that goes on from another: nothing is added to it, no space before it either.
    ///
    /// # Errors
    /// See [`encode`](Self::encode).
    pub fn encode_rest(&self, text: &str) -> Result<Vec<u32>> {
        if !self.has_space_prefix() {
            return self.encode(text, false);
        }
        let mut ids = self.encode(&format!("{FENCE}{text}"), false)?;
        let fence = ids.iter().position(|id| self.token_bytes(*id) == [FENCE as u8]);
        ids.drain(..fence.map_or(0, |place| place + 1));
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use crate::text::{Tokenizer, TokenizerSource};

    #[test]
    fn the_vocabulary_is_lengths_ends_and_bytes() {
        let tokens = ["<s>", "a", "bc"].map(String::from).to_vec();
        let source = TokenizerSource {
            model: "gpt2".into(),
            pre: "gpt-2".into(),
            token_types: vec![3, 1, 1],
            tokens,
            eos: Some(0),
            ..Default::default()
        };
        let numbers = [3u32, 7, 2, 4, 1, 0].map(u32::to_le_bytes).concat();
        assert_eq!(Tokenizer::new(source).unwrap().vocabulary(), [&numbers[..], b"<s>abc"].concat());
    }

    #[test]
    fn the_rest_of_a_text_has_no_space_before_it() {
        let tokens = ["<unk>", "<0x02>", "▁", "a", "▁a", "b", "ab"].map(String::from).to_vec();
        let source = TokenizerSource {
            model: "llama".into(),
            token_types: vec![2, 6, 1, 1, 1, 1, 1],
            scores: vec![0.0, 0.0, -3.0, -2.0, -1.0, -2.0, -1.5],
            add_space_prefix: true,
            tokens,
            ..Default::default()
        };
        let tokenizer = Tokenizer::new(source).unwrap();
        assert_eq!(tokenizer.encode("ab", false).unwrap(), [4, 5]);
        assert_eq!(tokenizer.encode_rest("ab").unwrap(), [6]);
        assert_eq!(tokenizer.encode_rest("").unwrap(), [0u32; 0]);
    }
}
