//! Text out of a stream of tokens, never a part of a character.

use super::Tokenizer;

/// Bytes that are held back at most. A model that says nothing but broken characters comes to so many.
const MOST_HELD: usize = 1024;

/// Turns tokens into text as they come. As in vLLM (`DecodeStream` of Hugging Face's tokenizers), a token's text is given when
/// the text so far ends with a whole character: until then all of it waits, also what comes before the broken end. All
/// that it returns, joined, is `String::from_utf8_lossy` of all the bytes.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    skip_special: bool,
    /// No text has come yet, and a space that begins it is the one that encoding puts there.
    drop_space: bool,
    /// Bytes whose text has not been given: it ends inside a character.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer of what follows `prompt`, that leaves control tokens out if `skip_special`. The text is what the
    /// whole has beyond the prompt's own, as in vLLM: its first space is dropped only where the prompt shows nothing
    /// and the tokenizer puts a space before a text.
    pub fn new(tokenizer: &Tokenizer, prompt: &[u32], skip_special: bool) -> Self {
        let mut detokenizer = Self { skip_special, ..Self::default() };
        let silent = |id: &u32| detokenizer.shown(tokenizer, *id).is_empty();
        detokenizer.drop_space = tokenizer.has_space_prefix() && prompt.iter().all(silent);
        detokenizer
    }

    /// Takes a token; returns the text it completes, possibly none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let mut bytes = self.shown(tokenizer, id);
        if self.drop_space && !bytes.is_empty() {
            self.drop_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.push_bytes(bytes)
    }

    /// The text that waits, with U+FFFD for a character whose end has not come.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    fn shown<'a>(&self, tokenizer: &'a Tokenizer, id: u32) -> &'a [u8] {
        if self.skip_special && tokenizer.is_special(id) { &[] } else { tokenizer.token_bytes(id) }
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.pending);
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.pending.len() < MOST_HELD {
            return String::new();
        }
        let text = text.into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut detokenizer = Detokenizer::default();
        let mut out = Vec::new();
        let mut rest = bytes;
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            out.push(detokenizer.push_bytes(now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        out.push(detokenizer.finish());
        out
    }

    #[test]
    fn holds_a_character_until_it_is_whole() {
        assert_eq!(stream("a😀b".as_bytes(), &[2]), ["", "", "a😀b", ""]);
        assert_eq!(stream(b"\xf0\x9f\x98", &[1]), ["", "", "", "\u{fffd}"]);
        assert_eq!(stream(b"\xe2\x82A", &[1]), ["", "", "\u{fffd}A", ""]);
        assert_eq!(stream(b"ab\xff", &[1]), ["a", "b", "", "\u{fffd}"]);
        assert_eq!(stream(&[0xff; 1025], &[1]).concat(), "\u{fffd}".repeat(1025));
    }

    /// Leads and continuations of whole, cut and forbidden sequences.
    const PARTS: &[u8] = &[0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xed];

    proptest! {
        #[test]
        fn streaming_equals_lossy_decoding(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<char>().prop_map(|c| c.to_string().into_bytes()),
                    prop::collection::vec(any::<u8>(), 1..4),
                    prop::collection::vec(prop::sample::select(PARTS), 1..5),
                ],
                0..20,
            ),
            cuts in prop::collection::vec(1usize..5, 1..6),
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(stream(&bytes, &cuts).concat(), String::from_utf8_lossy(&bytes));
        }
    }
}
