//! BPE built from the tokenizer metadata of a GGUF file, byte-level (`gpt2`) or SentencePiece's (`llama`); or a folder's
//! `tokenizer.json`.

use super::{Detokenizer, alphabet, pre, sentencepiece};
use crate::error::{Error, ErrorCode, Result, excerpt};
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, NormalizedString, Normalizer, TokenizerImpl};

/// GGUF's token types, as far as they matter here; the others (normal, unused) are spelled in the family's alphabet.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
pub(super) const BYTE: i32 = 6;

/// Whether tokens of this type are found in a text before it is cut, and stand for their own characters.
pub(super) fn is_added(kind: i32) -> bool {
    matches!(kind, UNKNOWN | CONTROL | USER_DEFINED)
}

/// Control tokens that end a generation in whatever model has them, beside its own eos and eot.
const END_NAMES: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<|end|>", "<end_of_turn>"];

/// Special tokens that keep the whitespace after them even in a model whose others do not.
const BEFORE_SPACE: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// The tokenizer metadata of a GGUF file, as plain values.
#[derive(Clone, Debug, Default)]
pub struct TokenizerSource {
    /// `tokenizer.ggml.model`
    pub model: String,
    /// `tokenizer.ggml.pre`
    pub pre: String,
    /// `tokenizer.ggml.tokens`, by id
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id; empty when every token is a normal one
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, each two tokens with a space between, by rank; of `gpt2` only
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores`, by id; of `llama` only
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.add_space_prefix`; of `llama` only
    pub add_space_prefix: bool,
    /// Whether special tokens swallow the whitespace after them, as in Phi-3's `tokenizer.json`; GGUF has no key for it
    pub rstrip_special: bool,
    /// `tokenizer.ggml.bos_token_id`
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: bool,
    /// `tokenizer.ggml.eot_token_id`
    pub eot: Option<u32>,
}

/// Text to token ids and back.
pub struct Tokenizer {
    model: Model,
    pieces: Pieces,
    bos: Option<u32>,
    add_bos: bool,
    eos_ids: Vec<u32>,
    /// Most bytes of a text that become one token.
    longest: usize,
    /// Encoding puts a space before a text: a text that begins with one is shown without it.
    space_prefix: bool,
}

/// What cuts a text.
enum Model {
    /// Made of a GGUF's vocabulary.
    Gguf(Box<TokenizerImpl<BPE, Normal, Sequence, ByteLevel, ByteLevel>>),
    /// A folder's `tokenizer.json`, as it stands.
    Json(Box<tokenizers::Tokenizer>),
}

/// What a text goes through before it is cut.
#[derive(Clone, Copy, Debug)]
enum Normal {
    Nfc,
    /// Spaces as SentencePiece spells them, with one put first or not.
    Spaces {
        prefix: bool,
    },
}

impl Normalizer for Normal {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        match self {
            Self::Nfc => NFC.normalize(text),
            Self::Spaces { prefix } => {
                if *prefix && !text.is_empty() {
                    text.prepend(" ");
                }
                text.replace(' ', sentencepiece::SPACE)
            }
        }
    }
}

/// The bytes of every token, end to end.
struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    special: Vec<bool>,
}

impl Pieces {
    fn new(tokens: &[String], types: &[i32], append: fn(&str, i32, &mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(tokens.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(tokens.len());
        let mut special = Vec::with_capacity(tokens.len());
        for (i, token) in tokens.iter().enumerate() {
            let kind = types.get(i).copied().unwrap_or_default();
            match kind {
                _ if is_added(kind) => bytes.extend_from_slice(token.as_bytes()),
                _ => append(token, kind, &mut bytes),
            }
            ends.push(bytes.len());
            special.push(matches!(kind, UNKNOWN | CONTROL));
        }
        bytes.shrink_to_fit();
        Self { bytes, ends, special }
    }

    /// The length of the longest.
    fn longest(&self) -> usize {
        let starts = std::iter::once(&0).chain(&self.ends);
        self.ends.iter().zip(starts).map(|(end, start)| end - start).max().unwrap_or(0)
    }

    fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }
}

impl TokenizerSource {
    /// Whether texts begin with the bos token where a file has none of `tokenizer.ggml.add_bos_token`, as in llama.cpp:
    /// with SentencePiece, Llama 3's family and Mistral's.
    pub fn adds_bos(model: &str, pre: &str) -> bool {
        model == "llama" || pre::adds_bos(pre)
    }
}

impl Tokenizer {
    /// Builds the tokenizer, taking the source's vectors apart as it goes so that no text is held twice for long.
    pub fn new(source: TokenizerSource) -> Result<Self> {
        check(&source)?;
        match source.model.as_str() {
            "llama" => Self::sentencepiece(source),
            _ => Self::byte_level(source),
        }
    }

