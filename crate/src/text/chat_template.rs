//! Chat templates: a conversation as the one text a model was trained to continue.

use super::json;
use crate::error::{Error, ErrorCode, Result};
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

/// How many instructions a template may run: thousands of messages' worth, and an endless loop ends in milliseconds.
const FUEL: u64 = 1_000_000;

/// How deep macros and includes may nest; wasm's stack is small.
const DEPTH: usize = 64;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// The chat template of a model.
///
/// Rendered as in Hugging Face's transformers: `trim_blocks`, `lstrip_blocks`, Python's string methods, `tojson`,
/// `raise_exception`, and `tools` and `documents` none. `strftime_now` is left undefined, so a template that asks the
/// date takes its own fixed default and equal prompts stay equal.
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// A template that sees these bos and eos tokens.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(DEPTH);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", tojson);
        let template = Self { env, source: source.into(), bos: bos.into(), eos: eos.into() };
        template.env.template_from_named_str("chat_template", &template.source).map_err(|e| {
            Error::new(ErrorCode::UnsupportedModel, format!("the model's chat template does not parse: {e}"))
        })?;
        Ok(template)
    }

    /// The prompt text of a conversation, open for the assistant to answer if `add_generation_prompt`.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        if messages.is_empty() {
            return Err(Error::new(ErrorCode::InvalidPrompt, "messages is empty; a chat needs at least one message"));
        }
        let values = context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
            tools => (),
            documents => (),
        };
        self.env
            .template_from_named_str("chat_template", &self.source)
            .and_then(|template| template.render(values))
            .map_err(|e| render_error(&e))
    }
}

fn render_error(error: &minijinja::Error) -> Error {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    if let Some(raised) = causes.find_map(|e| e.downcast_ref::<Raised>()) {
        return Error::new(
            ErrorCode::InvalidPrompt,
            format!("the model's chat template refused the messages: {raised}"),
        );
    }
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    if causes.any(|e| e.downcast_ref().is_some_and(|e: &minijinja::Error| e.kind() == ErrorKind::OutOfFuel)) {
        let message = format!(
            "the model's chat template ran for more than {FUEL} instructions and was stopped; send fewer messages, or \
             the prompt as text"
        );
        return Error::new(ErrorCode::InvalidPrompt, message);
    }
    Error::new(ErrorCode::UnsupportedModel, format!("the model's chat template failed on these messages: {error}"))
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(Raised(message)))
}

fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let indent = indent.or(options.get("indent")?);
    json::dumps(value, indent).map(Value::from_safe_string).map_err(|e| {
        minijinja::Error::new(ErrorKind::BadSerialization, "tojson cannot spell this value").with_source(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> Message {
        Message { role: "user".into(), content: content.into() }
    }

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        ChatTemplate::new(source, "<s>", "</s>")?.render(messages, true)
    }

    fn code(source: &str) -> (ErrorCode, String) {
        render(source, &[user("hi")]).map_err(|e| (e.code, e.message)).expect_err(source)
    }

    #[test]
    fn renders_chatml_with_a_default_system_message() {
        let source = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
            {{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + \
            message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
            {{ '<|im_start|>assistant\n' }}{% endif %}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        let system = "<|im_start|>system\nBe kind<|im_end|>\n";
        let hi = "<|im_start|>user\n<b> & {{ 1 }}<|im_end|>\n";
        let messages = [user("<b> & {{ 1 }}")];
        assert_eq!(template.render(&messages, true).unwrap(), format!("{system}{hi}<|im_start|>assistant\n"));
        assert_eq!(template.render(&messages, false).unwrap(), format!("{system}{hi}"));
    }

    #[test]
    fn behaves_as_in_transformers() {
        let lines =
            "{{ bos_token }}\n    {% if true %}\n{{ messages[0].content.strip().split(',')[-1] }}\n    {% endif %}\n";
        assert_eq!(render(lines, &[user(" a,b ")]).unwrap(), "<s>\nb\n");
        assert_eq!(render("{{ [messages[0].content, 1] | tojson }}", &[user("<é>")]).unwrap(), r#"["<é>", 1]"#);
        assert_eq!(render("{{ [1] | tojson(indent=1) }}", &[user("")]).unwrap(), "[\n 1\n]");
        assert_eq!(
            render("{{ tools is none }} {{ tools is defined }} {{ strftime_now is defined }}", &[user("")]).unwrap(),
            "True True False"
        );
        let looped = "{% set ns = namespace(n=0) %}{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}\
            {% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
        assert_eq!(render(looped, &[user("")]).unwrap(), "3");
    }

    #[test]
    fn says_what_went_wrong() {
        let (kind, message) = code("{% for %}");
        assert!(kind == ErrorCode::UnsupportedModel && message.contains("does not parse"), "{message}");
        for raise in [
            "{{ raise_exception('roles must alternate') }}",
            "{% macro m() %}{{ raise_exception('roles must alternate') }}{% endmacro %}{{ m() }}",
        ] {
            let (kind, message) = code(raise);
            assert!(kind == ErrorCode::InvalidPrompt && message.ends_with(": roles must alternate"), "{message}");
        }
        let (kind, message) =
            code("{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}");
        assert!(kind == ErrorCode::InvalidPrompt && message.contains("1000000 instructions"), "{message}");
        let (kind, message) = code("\n{{ messages | no_such }}");
        assert!(kind == ErrorCode::UnsupportedModel && message.contains("chat_template:2"), "{message}");
        assert_eq!(code("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").0, ErrorCode::UnsupportedModel);
        assert_eq!(render("x", &[]).unwrap_err().code, ErrorCode::InvalidPrompt);
    }
}
