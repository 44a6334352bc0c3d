//! Which chat template a conversation gets, and what becomes of one that does not parse.

mod common;
mod support;

use common::gpu;
use embergram::config::{ChatOptions, LlmConfig};
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::text::Message;
use embergram::{ErrorCode, Result};
use serde_json::{Value, json};

fn load(template: &str, more: Value) -> Result<Llm> {
    let mut config = json!({ "max_model_len": 64, "max_num_seqs": 1 });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut loader = LlmLoader::new(&gpu(), LlmConfig::from_json(&config)?)?;
    loader.read(&support::model(&["--chat-template", template])[..])?;
    loader.finish()
}

fn chat(llm: &Llm, template: Option<&str>) -> Result<String> {
    let options = ChatOptions { chat_template: template.map(str::to_owned), ..Default::default() };
    let Prompt::Tokens(ids) = llm.chat_prompt(&[Message::new("user", "water")], &options)? else { unreachable!() };
    Ok(llm.detokenize(&ids))
}

#[test]
fn a_template_that_does_not_parse_is_an_error_of_the_chat_and_not_of_the_load() {
    let llm = load("{% nonsense %}", json!({})).unwrap();
    assert!(!llm.info().has_chat_template);
    let error = chat(&llm, None).unwrap_err();
    assert!(error.code == ErrorCode::UnsupportedModel && error.message.contains("nonsense"), "{error}");
    assert_eq!(chat(&llm, Some("said: {{ messages[0].content }}")).unwrap(), "said: water");
    let error = chat(&llm, Some("{% nonsense %}")).unwrap_err();
    assert!(error.code == ErrorCode::InvalidParams && error.message.contains("nonsense"), "{error}");

    let llm = load("{% nonsense %}", json!({ "chat_template": "mine: {{ messages[0].content }}" })).unwrap();
    assert!(llm.info().has_chat_template);
    assert_eq!(chat(&llm, None).unwrap(), "mine: water");

    let config = LlmConfig::from_json(&json!({ "chat_template": "{% nonsense %}" })).unwrap();
    let error = LlmLoader::new(&gpu(), config).err().expect("refused before any byte has come");
    assert!(error.code == ErrorCode::InvalidConfig && error.message.contains("nonsense"), "{error}");
}

#[test]
fn transformers_generation_tags_load() {
    let llm = load("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", json!({}))
        .unwrap();
    assert!(llm.info().has_chat_template);
    assert_eq!(chat(&llm, None).unwrap(), "water");
}

/// What cannot fit is refused by its bytes, before it is tokenized.
#[test]
fn a_text_that_cannot_fit_is_not_tokenized() {
    let llm = &mut load("{{ messages[0].content }}", json!({})).unwrap();
    let long = "water ".repeat(1 << 18);
    let p = common::params(json!({}));
    let error = llm.add(&Prompt::Text(long.clone()), &p).unwrap_err();
    assert!(error.code == ErrorCode::PromptTooLong && error.message.contains("bytes of text"), "{error}");
    let error = llm.chat_prompt(&[Message::new("user", &long)], &ChatOptions::default()).unwrap_err();
    assert!(error.code == ErrorCode::PromptTooLong && error.message.contains("bytes of text"), "{error}");
    let error = llm.tokenize(&long).unwrap_err();
    assert!(error.code == ErrorCode::PromptTooLong && error.message.contains("1048576"), "{error}");

    // The longest tokens of all still fit, and what is a token over is told by its tokens.
    let longest = "<|endoftext|>";
    assert!(llm.add(&Prompt::Text(longest.repeat(63)), &p).is_ok());
    let error = llm.add(&Prompt::Text(longest.repeat(64)), &p).unwrap_err();
    assert!(error.message.contains("64 tokens"), "{error}");
    assert!(llm.tokenize(&"water ".repeat(1000)).unwrap().len() > 64);
}
