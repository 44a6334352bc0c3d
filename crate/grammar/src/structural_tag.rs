//! Structural tags: free text in which a trigger begins a part with a grammar of its own, such as a tool's arguments.

use serde_json::Value;

use crate::spec::check_patterns;

/// Tags of one request.
const MOST_TAGS: usize = 1_000;
/// Bytes of what begins or ends one.
const MOST_BYTES: usize = 1_000;

/// vLLM's `{ "type": "structural_tag", "structures": [{ "begin", "schema", "end" }], "triggers": [...] }` as a Lark grammar.
pub(crate) fn lark(tag: &Value, specials: &[String]) -> Result<String, String> {
    let parsed;
    let tag = match tag {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).map_err(|e| format!("structural_tag is no JSON: {e}"))?;
            &parsed
        }
        other => other,
    };
    if tag.get("format").is_some() {
        return Err("structural_tag has a format, which is not supported; give structures and triggers".into());
    }
    let list = |key: &str| tag.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
    let (Some(structures), Some(triggers)) = (list("structures"), list("triggers")) else {
        return Err(
            "structural_tag must have structures, each { begin, schema, end }, and triggers, a list of texts".into()
        );
    };
    if structures.len() > MOST_TAGS {
        return Err(format!("structural_tag has {} structures, but may have at most {MOST_TAGS}", structures.len()));
    }
    let triggers: Vec<&str> = triggers.iter().filter_map(Value::as_str).collect();
    let mut rules = String::new();
    let mut names = Vec::new();
    for (i, structure) in structures.iter().enumerate() {
        let text = |key: &str| {
            structure.get(key).and_then(Value::as_str).ok_or(format!("structures[{i}].{key} must be a text"))
        };
        let (begin, end) = (text("begin")?, text("end")?);
        if begin.len().max(end.len()) > MOST_BYTES {
            return Err(format!("structures[{i}] begins or ends with more than {MOST_BYTES} bytes"));
        }
        let Some(trigger) = triggers.iter().find(|trigger| !trigger.is_empty() && begin.starts_with(**trigger)) else {
            return Err(format!("structures[{i}].begin begins with none of the triggers"));
        };
        let schema = structure.get("schema").ok_or(format!("structures[{i}] has no schema"))?;
        check_patterns(schema)?;
        let rest = spelled(&begin[trigger.len()..], specials);
        let body = format!("{rest} %json {schema} {}", spelled(end, specials));
        if specials.iter().any(|special| special == trigger) {
            rules += &format!("tag_{i}: TEXT {trigger} {body}\n");
        } else {
            rules += &format!("tag_{i}_begin[lazy]: TEXT {}\ntag_{i}: tag_{i}_begin {body}\n", quoted(trigger));
        }
        names.push(format!("tag_{i}"));
    }
    let lark = format!("start: ({})* rest\nrest: TEXT\nTEXT: /(.|\\n)*/\n{rules}", names.join(" | "));
    Ok(lark)
}

/// A text as Lark has it, the special tokens in it by their names.
fn spelled(mut text: &str, specials: &[String]) -> String {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let found = specials.iter().filter_map(|special| Some((text.find(special.as_str())?, special)));
        // Of two that begin at the same place, the longer.
        let first = found.min_by_key(|(at, special)| (*at, usize::MAX - special.len()));
        let at = first.map_or(text.len(), |(at, _)| at);
        if at > 0 {
            parts.push(quoted(&text[..at]));
        }
        text = &text[at..];
        if let Some((_, special)) = first {
            parts.push(special.clone());
            text = &text[special.len()..];
        }
    }
    parts.join(" ")
}

/// A text in quotes, as JSON and Lark have it.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
