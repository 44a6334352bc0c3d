//! Every pre-tokenizer against the ids of Hugging Face's tokenizers (tests/fixtures/tokenizer).

use super::{Detokenizer, Tokenizer, TokenizerSource};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    pre: String,
    tokens: Vec<String>,
    token_types: Vec<i32>,
    merges: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    without_special: String,
}

fn agrees(json: &str) {
    let Fixture { pre, tokens, token_types, merges, cases } = serde_json::from_str(json).expect("a fixture");
    let source = TokenizerSource {
        model: "gpt2".into(),
        pre: pre.clone(),
        tokens,
        token_types,
        merges,
        scores: vec![],
        add_space_prefix: false,
        bos: Some(0),
        eos: Some(2),
        add_bos: true,
        eot: None,
    };
    let tokenizer = Tokenizer::new(source).expect(&pre);
    assert_eq!(tokenizer.eos_ids(), [0, 2]);
    for Case { text, ids, without_special } in cases {
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{pre}: {text:?}");
        assert_eq!(tokenizer.encode(&text, true).unwrap()[1..], ids, "{pre}: {text:?}");
        assert_eq!(tokenizer.decode(&ids, true), without_special, "{pre}: {text:?}");
        if pre != "qwen2" {
            assert_eq!(tokenizer.decode(&ids, false), text, "{pre}");
        }
        let mut detokenizer = Detokenizer::new(true);
        let mut streamed: String = ids.iter().map(|id| detokenizer.push(&tokenizer, *id)).collect();
        streamed += &detokenizer.finish();
        assert_eq!(streamed, without_special, "{pre}: {text:?}");
    }
}

#[test]
fn smollm() {
    agrees(include_str!("../../../tests/fixtures/tokenizer/smollm.json"));
}

#[test]
fn gpt2() {
    agrees(include_str!("../../../tests/fixtures/tokenizer/gpt-2.json"));
}

#[test]
fn llama_bpe() {
    agrees(include_str!("../../../tests/fixtures/tokenizer/llama-bpe.json"));
}

#[test]
fn qwen2() {
    agrees(include_str!("../../../tests/fixtures/tokenizer/qwen2.json"));
}
