//! How a text is cut before BPE, by the name GGUF gives in `tokenizer.ggml.pre`.

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

/// The words-and-runs pattern of the families after GPT-2, which differ in how many digits make a piece.
fn modern_pattern(digits: &str) -> String {
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

fn modern(digits: &str) -> Result<Sequence> {
    let pattern = SplitPattern::Regex(modern_pattern(digits));
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| Error::new(ErrorCode::Internal, format!("the pre-tokenizer's pattern does not compile: {e}")))?;
    Ok(Sequence::new(vec![
        PreTokenizerWrapper::from(split),
        PreTokenizerWrapper::from(ByteLevel::new(false, false, false)),
    ]))
}

/// The pre-tokenizer of this GGUF name.
pub(super) fn pre_tokenizer(name: &str) -> Result<Pre> {
    let gpt2 = || PreTokenizerWrapper::from(ByteLevel::new(false, false, true));
    let (normalizer, split, ignore_merges) = match name {
        "gpt-2" | "gpt2" | "default" => (None, Sequence::new(vec![gpt2()]), false),
        "smollm" => (None, Sequence::new(vec![PreTokenizerWrapper::from(Digits::new(true)), gpt2()]), false),
        "llama-bpe" => (None, modern(r"\p{N}{1,3}")?, true),
        "qwen2" => (Some(NFC), modern(r"\p{N}")?, false),
        other => {
            return Err(Error::new(
                ErrorCode::UnsupportedModel,
                format!(
                    "tokenizer.ggml.pre is \"{}\"; supported are \"smollm\", \"llama-bpe\", \"qwen2\" and \"gpt-2\" \
                     (also \"gpt2\" and \"default\")",
                    excerpt(other)
                ),
            ));
        }
    };
    Ok(Pre { normalizer, split, ignore_merges })
}
