//! How a text is cut before byte-level BPE, by the name GGUF gives in `tokenizer.ggml.pre`. The names are those of
//! llama.cpp's list, the patterns those of the tokenizers that they were made from.

use crate::error::{Error, ErrorCode, Result, excerpt};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
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

/// The tokenizers that cut alike.
struct Family {
    names: &'static [&'static str],
    /// Each cuts what the one before left: its matches are pieces, and so is what lies between them.
    patterns: &'static [&'static str],
    traits: &'static [Trait],
}

#[derive(Clone, Copy, PartialEq)]
enum Trait {
    /// The text is composed first.
    Nfc,
    /// A piece that is a token is that token.
    IgnoreMerges,
    /// The bos token comes first unless the file says otherwise.
    AddBos,
}
use Trait::{AddBos, IgnoreMerges, Nfc};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = r"\p{N}{1,3}";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const KANA_AND_HAN: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";

/// The families after GPT-2: a sign goes with the word after it, a line's end with the signs before it.
macro_rules! words {
    ($contractions:literal, $digits:literal) => {
        concat!(
            $contractions,
            r"[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
    ($digits:literal) => {
        words!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|", $digits)
    };
}

/// GPT-4o's family: a word is also cut where its case changes.
macro_rules! cased_words {
    ($ending:literal, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $ending,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $ending,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const GPT4O: &str = cased_words!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}");

const FAMILIES: &[Family] = &[
    // Files that name no family are cut as transformers cuts them: by GPT-2's pattern.
    Family { names: &["default", "gpt2"], patterns: &[GPT2], traits: &[] },
    Family {
        names: &["gpt-2", "phi-2", "gigachat", "jais", "trillion", "granite-docling", "exaone4", "a.x-4.0", "mellum"],
        patterns: &[GPT2],
        traits: &[],
    },
    Family { names: &["olmo", "mpt", "modern-bert"], patterns: &[GPT2], traits: &[Nfc] },
    Family {
        names: &["smollm", "refact", "starcoder", "codeshell", "exaone", "minerva-7b", "mellum2"],
        patterns: &[DIGIT, GPT2],
        traits: &[],
    },
    Family { names: &["command-r"], patterns: &[DIGIT, GPT2], traits: &[Nfc] },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[words!(r"\p{N}{1,3}")],
        traits: &[IgnoreMerges, AddBos],
    },
    Family { names: &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], patterns: &[words!(r"\p{N}{1,3}")], traits: &[] },
    Family { names: &["minicpm5"], patterns: &[THREE_DIGITS, words!(r"\p{N}+")], traits: &[IgnoreMerges] },
    Family {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez"],
        patterns: &[words!(r"\p{N}")],
        traits: &[Nfc],
    },
    Family { names: &["stablelm2", "hunyuan", "solar-open", "grok-2"], patterns: &[words!(r"\p{N}")], traits: &[] },
    Family { names: &["laguna"], patterns: &[r"[^\n]+|[\n]+", words!(r"\p{N}")], traits: &[] },
    Family { names: &["ufakzeka"], patterns: &[words!("", r"\p{N}")], traits: &[] },
    Family {
        names: &["qwen35"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
            r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        traits: &[Nfc],
    },
    Family { names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], patterns: &[GPT4O], traits: &[] },
    Family { names: &["tekken"], patterns: &[cased_words!("", r"\p{N}")], traits: &[IgnoreMerges, AddBos] },
    Family { names: &["tiny_aya", "cohere2moe"], patterns: &[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O], traits: &[] },
    Family {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", DIGIT],
        traits: &[],
    },
    Family {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        patterns: &[
            THREE_DIGITS,
            KANA_AND_HAN,
            concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ],
        traits: &[],
    },
    Family {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        patterns: &[concat!(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        traits: &[],
    },
    Family {
        names: &["seed-coder"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}",
            r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        traits: &[],
    },
    Family {
        names: &["exaone-moe"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        )],
        traits: &[],
    },
    Family { names: &["poro-chat", "bloom", "gpt3-finnish"], patterns: &[BLOOM], traits: &[] },
    Family { names: &["viking"], patterns: &[BLOOM, DIGIT], traits: &[] },
];

fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

/// Whether texts of this family begin with the bos token where the file does not say.
pub(super) fn adds_bos(name: &str) -> bool {
    family(name).is_some_and(|family| family.traits.contains(&AddBos))
}

/// The pre-tokenizer of this GGUF name.
pub(super) fn pre_tokenizer(name: &str) -> Result<Pre> {
    let Some(Family { patterns, traits, .. }) = family(name) else {
        let known: Vec<_> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
        let message = format!("tokenizer.ggml.pre is \"{}\"; supported are {}", excerpt(name), known.join(", "));
        return Err(Error::new(ErrorCode::UnsupportedModel, message));
    };
    let cuts = patterns.iter().map(|pattern| split(pattern));
    let bytes = PreTokenizerWrapper::from(ByteLevel::new(false, false, false));
    Ok(Pre {
        normalizer: traits.contains(&Nfc).then_some(NFC),
        split: Sequence::new(cuts.chain([Ok(bytes)]).collect::<Result<_>>()?),
        ignore_merges: traits.contains(&IgnoreMerges),
    })
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper> {
    Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false)
        .map(PreTokenizerWrapper::from)
        .map_err(|e| Error::new(ErrorCode::Internal, format!("the pre-tokenizer's pattern does not compile: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[derive(Deserialize)]
    struct Fixture {
        texts: Vec<String>,
        families: Vec<Cuts>,
    }

    #[derive(Deserialize)]
    struct Cuts {
        pre: String,
        nfc: bool,
        ignore_merges: bool,
        /// For each text the bytes of each piece.
        pieces: Vec<Vec<usize>>,
    }

    fn lengths(pre: &Pre, text: &str) -> Vec<usize> {
        let mut text = NormalizedString::from(text);
        if let Some(nfc) = pre.normalizer {
            nfc.normalize(&mut text).unwrap();
        }
        let mut cut = PreTokenizedString::from(text.get());
        pre.split.pre_tokenize(&mut cut).unwrap();
        let pieces = cut.get_splits(OffsetReferential::Normalized, OffsetType::None);
        pieces.into_iter().map(|(piece, ..)| piece.chars().count()).collect()
    }

    /// As Hugging Face's tokenizers cut (tests/fixtures/tokenizer).
    #[test]
    fn every_family_cuts_as_its_own_tokenizer() {
        let json = include_str!("../../../tests/fixtures/tokenizer/cuts.json");
        let Fixture { texts, families } = serde_json::from_str(json).expect("a fixture");
        for Cuts { pre: name, nfc, ignore_merges, pieces } in &families {
            let pre = pre_tokenizer(name).unwrap();
            assert_eq!((pre.normalizer.is_some(), pre.ignore_merges), (*nfc, *ignore_merges), "{name}");
            for (text, pieces) in texts.iter().zip(pieces) {
                assert_eq!(&lengths(&pre, text), pieces, "{name}: {text:?}");
            }
        }
        for family in FAMILIES {
            let tested = families.iter().filter(|cuts| family.names.contains(&cuts.pre.as_str())).count();
            assert_eq!(tested, 1, "{:?}", family.names);
        }
    }

    #[test]
    fn llama_3_and_tekken_begin_with_bos() {
        assert!(["llama-bpe", "falcon3", "lfm2", "tekken"].into_iter().all(adds_bos));
        assert!(!["smaug-bpe", "qwen2", "gpt-2", "unheard-of"].into_iter().any(adds_bos));
    }
}