    fn byte_level(mut source: TokenizerSource) -> Result<Self> {
        let pre = pre::pre_tokenizer(&source.pre)?;
        let pieces =
            Pieces::new(&source.tokens, &source.token_types, |token, _, out| alphabet::append_bytes(token, out));
        let added = added_tokens(&source);
        let vocab: Vocab = std::mem::take(&mut source.tokens).into_iter().zip(0u32..).collect();
        let merges = split_merges(std::mem::take(&mut source.merges), &vocab)?;
        let eos_ids = eos_ids(&source, &vocab, &pieces);
        // NFC makes a character of up to nine bytes one of three.
        let longest = pieces.longest().max(1) * if pre.normalizer.is_some() { 3 } else { 1 };
        let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(pre.ignore_merges).build();
        let mut bpe = TokenizerImpl::new(model.map_err(disagree)?);
        bpe.with_normalizer(pre.normalizer.map(|NFC| Normal::Nfc));
        bpe.with_pre_tokenizer(Some(pre.split));
        bpe.add_tokens(&added);
        Ok(Self {
            model: Model::Gguf(Box::new(bpe)),
            pieces,
            bos: source.bos,
            add_bos: source.add_bos,
            eos_ids,
            longest,
            space_prefix: false,
        })
    }

    fn sentencepiece(mut source: TokenizerSource) -> Result<Self> {
        // Runs of spaces are found in the text as it is written. Some converters leave them in SentencePiece's spelling.
        for (token, _) in source.tokens.iter_mut().zip(&source.token_types).filter(|(_, kind)| **kind == USER_DEFINED) {
            *token = token.replace(sentencepiece::SPACE, " ");
        }
        let pieces = Pieces::new(&source.tokens, &source.token_types, sentencepiece::append_bytes);
        let added = added_tokens(&source);
        let unknown = source.token_types.iter().position(|kind| *kind == UNKNOWN).map(|id| source.tokens[id].clone());
        let vocab: Vocab = std::mem::take(&mut source.tokens).into_iter().zip(0u32..).collect();
        let merges = sentencepiece::merges(&vocab, &source.token_types, &source.scores);
        let eos_ids = eos_ids(&source, &vocab, &pieces);
        // Without cuts a piece is a line or a whole text, which hardly comes twice: a cache would only grow.
        let model = BPE::builder().vocab_and_merges(vocab, merges).cache_capacity(0);
        let mut model = model.byte_fallback(true).fuse_unk(true);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown);
        }
        let mut bpe = TokenizerImpl::new(model.build().map_err(disagree)?);
        let space_prefix = source.add_space_prefix;
        bpe.with_normalizer(Some(Normal::Spaces { prefix: space_prefix }));
        let longest = pieces.longest().max(1);
        bpe.add_tokens(&added);
        Ok(Self {
            model: Model::Gguf(Box::new(bpe)),
            pieces,
            bos: source.bos,
            add_bos: source.add_bos,
            eos_ids,
            longest,
            space_prefix,
        })
    }

    /// A folder's `tokenizer.json`, as it stands. `ends` are the ids that end a generation, and `eos` is the text of one more.
    ///
    /// # Errors
    /// `invalid_file` for what the `tokenizers` crate cannot read.
    pub fn from_json(json: &[u8], ends: Vec<u32>, eos: &str) -> Result<Self> {
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|e| {
            let why = e.to_string();
            Error::new(ErrorCode::InvalidFile, format!("tokenizer.json cannot be read: {}", excerpt(&why)))
        })?;
        let vocab = tokenizer.get_vocab(true);
        let count = vocab.values().max().map_or(0, |id| *id as usize + 1);
        // Ids are dense but for a few; a file may claim any.
        if count > 4 * vocab.len() + 1024 {
            let message = format!("tokenizer.json has {} tokens with ids up to {count}", vocab.len());
            return Err(Error::new(ErrorCode::InvalidFile, message));
        }
        let (mut tokens, mut types) = (vec![String::new(); count], vec![NORMAL; count]);
        for (token, id) in vocab {
            tokens[id as usize] = token;
        }
        for (id, added) in tokenizer.get_added_tokens_decoder() {
            types[id as usize] = if added.special { CONTROL } else { USER_DEFINED };
        }
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let pieces = match byte_level {
            true => Pieces::new(&tokens, &types, |token, _, out| alphabet::append_bytes(token, out)),
            false => Pieces::new(&tokens, &types, |token, _, out| sentencepiece::append_bytes(token, BYTE, out)),
        };
        let named = END_NAMES.iter().chain([&eos]).filter_map(|name| tokenizer.token_to_id(name));
        let mut eos_ids: Vec<u32> = named.filter(|id| pieces.special[*id as usize]).chain(ends).collect();
        eos_ids.sort_unstable();
        eos_ids.dedup();
        // What a text begins with that did not.
        let first = tokenizer.encode_fast("a", false).ok().and_then(|text| text.get_ids().first().copied());
        let space_prefix = first.is_some_and(|id| pieces.get(id).starts_with(b" "));
        // NFC makes a character of up to nine bytes one of three.
        let longest = pieces.longest().max(1) * if tokenizer.get_normalizer().is_some() { 3 } else { 1 };
        Ok(Self {
            model: Model::Json(Box::new(tokenizer)),
            pieces,
            bos: None,
            add_bos: false,
            eos_ids,
            longest,
            space_prefix,
        })
    }

    /// The ids of a text. Control and user-defined tokens written out in it become their ids; with `add_special` the
    /// bos token comes first in a model that wants one. A byte that the vocabulary has no token for is dropped, as in
    /// Hugging Face's tokenizers (SmolLM2 lacks the lead bytes F1 and F2 and a few control characters).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = match &self.model {
            Model::Gguf(bpe) => bpe.encode_fast(text, false),
            // Its post-processor adds what it wants.
            Model::Json(tokenizer) => tokenizer.encode_fast(text, add_special),
        };
        let encoding =
            encoding.map_err(|e| Error::new(ErrorCode::InvalidPrompt, format!("the text cannot be tokenized: {e}")))?;
        let bos = self.bos.filter(|_| add_special && self.add_bos);
        Ok(bos.into_iter().chain(encoding.get_ids().iter().copied()).collect())
    }

    /// Most bytes of a text that can become so few tokens; a longer one need not be tokenized to know that it has more.
    /// Bytes that the vocabulary has no token for count as well.
    pub fn max_bytes(&self, tokens: usize) -> usize {
        tokens.saturating_mul(self.longest)
    }

    /// The raw bytes of a token, which may be part of a character only; of an id outside the vocabulary, none.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.get(id)
    }

    /// Whether the token is a control token (or the unknown token), not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.special.get(id as usize).copied().unwrap_or(false)
    }

    /// How many tokens there are.
    pub fn vocab_size(&self) -> usize {
        self.pieces.ends.len()
    }

    /// The token that begins a text, where the file names one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end a generation, ascending: eos, eot, and each control token named `<|im_end|>`, `<|eot_id|>`,
    /// `<|eom_id|>`, `<|endoftext|>`, `<|end|>` or `<end_of_turn>`.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The id of a token as the vocabulary spells it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        match &self.model {
            Model::Gguf(bpe) => bpe.token_to_id(token),
            Model::Json(tokenizer) => tokenizer.token_to_id(token),
        }
    }

    /// Whether encoding puts a space before a text, as SentencePiece does for Llama 2 and Mistral 7B.
    pub fn has_space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// The text of these tokens, with U+FFFD for bytes that are no UTF-8. A tokenizer that puts a space before a text
    /// ([`has_space_prefix`](Self::has_space_prefix)) takes one away here, as Hugging Face's decoders and llama.cpp do.
    /// Where byte tokens are no UTF-8, Hugging Face shows U+FFFD for each byte of their run; here the characters among
    /// them are shown, as they are in a stream.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut detokenizer = Detokenizer::new(self, &[], skip_special);
        let mut text: String = ids.iter().map(|id| detokenizer.push(self, *id)).collect();
        text += &detokenizer.finish();
        text
    }
}

