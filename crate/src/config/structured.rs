//! What an output must fit, from vLLM's `StructuredOutputsParams`.

use serde_json::{Map, Value};

use super::Keys;
use crate::error::{Error, ErrorCode, Result};

/// What an output must fit: one of `json`, `regex`, `choice`, `grammar`, `json_object` and `structural_tag`, checked as far as
/// can be without compiling it.
#[derive(Clone, Debug, PartialEq)]
pub struct StructuredOutputs(Map<String, Value>);

/// The kinds; exactly one is to be given.
const KINDS: [&str; 6] = ["json", "regex", "choice", "grammar", "json_object", "structural_tag"];

/// What says more about `json` and `json_object`.
const OPTIONS: [&str; 2] = ["disable_any_whitespace", "whitespace_pattern"];

impl StructuredOutputs {
    /// Reads and checks a JSON object. `json` and `structural_tag` may be JSON as text, as in vLLM.
    ///
    /// # Errors
    /// `invalid_params`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let known = [&KINDS[..], &OPTIONS].concat();
        let keys = Keys::new(value, ErrorCode::InvalidParams, "structured_outputs key", &known)?;
        let given = |key: &&&str| keys.map.and_then(|map| map.get(**key)).is_some_and(|value| !value.is_null());
        let kinds: Vec<&str> = KINDS.iter().filter(given).copied().collect();
        let &[kind] = kinds.as_slice() else {
            let what = if kinds.is_empty() { "none".into() } else { kinds.join(" and ") };
            let message = format!("structured_outputs has {what}, but must have exactly one of {}", KINDS.join(", "));
            return Err(Error::new(ErrorCode::InvalidParams, message));
        };
        let whole = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        let own = |right: &str, fits: &dyn Fn(&Value) -> bool| {
            keys.read(kind, Value::Null, right, |value| fits(value).then(|| value.clone()))
        };
        let object = |right: &str, fits: &dyn Fn(&Value) -> bool| {
            keys.read(kind, Value::Null, right, |value| {
                let parsed = match value {
                    Value::String(text) => serde_json::from_str(text).ok()?,
                    other => other.clone(),
                };
                fits(&parsed).then_some(parsed)
            })
        };
        let own = match kind {
            "regex" | "grammar" => own("a text that is not empty", &whole)?,
            "json" => {
                object("a JSON schema: an object, true or false, or one as text", &|v| v.is_object() || v.is_boolean())?
            }
            "structural_tag" => object("an object with structures and triggers, or one as text", &Value::is_object)?,
            "json_object" => own("true", &|v| *v == true)?,
            _ => own("a list of at least one text, none of them empty", &|v| {
                v.as_array().is_some_and(|texts| !texts.is_empty() && texts.iter().all(whole))
            })?,
        };
        let mut outputs = Map::new();
        outputs.insert(kind.to_owned(), own);
        let of_json = ["json", "json_object"].contains(&kind);
        let mut option = |key: &str, value: Option<Value>| match value {
            Some(value) if !of_json => Err(keys.wrong(key, &value, "left out: it is for json and json_object alone")),
            Some(value) => {
                outputs.insert(key.to_owned(), value);
                Ok(())
            }
            None => Ok(()),
        };
        let compact = keys.boolean("disable_any_whitespace", false)?;
        option("disable_any_whitespace", compact.then(|| true.into()))?;
        let pattern =
            keys.optional("whitespace_pattern", "a text that is not empty", |v| whole(v).then(|| v.clone()))?;
        option("whitespace_pattern", pattern)?;
        Ok(Self(outputs))
    }

    /// The same as JSON, keys in the caller's order.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(value: Value) -> String {
        let error = StructuredOutputs::from_json(&value).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidParams);
        error.message
    }

    #[test]
    fn one_kind_is_taken_as_it_is() {
        let schema = json!({ "type": "object", "properties": { "z": true, "a": { "type": "string" } } });
        for value in [
            json!({ "json": schema, "disable_any_whitespace": true }),
            json!({ "regex": "a+" }),
            json!({ "choice": ["yes", "no"] }),
            json!({ "grammar": "start: \"a\"" }),
            json!({ "json_object": true, "whitespace_pattern": " ?" }),
            json!({ "structural_tag": { "structures": [], "triggers": [] } }),
        ] {
            assert_eq!(StructuredOutputs::from_json(&value).unwrap().to_json(), value.to_string());
        }
        let text = StructuredOutputs::from_json(&json!({ "json": schema.to_string(), "regex": null })).unwrap();
        assert_eq!(text.to_json(), json!({ "json": schema }).to_string());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, words) in [
            (json!({}), "has none, but must have exactly one of json, regex"),
            (json!({ "json": {}, "regex": "a" }), "has json and regex, but must"),
            (json!({ "regexp": "a" }), "did you mean regex?"),
            (json!({ "regex": "" }), "regex is \"\", but must be a text that is not empty"),
            (json!({ "json": "{" }), "json is \"{\", but must be a JSON schema"),
            (json!({ "json": 3 }), "json is 3, but must be"),
            (json!({ "json_object": false }), "json_object is false, but must be true"),
            (json!({ "choice": [] }), "choice is [], but must be a list of at least one text"),
            (json!({ "choice": ["a", 1] }), "none of them empty"),
            (json!({ "regex": "a", "disable_any_whitespace": true }), "for json and json_object alone"),
            (json!([]), "must be an object"),
        ] {
            let message = refusal(value);
            assert!(message.contains(words), "{message}");
        }
    }
}
