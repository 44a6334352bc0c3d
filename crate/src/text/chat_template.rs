//! Chat templates: a conversation as the one text a model was trained to continue.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::chat_input::{Message, RenderOptions};
use super::jinja::{self, Limits, OverBudget};
use super::json::{self, Spacing};
use super::local_time::LocalTime;
use super::python;
use crate::error::{Error, ErrorCode, Result};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, ErrorKind};
use serde::Serialize;

/// How many instructions a template may run, and how many more for each message, tool and document. Real templates run some
/// 50 a message.
const FUEL: u64 = 20_000;
const FUEL_A_MESSAGE: u64 = 2_000;
/// How many more for each byte of tools, documents and further variables, which templates go through field by field.
const FUEL_A_BYTE: u64 = 8;

/// How many bytes of text a template may make or look through, and how many times what it is given.
const BYTES: usize = 4 << 20;
const TIMES: usize = 32;

/// The name of a template in messages.
const NAME: &str = "chat_template";

/// Most bytes of a separator of `tojson`.
const SEPARATOR: usize = 16;

/// What transformers puts after the final message to find its end.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The chat template of a model.
///
/// Rendered as in Hugging Face's transformers: `trim_blocks`, `lstrip_blocks`, Python's string methods, `tojson`,
/// `raise_exception`, `strftime_now`, and `tools` and `documents` none where they are not given. What `{% generation %}`
/// encloses, which tells transformers what to train on, is rendered like the rest.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Arc<Environment<'static>>,
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
    ///
    /// # Errors
    /// `unsupported_model` where it does not parse.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let source = without_generation(source).into_owned();
        jinja::check(NAME, &source).map_err(|e| {
            let message = format!("the chat template does not parse: {}; give another as chat_template", shown(&e));
            Error::new(ErrorCode::UnsupportedModel, message)
        })?;
        let mut env = Environment::new();
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", tojson);
        // To minijinja nothing is iterable, and a text or an object is no sequence.
        env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        env.add_test("sequence", |value: &Value| {
            use ValueKind::{Map, Seq, String, Undefined};
            matches!(value.kind(), Map | Seq | String | Undefined)
        });
        env.add_filter("string", |value: &Value| python::str(value).unwrap_or_else(|| value.to_string()));
        Ok(Self { env: Arc::new(env), source, bos: bos.into(), eos: eos.into() })
    }

    /// The prompt text of a conversation at this time of day.
    ///
    /// # Errors
    /// `invalid_prompt` where there is no message, or the template refuses them, takes more text or time than it may, or does
    /// not write the message that is to be continued; `unsupported_model` where it fails on them.
    pub fn render(&self, messages: &[Message], options: &RenderOptions, now: LocalTime) -> Result<String> {
        let refused = |message: &str| Error::new(ErrorCode::InvalidPrompt, message);
        let Some((last, earlier)) = messages.split_last() else {
            return Err(refused("messages is empty; a chat needs at least one message"));
        };
        if !options.continue_final_message {
            return self.rendered(messages, options, now);
        }
        let tagged = Message { content: format!("{}{TAG}", last.content), ..last.clone() };
        let text = self.rendered(&[earlier, &[tagged]].concat(), options, now)?;
        match text.rfind(TAG.trim_end()).filter(|_| text.contains(last.content.trim())) {
            Some(end) if text[end..].starts_with(TAG) => Ok(text[..end].to_owned()),
            // The template trims what it writes.
            Some(end) => Ok(text[..end].trim_end().to_owned()),
            None => Err(refused(
                "continue_final_message is set, but the chat template does not write the final message as it is; leave it \
                 out, or give another chat_template",
            )),
        }
    }

    fn rendered(&self, messages: &[Message], options: &RenderOptions, now: LocalTime) -> Result<String> {
        let mut values = BTreeMap::from([
            ("bos_token", Value::from(&*self.bos)),
            ("eos_token", Value::from(&*self.eos)),
            ("strftime_now", Value::from_function(move |format: &str| strftime(now, format))),
        ]);
        values.extend(options.chat_template_kwargs.iter().map(|(name, value)| (&**name, value.clone())));
        values.extend([
            ("messages", Value::from_serialize(messages)),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("tools", Value::from(options.tools.clone())),
            ("documents", Value::from(options.documents.clone())),
        ]);
        let limits = limits(messages, options);
        jinja::render(NAME, &self.source, &self.env, Value::from_iter(values), limits)
            .map_err(|e| render_error(&e, limits))
    }
}

