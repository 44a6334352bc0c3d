//! Chat templates against what transformers' `apply_chat_template` makes of them (tests/fixtures/templates).

use super::{ChatTemplate, LocalTime, Message, TemplateValue};
use crate::ErrorCode;
use crate::config::ChatOptions;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    now: i64,
    cases: Vec<Case>,
    templates: Vec<Template>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    options: TemplateValue,
}

#[derive(Deserialize)]
struct Template {
    name: String,
    bos: String,
    eos: String,
    template: String,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// The prompt.
    Text(String),
    /// What `raise_exception` was called with.
    Raised(String),
    /// Why the template failed by itself.
    Failed(String),
}

/// What differs, a line for each.
fn differences(json: &str) -> Vec<String> {
    let Fixture { now, cases, templates } = serde_json::from_str(json).expect("a fixture");
    let mut differences = Vec::new();
    for Template { name, bos, eos, template, outcomes } in templates {
        let template = match ChatTemplate::new(&template, &bos, &eos) {
            Ok(template) => template,
            Err(e) => {
                differences.push(format!("{name}: {e}"));
                continue;
            }
        };
        assert_eq!(cases.len(), outcomes.len(), "{name}");
        for (i, (Case { messages, options }, outcome)) in cases.iter().zip(outcomes).enumerate() {
            let options = ChatOptions::from_json(options).expect("options");
            let rendered = template.render(messages, &options.render, LocalTime(now));
            let same = match (&outcome, &rendered) {
                (Outcome::Text(expected), Ok(text)) => expected == text,
                (Outcome::Raised(why), Err(e)) => e.code == ErrorCode::InvalidPrompt && e.message.contains(why),
                (Outcome::Failed(why), Err(_)) => !why.is_empty(),
                _ => false,
            };
            if !same {
                differences.push(format!("{name}, case {i}: {outcome:?}, but here {rendered:?}"));
            }
        }
    }
    differences
}

#[test]
fn templates_render_as_in_transformers() {
    let mut found = differences(include_str!("../../../tests/fixtures/templates/cases.json"));
    if let Ok(more) = std::env::var("EMBERGRAM_TEMPLATE_CASES") {
        found.extend(differences(&std::fs::read_to_string(more).expect("the file")));
    }
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
