//! The options of a chat, beside its messages and sampling parameters.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Keys;
use crate::error::{Error, ErrorCode, Result};
use crate::text::{RenderOptions, TemplateValue};

/// Options of a chat, from vLLM's `LLM.chat`; `documents` is from its server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// The chat template of this call, as Jinja. Default: that of the load, or the model's.
    pub chat_template: Option<String>,
    /// What the template gets.
    pub render: RenderOptions,
}

impl ChatOptions {
    const KEYS: [&str; 6] = [
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tools",
        "documents",
        "chat_template_kwargs",
    ];

    /// Variables of a template that have another place.
    const OWN: [(&str, &str); 7] = [
        ("messages", "it is what a chat is called with"),
        ("add_generation_prompt", "it is an option of its own"),
        ("continue_final_message", "it is an option of its own"),
        ("tools", "it is an option of its own"),
        ("documents", "it is an option of its own"),
        ("chat_template", "it is an option of its own"),
        ("tokenize", "a chat is always tokenized"),
    ];

    /// Reads and checks a JSON object. Absent keys take their defaults, as does `null` where the default is "none".
    ///
    /// # Errors
    /// `invalid_params`.
    pub fn from_json(value: &TemplateValue) -> Result<Self> {
        let plain = serde_json::to_value(value)
            .map_err(|e| Error::new(ErrorCode::InvalidParams, format!("the options of a chat are no JSON: {e}")))?;
        let keys = Keys::new(&plain, ErrorCode::InvalidParams, "chat option", &Self::KEYS)?;
        // Checked as plain JSON, taken with the order of its keys.
        let ordered = |key: &str| value.get_attr(key).unwrap_or_default();
        let objects = |key: &str| {
            let list = keys.optional(key, "a list of objects", |v| {
                let list = v.as_array()?;
                list.iter().all(Value::is_object).then(|| ordered(key))
            })?;
            list.map(|list| list.try_iter().map(Iterator::collect)).transpose().map_err(unreadable)
        };
        let kwargs = keys.optional("chat_template_kwargs", "an object", |v| {
            v.is_object().then(|| ordered("chat_template_kwargs"))
        })?;
        let default = RenderOptions::default();
        let options = Self {
            chat_template: keys.optional("chat_template", "a string", |v| v.as_str().map(str::to_owned))?,
            render: RenderOptions {
                add_generation_prompt: keys.boolean("add_generation_prompt", default.add_generation_prompt)?,
                continue_final_message: keys.boolean("continue_final_message", default.continue_final_message)?,
                tools: objects("tools")?,
                documents: objects("documents")?,
                chat_template_kwargs: variables(kwargs)?,
            },
        };
        if options.render.add_generation_prompt && options.render.continue_final_message {
            let right =
                "false when add_generation_prompt is true, its default: either the model answers or it continues";
            return Err(keys.wrong("continue_final_message", &true.into(), right));
        }
        Ok(options)
    }
}

fn variables(kwargs: Option<TemplateValue>) -> Result<BTreeMap<String, TemplateValue>> {
    let Some(kwargs) = kwargs else { return Ok(BTreeMap::new()) };
    let names = kwargs.try_iter().map_err(unreadable)?;
    names
        .map(|name| {
            let name = name.as_str().unwrap_or_default();
            if let Some((_, place)) = ChatOptions::OWN.iter().find(|(own, _)| *own == name) {
                let message = format!("chat_template_kwargs has {name}, but {place}; leave it out there");
                return Err(Error::new(ErrorCode::InvalidParams, message));
            }
            Ok((name.to_owned(), kwargs.get_attr(name).map_err(unreadable)?))
        })
        .collect()
}

fn unreadable(error: minijinja::Error) -> Error {
    Error::new(ErrorCode::InvalidParams, format!("the options of a chat cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ChatOptions> {
        ChatOptions::from_json(&serde_json::from_str(json).expect(json))
    }

    #[test]
    fn every_option_is_read_in_its_order() {
        for nothing in ["{}", "null", r#"{"tools": null, "documents": null, "chat_template_kwargs": null}"#] {
            assert_eq!(read(nothing), Ok(ChatOptions::default()), "{nothing}");
        }
        let options = read(
            r#"{"chat_template": "t", "add_generation_prompt": false, "continue_final_message": true,
                "tools": [{"type": "function", "function": {"name": "f"}}], "documents": [],
                "chat_template_kwargs": {"enable_thinking": false, "date_string": "26 Jul 2024"}}"#,
        )
        .unwrap();
        assert_eq!(options.chat_template.as_deref(), Some("t"));
        let RenderOptions { add_generation_prompt, continue_final_message, tools, documents, chat_template_kwargs } =
            options.render;
        assert!(!add_generation_prompt && continue_final_message);
        let tools = serde_json::to_string(&tools).unwrap();
        assert_eq!(tools, r#"[{"type":"function","function":{"name":"f"}}]"#);
        assert_eq!(documents, Some(Vec::new()));
        assert_eq!(chat_template_kwargs["enable_thinking"], TemplateValue::from(false));
        assert_eq!(chat_template_kwargs["date_string"], TemplateValue::from("26 Jul 2024"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, words) in [
            (r#"{"tool": []}"#, "unknown chat option \"tool\"; did you mean tools?"),
            (r#"{"tools": {}}"#, "chat option tools is {}, but must be a list of objects"),
            (r#"{"tools": ["f"]}"#, "a list of objects"),
            (r#"{"documents": 5}"#, "chat option documents is 5"),
            (r#"{"add_generation_prompt": null}"#, "must be true or false"),
            (r#"{"continue_final_message": true}"#, "must be false when add_generation_prompt is true"),
            (r#"{"chat_template_kwargs": []}"#, "must be an object"),
            (
                r#"{"chat_template_kwargs": {"tools": []}}"#,
                "chat_template_kwargs has tools, but it is an option of its own",
            ),
            ("[]", "chat options must be an object"),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.code == ErrorCode::InvalidParams && error.message.contains(words), "{json}: {error}");
        }
    }
}
