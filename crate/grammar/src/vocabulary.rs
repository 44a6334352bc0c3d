//! A model's vocabulary as `llguidance` wants it.
//!
//! As bytes, all numbers `u32` in little endian: how many tokens there are; for each its length times two, plus one where it is
//! special; how many tokens end an output, and these; then the bytes of all tokens.

use std::sync::Arc;

use llguidance::toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// Gives the ids that a text has in the model's tokenizer, without any special token added.
pub type Tokenize = Box<dyn Fn(&str) -> Vec<u32> + Send + Sync>;

pub(crate) struct Vocabulary {
    words: Vec<Vec<u8>>,
    ends: Vec<TokenId>,
}

impl Vocabulary {
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut numbers =
            bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let mut next = || numbers.next().ok_or("the vocabulary ends early");
        let count = next()? as usize;
        let lengths: Vec<u32> = (0..count).map(|_| next()).collect::<Result<_, _>>()?;
        let ends: Vec<u32> = (0..next()?).map(|_| next()).collect::<Result<_, _>>()?;
        let mut rest = &bytes[4 * (2 + count + ends.len())..];
        let mut words = Vec::with_capacity(count);
        for length in lengths {
            let (word, after) = rest.split_at_checked(length as usize / 2).ok_or("the vocabulary ends early")?;
            rest = after;
            words.push(match (length % 2 == 1, word.first()) {
                (true, _) => [&[TokTrie::SPECIAL_TOKEN_MARKER], word].concat(),
                // No text has this byte, and the trie takes it for the mark of a special token.
                (false, Some(&TokTrie::SPECIAL_TOKEN_MARKER)) => Vec::new(),
                (false, _) => word.to_vec(),
            });
        }
        if let Some(end) = ends.iter().find(|end| **end as usize >= count) {
            return Err(format!("token {end} ends an output, but there are {count} tokens"));
        }
        Ok(Self { words, ends })
    }

    /// The names of special tokens that a Lark grammar can name: `<...>`.
    pub fn special_names(&self) -> Vec<String> {
        let names = self.words.iter().filter_map(|word| word.strip_prefix(&[TokTrie::SPECIAL_TOKEN_MARKER]));
        let names = names.filter_map(|name| str::from_utf8(name).ok());
        names.filter(|name| name.starts_with('<') && name.ends_with('>') && name.len() > 2).map(str::to_owned).collect()
    }

    pub fn into_env(self, tokenize: Tokenize) -> TokEnv {
        let first = self.ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(self.words.len() as u32, first), &self.words);
        let trie = if self.ends.is_empty() { trie } else { trie.with_eos_tokens(&self.ends) };
        Arc::new(Env { trie, tokenize })
    }
}

struct Env {
    trie: TokTrie,
    tokenize: Tokenize,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = (self.tokenize)(text);
            // Text that spells a special token is text here, and what a tokenizer drops or changes was to be there.
            let same = tokens.iter().all(|token| (*token as usize) < self.trie.vocab_size())
                && self.trie.decode_raw(&tokens) == text.as_bytes();
            if same { tokens } else { self.trie.greedy_tokenize(text.as_bytes()) }
        })
    }
}
