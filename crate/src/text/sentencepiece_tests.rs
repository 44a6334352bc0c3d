//! SentencePiece vocabularies against SentencePiece's own ids, and against the texts that Hugging Face's decoders make
//! of them (tests/fixtures/tokenizer).

use super::{Detokenizer, Tokenizer, TokenizerSource};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    add_space_prefix: bool,
    tokens: Vec<String>,
    token_types: Vec<i32>,
    scores: Vec<f32>,
    cases: Vec<Case>,
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    without_special: String,
    with_special: String,
}

/// What follows a prompt.
#[derive(Deserialize)]
struct Stream {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    skip: bool,
    text: String,
}

fn fixtures() -> [Fixture; 2] {
    [
        include_str!("../../../tests/fixtures/tokenizer/sentencepiece.json"),
        include_str!("../../../tests/fixtures/tokenizer/sentencepiece-prefix.json"),
    ]
    .map(|json| serde_json::from_str(json).expect("a fixture"))
}

fn tokenizer(fixture: &Fixture) -> Tokenizer {
    Tokenizer::new(source(fixture)).expect("a tokenizer")
}

fn source(fixture: &Fixture) -> TokenizerSource {
    TokenizerSource {
        model: "llama".into(),
        pre: "default".into(),
        tokens: fixture.tokens.clone(),
        token_types: fixture.token_types.clone(),
        scores: fixture.scores.clone(),
        add_space_prefix: fixture.add_space_prefix,
        bos: Some(1),
        eos: Some(2),
        add_bos: true,
        ..TokenizerSource::default()
    }
}

fn streamed(tokenizer: &Tokenizer, prompt: &[u32], ids: &[u32], skip: bool) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer, prompt, skip);
    let text: String = ids.iter().map(|id| detokenizer.push(tokenizer, *id)).collect();
    text + &detokenizer.finish()
}

#[test]
fn ids_are_sentencepieces() {
    for fixture in fixtures() {
        let tokenizer = tokenizer(&fixture);
        for Case { text, ids, .. } in &fixture.cases {
            assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
            assert_eq!(&tokenizer.encode(text, true).unwrap()[1..], ids, "{text:?}");
        }
    }
}

/// Converters write user-defined runs of spaces either way.
#[test]
fn user_defined_spaces_may_be_spelled_out() {
    let [mut fixture, _] = fixtures();
    let user_defined = fixture.tokens.iter_mut().zip(&fixture.token_types).filter(|(_, kind)| **kind == 4);
    let spelled = user_defined.map(|(token, _)| std::mem::replace(token, token.replace('\u{2581}', " ")));
    assert_eq!(spelled.filter(|token| token.contains('\u{2581}')).count(), 2);
    let tokenizer = tokenizer(&fixture);
    for Case { text, ids, .. } in &fixture.cases {
        assert_eq!(&tokenizer.encode(text, false).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn text_is_as_hugging_face_shows_it() {
    for fixture in fixtures() {
        let tokenizer = tokenizer(&fixture);
        for Case { ids, without_special, with_special, .. } in &fixture.cases {
            assert_eq!(&tokenizer.decode(ids, true), without_special);
            assert_eq!(&tokenizer.decode(ids, false), with_special);
            assert_eq!(&streamed(&tokenizer, &[], ids, true), without_special);
        }
        for Stream { prompt, ids, skip, text } in &fixture.streams {
            assert_eq!(&streamed(&tokenizer, prompt, ids, *skip), text, "{prompt:?} {ids:?} {skip}");
        }
    }
}

#[test]
fn a_character_waits_for_its_last_byte() {
    let [fixture, _] = fixtures();
    let tokenizer = tokenizer(&fixture);
    let byte = |byte: u8| tokenizer.id_of(&format!("<0x{byte:02X}>")).expect("a token for each byte");
    let ids: Vec<u32> = "😀".bytes().map(byte).collect();
    assert_eq!(ids.iter().flat_map(|id| tokenizer.token_bytes(*id)).copied().collect::<Vec<u8>>(), "😀".as_bytes());
    let mut detokenizer = Detokenizer::new(&tokenizer, &[], true);
    let pieces: Vec<String> = ids.iter().map(|id| detokenizer.push(&tokenizer, *id)).collect();
    assert_eq!(pieces, ["", "", "", "😀"]);
    assert_eq!(tokenizer.decode(&[ids[0], ids[1], byte(b'a')], true), "\u{fffd}a");
    assert!(!tokenizer.is_special(ids[0]));
    assert!(tokenizer.is_special(tokenizer.id_of("<|im_end|>").unwrap()));
}

#[test]
fn whitespace_behind_special_tokens_is_dropped_for_phi_3() {
    let [_, fixture] = fixtures();
    let phi = Tokenizer::new(TokenizerSource { rstrip_special: true, ..source(&fixture) }).unwrap();
    let written = "<|im_start|>\n fences<|im_end|>\n<|im_start|> \n";
    let read = tokenizer(&fixture).encode("<|im_start|>fences<|im_end|><|im_start|>", true).unwrap();
    assert_eq!(phi.encode(written, true).unwrap(), read);
    assert_eq!(phi.encode("<s>  two", false).unwrap(), tokenizer(&fixture).encode("<s>  two", false).unwrap());
}