fn disagree(e: tokenizers::Error) -> Error {
    let why = e.to_string();
    Error::new(ErrorCode::InvalidFile, format!("the tokenizer's vocabulary and merges disagree: {}", excerpt(&why)))
}

/// The tokens that end a generation, ascending.
fn eos_ids(source: &TokenizerSource, vocab: &Vocab, pieces: &Pieces) -> Vec<u32> {
    let mut ids: Vec<u32> = source.eos.into_iter().chain(source.eot).collect();
    ids.extend(END_NAMES.iter().filter_map(|name| vocab.get(*name)).filter(|id| pieces.special[**id as usize]));
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Refuses a source that no tokenizer can be built from.
fn check(source: &TokenizerSource) -> Result<()> {
    if !["gpt2", "llama"].contains(&source.model.as_str()) {
        return Err(Error::new(
            ErrorCode::UnsupportedModel,
            format!(
                "tokenizer.ggml.model is \"{}\"; supported are \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)",
                excerpt(&source.model)
            ),
        ));
    }
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidFile, message));
    let count = source.tokens.len();
    if count == 0 || u32::try_from(count).is_err() {
        return invalid(format!("tokenizer.ggml.tokens holds {count} tokens; it must hold from 1 to {}", u32::MAX));
    }
    if !source.token_types.is_empty() && source.token_types.len() != count {
        let types = source.token_types.len();
        return invalid(format!("tokenizer.ggml.token_type holds {types} types for {count} tokens; one each is right"));
    }
    if source.model == "llama" && (source.scores.len() != count || source.scores.iter().any(|score| score.is_nan())) {
        let scores = source.scores.len();
        return invalid(format!(
            "tokenizer.ggml.scores holds {scores} scores for {count} tokens; one number each is right"
        ));
    }
    for (name, id) in [("bos", source.bos), ("eos", source.eos), ("eot", source.eot)] {
        if let Some(id) = id.filter(|id| *id as usize >= count) {
            return invalid(format!("tokenizer.ggml.{name}_token_id is {id}; the vocabulary ends at {}", count - 1));
        }
    }
    if source.add_bos && source.bos.is_none() {
        return invalid("tokenizer.ggml.add_bos_token is true without a tokenizer.ggml.bos_token_id".into());
    }
    Ok(())
}

