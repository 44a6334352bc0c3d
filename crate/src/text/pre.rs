//! How a text is cut before byte-level BPE, by the name GGUF gives in `tokenizer.ggml.pre`. The patterns are those of
//! llama.cpp's list and of the tokenizers that it was made from.

use crate::error::{Error, ErrorCode, Result, excerpt};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// What comes before the merges of one tokenizer family.
pub(super) struct Pre {
    pub normalizer: Option<NFC>,
    pub split: Sequence,
    /// A piece that is a token as a whole is taken whole, whatever the merges say.
    pub ignore_merges: bool,
}

/// A family's way to cut.
#[derive(Clone, Copy)]
enum Cut {
    /// GPT-2's pattern.
    Gpt2,
    /// The same, each digit by itself.
    Gpt2Digits,
    /// This pattern.
    Pattern(fn() -> String),
}

/// The names that share a cut, and whether merges are ignored for whole tokens.
const FAMILIES: &[(&[&str], Cut, bool)] = &[
    (&["gpt-2", "gpt2", "default", "phi-2", "olmo", "mpt", "jais", "gigachat", "modern-bert"], Cut::Gpt2, false),
    (&["smollm", "refact", "starcoder", "command-r", "codeshell", "exaone", "minerva-7b"], Cut::Gpt2Digits, false),
    (
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        Cut::Pattern(|| words_and_runs(r"\p{N}{1,3}")),
        true,
    ),
    (&["dbrx", "smaug-bpe"], Cut::Pattern(|| words_and_runs(r"\p{N}{1,3}")), false),
    (&["qwen2", "deepseek-r1-qwen", "megrez"], Cut::Pattern(|| words_and_runs(r"\p{N}")), false),
    (&["gpt-4o", "llama4"], Cut::Pattern(|| cased_words(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")), false),
    (&["tekken"], Cut::Pattern(|| cased_words("", r"\p{N}")), true),
];

/// The families after GPT-2: words with a sign before them, runs of signs with the line's end. They differ in how many digits
/// make a piece.
fn words_and_runs(digits: &str) -> String {
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        digits,
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
    .join("|")
}

/// GPT-4o's family: a word is also cut where its case changes.
fn cased_words(ending: &str, digits: &str) -> String {
    let (upper, lower) = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]");
    [
        &format!(r"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{ending}"),
        &format!(r"[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{ending}"),
        digits,
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
    .join("|")
}

fn split(pattern: String) -> Result<PreTokenizerWrapper> {
    Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false)
        .map(PreTokenizerWrapper::from)
        .map_err(|e| Error::new(ErrorCode::Internal, format!("the pre-tokenizer's pattern does not compile: {e}")))
}

/// The pre-tokenizer of this GGUF name.
pub(super) fn pre_tokenizer(name: &str) -> Result<Pre> {
    let Some((_, cut, ignore_merges)) = FAMILIES.iter().find(|(names, ..)| names.contains(&name)) else {
        let known: Vec<_> = FAMILIES.iter().flat_map(|(names, ..)| *names).map(|name| format!("\"{name}\"")).collect();
        let message = format!("tokenizer.ggml.pre is \"{}\"; supported are {}", excerpt(name), known.join(", "));
        return Err(Error::new(ErrorCode::UnsupportedModel, message));
    };
    let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
    let steps = match cut {
        Cut::Gpt2 => vec![bytes(true)],
        Cut::Gpt2Digits => vec![PreTokenizerWrapper::from(Digits::new(true)), bytes(true)],
        Cut::Pattern(pattern) => vec![split(pattern())?, bytes(false)],
    };
    // Only Qwen composes what it reads.
    let normalizer = (name == "qwen2" || name == "deepseek-r1-qwen").then_some(NFC);
    Ok(Pre { normalizer, split: Sequence::new(steps), ignore_merges: *ignore_merges })
}