/// What a conversation's rendering may cost.
fn limits(messages: &[Message], options: &RenderOptions) -> Limits {
    fn bytes(value: &impl Serialize) -> usize {
        serde_json::to_vec(value).map_or(0, |json| json.len())
    }
    let lists = || [&options.tools, &options.documents].into_iter().flatten();
    let items = messages.len() + lists().map(Vec::len).sum::<usize>();
    let kwargs = &options.chat_template_kwargs;
    let more =
        lists().map(bytes).sum::<usize>() + kwargs.iter().map(|(name, value)| name.len() + bytes(value)).sum::<usize>();
    let fuel = FUEL_A_MESSAGE.saturating_mul(items as u64).saturating_add(FUEL_A_BYTE.saturating_mul(more as u64));
    Limits {
        fuel: FUEL.saturating_add(fuel),
        bytes: BYTES.saturating_add(TIMES.saturating_mul(bytes(&messages) + more)),
    }
}

/// The template with transformers' own tags as blocks that do nothing. A `with` keeps what is set inside to itself, as they
/// do.
fn without_generation(source: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed("");
    let mut rest = source;
    while let Some((before, inner, after)) = next_tag(rest) {
        let name = inner.trim_matches(['-', '+']).trim();
        let own = match name {
            "generation" => "with",
            "endgeneration" => "endwith",
            other => other,
        };
        let text = out.to_mut();
        text.push_str(before);
        // Whitespace control and lines stay as they are.
        text.push_str(&inner.replacen(name, own, usize::from(!name.is_empty())));
        rest = after;
    }
    if out.is_empty() {
        return Cow::Borrowed(source);
    }
    out.to_mut().push_str(rest);
    out
}

/// The text up to and with the next `{%`, what the tag holds, and the rest from its `%}` on.
fn next_tag(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("{%")? + 2;
    let end = start + text[start..].find("%}")?;
    Some((&text[..start], &text[start..end], &text[end..]))
}

fn render_error(error: &minijinja::Error, limits: Limits) -> Error {
    let causes = || std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let refused = |message: String| Error::new(ErrorCode::InvalidPrompt, message);
    if let Some(raised) = causes().find_map(|e| e.downcast_ref::<Raised>()) {
        return refused(format!("the model's chat template refused the messages: {}", shown(raised)));
    }
    let remedy = "and was stopped; send the prompt as text, or give another chat_template";
    if causes().any(|e| e.downcast_ref().is_some_and(|e: &minijinja::Error| e.kind() == ErrorKind::OutOfFuel)) {
        return refused(format!("the chat template ran for more than {} instructions {remedy}", limits.fuel));
    }
    if let Some(over) = causes().find_map(|e| e.downcast_ref::<OverBudget>()) {
        return refused(format!("the chat template made {over} {remedy}"));
    }
    let message = format!("the model's chat template failed on these messages: {}", shown(error));
    Error::new(ErrorCode::UnsupportedModel, message)
}

/// The beginning of what is told of a template, whose names and messages may be of any length.
fn shown(error: &dyn std::error::Error) -> String {
    const MOST: usize = 400;
    format!("{:.MOST$}", error.to_string())
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(Raised(message)))
}

