//! What a chat template is given: messages, and what else the caller has for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A JSON value for templates. Objects keep the order of their keys, which `tojson` writes.
pub use minijinja::Value as TemplateValue;

/// One turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given")]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What is said; empty where a message only calls tools.
    pub content: String,
    /// What else the template may look at, such as `name` or `tool_calls`.
    #[serde(flatten)]
    pub rest: BTreeMap<String, TemplateValue>,
}

impl Message {
    /// A message with nothing but role and content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Default::default() }
    }
}

/// What a template gets beside the messages, with the names of vLLM's `LLM.chat`.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderOptions {
    /// Whether the text ends where the assistant begins to answer. Default true.
    pub add_generation_prompt: bool,
    /// Whether the text ends with the final message, for the model to continue. Default false.
    pub continue_final_message: bool,
    /// The tools that the model may call, each a JSON object as OpenAI has it. Default: none.
    pub tools: Option<Vec<TemplateValue>>,
    /// The documents that the model may refer to, each a JSON object. Default: none.
    pub documents: Option<Vec<TemplateValue>>,
    /// Further variables of the template, such as `enable_thinking`. Default: none.
    pub chat_template_kwargs: BTreeMap<String, TemplateValue>,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            continue_final_message: false,
            tools: None,
            documents: None,
            chat_template_kwargs: BTreeMap::new(),
        }
    }
}

/// A message as a caller writes it.
#[derive(Deserialize)]
struct Given {
    role: String,
    content: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, TemplateValue>,
}

impl TryFrom<Given> for Message {
    type Error = String;

    fn try_from(Given { role, content, mut rest }: Given) -> Result<Self, String> {
        let content = match content {
            Some(content) => content,
            None if rest.contains_key("tool_calls") => String::new(),
            None => {
                return Err(format!("a message of role {role:?} has no content and no tool_calls; give it content"));
            }
        };
        if let Some(calls) = rest.get_mut("tool_calls")
            && let Ok(each) = calls.try_iter()
        {
            *calls = each
                .map(|call| with(&call, "function", |f| with(&f, "arguments", parsed)))
                .collect::<Result<_, _>>()?;
        }
        Ok(Self { role, content, rest })
    }
}

/// An object with a changed value of this key; anything else as it is.
fn with(
    object: &TemplateValue,
    key: &str,
    change: impl Fn(TemplateValue) -> Result<TemplateValue, String>,
) -> Result<TemplateValue, String> {
    let keys = match object.get_attr(key) {
        Ok(value) if !value.is_undefined() => object.try_iter().map_err(|e| e.to_string())?,
        _ => return Ok(object.clone()),
    };
    let entry = |name: TemplateValue| {
        let value = object.get_item(&name).map_err(|e| e.to_string())?;
        Ok((name.clone(), if name.as_str() == Some(key) { change(value)? } else { value }))
    };
    keys.map(entry).collect::<Result<Vec<_>, String>>().map(TemplateValue::from_iter)
}

/// A call's arguments as the object that templates want; OpenAI has it as JSON text.
fn parsed(arguments: TemplateValue) -> Result<TemplateValue, String> {
    match arguments.as_str() {
        None => Ok(arguments),
        Some("") => Ok(TemplateValue::from_iter(BTreeMap::<String, TemplateValue>::new())),
        Some(json) => serde_json::from_str(json).map_err(|e| {
            format!("the arguments of a tool call are no JSON ({e}); give an object, or one as JSON text")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Result<Message, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn arguments_of_tool_calls_are_objects_to_a_template() {
        let calls = |arguments: &str| {
            let json = format!(
                r#"{{"role": "assistant", "content": null, "tool_calls":
                [{{"id": "1", "type": "function", "function": {{"name": "f", "arguments": {arguments}}}}}]}}"#
            );
            message(&json).map(|message| message.rest["tool_calls"].clone())
        };
        let written = |value: TemplateValue| serde_json::to_string(&value).unwrap();
        let expected = r#"[{"id":"1","type":"function","function":{"name":"f","arguments":{"z":1,"a":[2]}}}]"#;
        for arguments in [r#"{"z": 1, "a": [2]}"#, r#""{\"z\": 1, \"a\": [2]}""#] {
            assert_eq!(written(calls(arguments).unwrap()), expected);
        }
        assert!(written(calls(r#""""#).unwrap()).contains(r#""arguments":{}"#));
        assert!(calls(r#""{""#).unwrap_err().contains("no JSON"));
    }

    #[test]
    fn only_a_call_may_have_no_content() {
        assert_eq!(message(r#"{"role": "assistant", "tool_calls": []}"#).unwrap().content, "");
        assert!(message(r#"{"role": "user"}"#).unwrap_err().contains("no content"));
        assert!(message(r#"{"content": "x"}"#).unwrap_err().contains("role"));
        assert!(message(r#"{"role": "user", "content": 5}"#).is_err());
    }
}