/// The tokens that are found in a text before it is cut.
fn added_tokens(source: &TokenizerSource) -> Vec<AddedToken> {
    let added = source.tokens.iter().zip(&source.token_types).filter(|(_, kind)| is_added(**kind));
    let rstrip = |token: &String| source.rstrip_special && !BEFORE_SPACE.contains(&token.as_str());
    let plain = |token: &String, kind| AddedToken::from(token.as_str(), kind != USER_DEFINED).normalized(false);
    added.map(|(token, kind)| plain(token, *kind).rstrip(rstrip(token))).collect()
}

/// Each merge as its two halves, which and whose union must be tokens.
fn split_merges(merges: Vec<String>, vocab: &Vocab) -> Result<Merges> {
    let mut pairs = Vec::with_capacity(merges.len());
    let mut union = String::new();
    for (rank, mut merge) in merges.into_iter().enumerate() {
        let bad = |what: String| {
            let merge = excerpt(&merge);
            Error::new(ErrorCode::InvalidFile, format!("tokenizer.ggml.merges[{rank}] is \"{merge}\": {what}"))
        };
        let Some((left, right)) = merge.split_once(' ').filter(|(l, r)| !l.is_empty() && !r.is_empty()) else {
            return Err(bad("it must be two tokens with one space between".into()));
        };
        union.clear();
        union.push_str(left);
        union.push_str(right);
        if let Some(missing) = [left, right, &union].into_iter().find(|token| !vocab.contains_key(*token)) {
            return Err(bad(format!("\"{}\" must be in tokenizer.ggml.tokens", excerpt(missing))));
        }
        let right = right.to_owned();
        merge.truncate(union.len() - right.len());
        pairs.push((merge, right));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> TokenizerSource {
        let tokens = ["<|endoftext|>", "<|im_end|>", "a", "b", "ab", "Ġ", "  ", "Ã", "©"].map(String::from).to_vec();
        TokenizerSource {
            model: "gpt2".into(),
            pre: "gpt-2".into(),
            token_types: vec![3, 3, 1, 1, 1, 1, 4, 1, 1],
            tokens,
            merges: vec!["a b".into()],
            scores: vec![],
            add_space_prefix: false,
            rstrip_special: false,
            bos: Some(0),
            eos: Some(1),
            add_bos: true,
            eot: None,
        }
    }

    fn refusal(change: impl FnOnce(&mut TokenizerSource)) -> (ErrorCode, String) {
        let mut source = source();
        change(&mut source);
        Tokenizer::new(source).err().map(|e| (e.code, e.message)).expect("must be refused")
    }

    #[test]
    fn encodes_and_decodes() {
        let t = Tokenizer::new(source()).unwrap();
        let ids = t.encode("ab  a<|im_end|> é", true).unwrap();
        assert_eq!(ids, [0, 4, 6, 2, 1, 5, 7, 8]);
        assert_eq!(t.encode("ab", false).unwrap(), [4]);
        assert_eq!(t.encode("", false).unwrap(), [0u32; 0]);
        assert_eq!(t.decode(&ids, false), "<|endoftext|>ab  a<|im_end|> é");
        assert_eq!(t.decode(&ids, true), "ab  a é");
        assert_eq!(t.decode(&[7, 99, 2], true), "\u{fffd}a");
        assert_eq!((t.token_bytes(7), t.token_bytes(5), t.token_bytes(99)), (&[0xc3][..], &b" "[..], &[][..]));
        assert_eq!((t.is_special(1), t.is_special(6), t.is_special(99)), (true, false, false));
        assert_eq!((t.vocab_size(), t.bos(), t.eos_ids()), (9, Some(0), &[0, 1][..]));
        assert_eq!((t.id_of("<|im_end|>"), t.id_of("ab"), t.id_of("zz")), (Some(1), Some(4), None));
    }

    #[test]
    fn only_control_tokens_end_a_generation_by_name() {
        let t = Tokenizer::new(TokenizerSource { token_types: vec![], ..source() }).unwrap();
        assert_eq!(t.eos_ids(), [1]);
    }

    #[test]
    fn refuses_what_it_cannot_build_from() {
        let (code, message) = refusal(|s| s.model = "bert".into());
        assert!(code == ErrorCode::UnsupportedModel && message.contains("\"bert\"") && message.contains("\"gpt2\""));
        let (code, message) = refusal(|s| s.pre = "porcupine".into());
        assert!(code == ErrorCode::UnsupportedModel && message.contains("\"porcupine\"") && message.contains("smollm"));
        let (code, message) = refusal(|s| s.model = "llama".into());
        assert!(code == ErrorCode::InvalidFile && message.contains("0 scores for 9 tokens"), "{message}");
        let (code, message) = refusal(|s| s.merges.push("a zz".into()));
        assert!(code == ErrorCode::InvalidFile && message.contains("merges[1] is \"a zz\": \"zz\""), "{message}");
        assert!(refusal(|s| s.merges.push("b a".into())).1.contains("\"ba\" must be"));
        for merge in ["ab", " ab", "ab ", ""] {
            assert!(refusal(|s| s.merges.push(merge.into())).1.contains("two tokens"), "{merge:?}");
        }
        assert!(refusal(|s| s.eos = Some(9)).1.contains("eos_token_id is 9"));
        assert!(refusal(|s| s.token_types.truncate(3)).1.contains("3 types for 9 tokens"));
        assert!(refusal(|s| s.bos = None).1.contains("add_bos_token"));
        assert_eq!(refusal(|s| s.tokens.clear()).0, ErrorCode::InvalidFile);
    }
}