fn strftime(now: LocalTime, format: &str) -> std::result::Result<String, minijinja::Error> {
    now.format(format).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// transformers' `tojson`, but for `sort_keys` and `ensure_ascii=true`, which no template was seen to use.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let failed = |kind, message: &'static str| minijinja::Error::new(kind, message);
    let mut spacing = Spacing::new(indent.or(options.get("indent")?));
    let separators: Option<Vec<String>> = options.get("separators")?;
    match separators.as_deref() {
        None => {}
        Some([item, key]) if item.len().max(key.len()) <= SEPARATOR => (spacing.item, spacing.key) = (item, key),
        Some(_) => return Err(failed(ErrorKind::InvalidOperation, "separators of tojson must be two short texts")),
    }
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(failed(ErrorKind::InvalidOperation, "tojson cannot escape what is not ASCII"));
    }
    options.assert_all_used()?;
    json::dumps(value, spacing)
        .map(Value::from_safe_string)
        .map_err(|e| failed(ErrorKind::BadSerialization, "tojson cannot spell this value").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-07-26 12:00.
    const NOON: LocalTime = LocalTime(1_721_995_200);

    fn user(content: &str) -> Message {
        Message::new("user", content)
    }

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        ChatTemplate::new(source, "<s>", "</s>")?.render(messages, &RenderOptions::default(), NOON)
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
        let rendered = |add_generation_prompt| {
            let options = RenderOptions { add_generation_prompt, ..Default::default() };
            template.render(&messages, &options, NOON).unwrap()
        };
        assert_eq!(rendered(true), format!("{system}{hi}<|im_start|>assistant\n"));
        assert_eq!(rendered(false), format!("{system}{hi}"));
    }

    #[test]
    fn behaves_as_in_transformers() {
        let lines =
            "{{ bos_token }}\n    {% if true %}\n{{ messages[0].content.strip().split(',')[-1] }}\n    {% endif %}\n";
        assert_eq!(render(lines, &[user(" a,b ")]).unwrap(), "<s>\nb\n");
        assert_eq!(render("{{ [messages[0].content, 1] | tojson }}", &[user("<é>")]).unwrap(), r#"["<é>", 1]"#);
        assert_eq!(render("{{ [1] | tojson(indent=1) }}", &[user("")]).unwrap(), "[\n 1\n]");
        assert_eq!(
            render("{{ tools is none }} {{ tools is defined }} {{ strftime_now('%d %b %Y') }}", &[user("")]).unwrap(),
            "True True 26 Jul 2024"
        );
        assert_eq!(
            render("{{ none is iterable }} {{ 'a' is iterable }} {{ 'a' is sequence }} {{ {} is sequence }} {{ 1 is sequence }}", &[user("")])
                .unwrap(),
            "False True True True False"
        );
        let written = "{{ messages }} {{ messages|string }} {{ '' ~ [none, 1.0, {'b': 1, 'a': 'it\\'s'}] }} {{ 1e22 }}";
        assert_eq!(
            render(written, &[user("x")]).unwrap(),
            "[{'role': 'user', 'content': 'x'}] [{'role': 'user', 'content': 'x'}] [None, 1.0, {'b': 1, 'a': \"it's\"}] 1e+22"
        );
        assert_eq!(
            render("{{ {'b': [], 'a': 1} | tojson(indent=1, ensure_ascii=False) }}", &[user("")]).unwrap(),
            "{\n \"b\": [],\n \"a\": 1\n}"
        );
        assert_eq!(render("{{ [1, 2] | tojson(separators=(',', ':')) }}", &[user("")]).unwrap(), "[1,2]");
        assert!(code("{{ [] | tojson(ensure_ascii=true) }}").1.contains("not ASCII"));
        assert!(code("{{ [] | tojson(sort_keys=true) }}").1.contains("sort_keys"));
        assert!(code("{{ strftime_now('%Q') }}").1.contains("does not know %Q"));
        let looped = "{% set ns = namespace(n=0) %}{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}\
            {% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}";
        assert_eq!(render(looped, &[user("")]).unwrap(), "3");
    }

    #[test]
    fn generation_tags_enclose_what_is_rendered_like_the_rest() {
        for (tags, expected) in [
            ("a {% generation %}b{{ 1 }}{% endgeneration %} c", "a b1 c"),
            ("a {%- generation -%} b {%- endgeneration -%} c", "abc"),
            ("{%+ generation +%}\nb\n{%endgeneration%}\nc", "\nb\nc"),
            ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
            ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", "hi"),
        ] {
            assert_eq!(render(tags, &[user("hi")]).unwrap(), expected, "{tags}");
        }
        assert!(code("{% generation %}").1.contains("does not parse"));
    }

    #[test]
    fn a_template_cannot_have_large_constants() {
        for constant in ["'a' * 9999999", "9999 * 9999 * ('a' ~ 1)", "[1] * 10 ** 9 ~ ''", "('a' * 1000) * 1000 * 1000"]
        {
            assert!(code(&format!("{{{{ {constant} }}}}")).1.contains("too often"), "{constant}");
        }
        assert_eq!(render("{{ '-' * 3 }}{{ 1000 * 10000 }}", &[user("")]).unwrap(), "---10000000");
    }

    #[test]
    fn other_keys_of_a_message_reach_the_template() {
        let message: Message =
            serde_json::from_str(r#"{"role": "tool", "content": "5", "name": "add", "calls": [{"id": 7}]}"#).unwrap();
        assert_eq!(render("{{ messages[0].name }} {{ messages[0].calls[0].id }}", &[message]).unwrap(), "add 7");
    }

    #[test]
    fn a_template_cannot_make_more_text_than_its_budget() {
        let long = "x".repeat(1000);
        for hostile in [
            "{% set ns = namespace(s='ab') %}{% for i in range(24) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s='ab') %}{% for i in range(24) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% set n = 99999 %}{% set s = messages[0].content * n %}",
            "{% set s = messages[0].content|replace('x', messages[0].content)|replace('x', messages[0].content) %}",
            "{% set s = messages[0].content.replace('x', messages[0].content).replace('x', messages[0].content) %}",
            "{% set s = range(90000)|join(messages[0].content) %}",
            "{% set s = messages[0].content.join(range(90000)) %}",
            "{% set s = messages[0].content|indent(99999999) %}",
            "{% set s = messages|tojson(indent=99999999) %}",
            "{% set s = '%99999999s'|format(1) %}",
            "{% set s = '{:99999999}'.format(1) %}",
            "{% set n = 10000000000 %}{% set l = [1] * n %}{{ l|length }}",
            "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
            "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
            "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
            "{% macro m() %}{% for i in range(400) %}{{ messages[0].content * 20 }}{% endfor %}{% endmacro %}{% set s = m() %}",
            "{% set s %}{% for i in range(400) %}{{ messages[0].content * 20 }}{% endfor %}{% endset %}",
            "{% for i in range(9) %}{% set s = messages[0].content * 900 %}{% endfor %}",
            "{% set ns = namespace(l=['a']) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set s = ns.l|string %}",
            "{% set ns = namespace(l=['a']) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{% set s = ns.l ~ '' %}",
            "{% set ns = namespace(n=900) %}{% set ns.s = messages[0].content * ns.n %}{% for i in range(9) %}{% set s = ns.s[1:] %}{% endfor %}",
        ] {
            let (kind, message) = render(hostile, &[user(&long)]).map_err(|e| (e.code, e.message)).expect_err(hostile);
            assert!(kind == ErrorCode::InvalidPrompt && message.contains("bytes of text"), "{hostile}: {message}");
        }
        let raw = format!("{{% set s %}}{{% for i in range(900) %}}{}{{% endfor %}}{{% endset %}}", "y".repeat(9000));
        assert!(render(&raw, &[user("")]).unwrap_err().message.contains("bytes of text"));
    }

    #[test]
    fn metered_operators_do_as_before() {
        let source = "{{ 1 + 2 }} {{ 'a' + 'b' }} {{ ([1] + [2])|list }} {{ 2 * 3.5 }} {{ 'ab' * 2 }} {{ ([1] * 2)|list }} {{ 1 ~ none }} \
            {{ 'abcd'[1:3] }} {{ [1, 2, 3][::-1]|list }} {{ messages[1:]|length }} {{ 'abcd'[:-1] }} {{ x is defined and x + 1 }} \
            {% if false %}no{% elif 1 %}yes{% else %}no{% endif %} {% for i in [] %}{% else %}none{% endfor %} \
            {% macro m(a, b='c') %}<{{ a ~ b }}>{% endmacro %}{{ m('z') }}{{ m('z', b='y') }} {{ 'a,b'.split(',')|join('-') }} \
            {{ messages|map(attribute='role')|join(',') }} {{ ['b', 'a']|sort|first|upper }} {{ 9999999999|string }}";
        let expected =
            "3 ab [1, 2] 7.0 abab [1, 1] 1None bc [3, 2, 1] 0 abc False yes none <zc><zy> a-b user A 9999999999";
        assert_eq!(render(source, &[user("")]).unwrap(), expected);
        let (_, message) = code("{{ [] + 1 }}");
        assert!(message.contains("tried to use + operator"), "{message}");
    }

    #[test]
    fn what_the_caller_gives_is_what_a_template_sees() {
        let source = "{{ tools|length }} {{ documents[0].text }} {{ enable_thinking }} {{ bos_token }} {{ add_generation_prompt }}";
        let value = |json: &str| serde_json::from_str::<Vec<Value>>(json).unwrap();
        let options = RenderOptions {
            add_generation_prompt: false,
            tools: Some(value(r#"[{}, {}]"#)),
            documents: Some(value(r#"[{"text": "x"}]"#)),
            chat_template_kwargs: [("enable_thinking".into(), false.into()), ("bos_token".into(), "<bos>".into())]
                .into(),
            ..Default::default()
        };
        let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
        assert_eq!(template.render(&[user("")], &options, NOON).unwrap(), "2 x False <bos> False");
    }

    #[test]
    fn the_final_message_is_continued() {
        let chat = [user("hi"), Message::new("assistant", " Well, ")];
        let options =
            RenderOptions { add_generation_prompt: false, continue_final_message: true, ..Default::default() };
        let continued = |each: &str| {
            let source = format!("{{% for m in messages %}}<{{{{ {each} }}}}>{{% endfor %}}");
            ChatTemplate::new(&source, "", "").unwrap().render(&chat, &options, NOON)
        };
        assert_eq!(continued("m.content").unwrap(), "<hi>< Well, ");
        assert_eq!(continued("m.content|trim").unwrap(), "<hi><Well,");
        for gone in ["m.role", "m.content|upper", "m.content[:4]"] {
            let error = continued(gone).unwrap_err();
            assert!(
                error.code == ErrorCode::InvalidPrompt && error.message.contains("continue_final_message"),
                "{error}"
            );
        }
    }

    /// Large tools may be gone through field by field, and are written out within the budget of text.
    #[test]
    fn limits_grow_with_tools_and_documents() {
        let fields: Vec<String> = (0..20_000).map(|i| format!(r#""field {i}": {{"type": "string"}}"#)).collect();
        let tool: Value = serde_json::from_str(&format!("{{{}}}", fields.join(","))).unwrap();
        let source = "{% for t in tools %}{% for name, field in t.items() %}{{ name ~ field.type }}{% endfor %}{{ t | tojson(indent=4) }}\
            {{ t | string }}{% endfor %}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        let options = RenderOptions { tools: Some(vec![tool; 10]), ..Default::default() };
        assert!(template.render(&[user("")], &options, NOON).unwrap().len() > 10 * 20_000 * 60);
    }

    /// The limits are wide for what templates do: a long conversation, and one that is put together bit by bit.
    #[test]
    fn long_conversations_stay_within_the_limits() {
        let messages: Vec<Message> = (0..4000).map(|i| user(&format!("{i} {}", "word ".repeat(40)))).collect();
        let source = "{% set ns = namespace(last=0, seen='') %}{% for m in messages[::-1] %}{% if m.role == 'user' and not m.tools %}\
            {% set ns.last = loop.index %}{% endif %}{% endfor %}{% for message in messages %}\
            {% set content = message.content | trim %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
            {% if loop.index0 == messages|length - 1 or loop.first %}{{ bos_token }}{% endif %}\
            {{ '<|im_start|>' + message.role + '\n' + content.strip() + '<|im_end|>' + '\n' }}{% endfor %}";
        assert!(render(source, &messages).unwrap().len() > 4000 * 200);
        assert!(render(source, &[user(&"a very long text ".repeat(200_000))]).is_ok());
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
        assert!(kind == ErrorCode::InvalidPrompt && message.contains("22000 instructions"), "{message}");
        let (kind, message) = code("\n{{ messages | no_such }}");
        assert!(kind == ErrorCode::UnsupportedModel && message.contains("chat_template:2"), "{message}");
        assert_eq!(code("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").0, ErrorCode::UnsupportedModel);
        let name = "x".repeat(1 << 20);
        for long in
            [format!("{{% {name} %}}"), format!("{{{{ 1 | {name} }}}}"), format!("{{{{ raise_exception('{name}') }}}}")]
        {
            assert!(code(&long).1.len() < 600);
        }
        assert_eq!(render("x", &[]).unwrap_err().code, ErrorCode::InvalidPrompt);
    }
}
