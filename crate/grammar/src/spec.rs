//! A request's `structured_outputs` as a grammar of `llguidance`.

use llguidance::api::TopLevelGrammar;
use llguidance::regex_to_lark;
use serde_json::{Map, Value, json};

use crate::structural_tag;

/// Bytes of a specification, which may hold a schema.
const MOST_BYTES: usize = 1 << 20;
/// Brackets inside each other in a regular expression or a Lark grammar: compilers go into each by a call.
const MOST_DEEP: usize = 64;
/// Counted repetitions inside each other, multiplied: what `((a{100}){100}){100}` stands for takes seconds to find out.
const MOST_REPEATED: u64 = 10_000;
/// Choices of `choice`.
const MOST_CHOICES: usize = 10_000;

pub(crate) fn grammar(spec: &str, specials: &[String]) -> Result<TopLevelGrammar, String> {
    if spec.len() > MOST_BYTES {
        return Err(format!("it has {} bytes of JSON, but may have at most {MOST_BYTES}", spec.len()));
    }
    let spec: Value = serde_json::from_str(spec).map_err(|e| format!("it is too deep, or no JSON: {e}"))?;
    let Value::Object(spec) = spec else { return Err("it must be an object".into()) };
    let text = |key: &str| spec.get(key).and_then(Value::as_str);
    if let Some(schema) = spec.get("json") {
        return Ok(TopLevelGrammar::from_json_schema(schema_with(schema.clone(), &spec)?));
    }
    if spec.get("json_object") == Some(&Value::Bool(true)) {
        return Ok(TopLevelGrammar::from_json_schema(schema_with(json!({ "type": "object" }), &spec)?));
    }
    if let Some(regex) = text("regex") {
        return regex_grammar(regex);
    }
    if let Some(choices) = spec.get("choice").and_then(Value::as_array) {
        return choice_grammar(choices);
    }
    if let Some(lark) = text("grammar") {
        return lark_grammar(lark);
    }
    match spec.get("structural_tag") {
        Some(tag) => Ok(TopLevelGrammar::from_lark(structural_tag::lark(tag, specials)?)),
        None => Err("it has none of json, regex, choice, grammar, json_object and structural_tag".into()),
    }
}

/// The schema, and what `llguidance` is to make of white space.
fn schema_with(schema: Value, spec: &Map<String, Value>) -> Result<Value, String> {
    let mut options = Map::new();
    if spec.get("disable_any_whitespace") == Some(&Value::Bool(true)) {
        options.insert("whitespace_flexible".into(), false.into());
    }
    if let Some(pattern) = spec.get("whitespace_pattern").filter(|pattern| !pattern.is_null()) {
        pattern.as_str().map_or(Ok(()), check_regex)?;
        options.insert("whitespace_pattern".into(), pattern.clone());
    }
    check_patterns(&schema)?;
    if options.is_empty() {
        return Ok(schema);
    }
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => Map::new(),
        other => return Ok(other),
    };
    let own = schema.entry("x-guidance").or_insert_with(|| json!({}));
    match own {
        Value::Object(own) => own.extend(options),
        _ => return Err("x-guidance of the schema must be an object".into()),
    }
    Ok(Value::Object(schema))
}

/// Refuses regular expressions that are too deep, wherever the schema has some.
pub(crate) fn check_patterns(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Array(all) => all.iter().try_for_each(check_patterns),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            match (key.as_str(), value) {
                ("pattern", Value::String(pattern)) => check_regex(pattern)?,
                ("patternProperties", Value::Object(patterns)) => {
                    patterns.keys().try_for_each(|pattern| check_regex(pattern))?;
                }
                _ => {}
            }
            check_patterns(value)
        }),
        _ => Ok(()),
    }
}

/// A regular expression that the whole output matches, so that anchors at its ends say nothing.
fn regex_grammar(regex: &str) -> Result<TopLevelGrammar, String> {
    check_regex(regex)?;
    let inner = regex.strip_prefix('^').unwrap_or(regex);
    let escaped = inner.strip_suffix('$').is_some_and(|rest| {
        let backslashes = rest.len() - rest.trim_end_matches('\\').len();
        backslashes % 2 == 1
    });
    let inner = if escaped { inner } else { inner.strip_suffix('$').unwrap_or(inner) };
    if inner.is_empty() {
        return Err("the regular expression matches the empty text alone; leave structured_outputs out".into());
    }
    // As in JSON schemas and JavaScript, `\d` is a digit of ASCII.
    Ok(TopLevelGrammar::from_lark(format!("start: /{}/", regex_to_lark(inner, "dws"))))
}

fn choice_grammar(choices: &[Value]) -> Result<TopLevelGrammar, String> {
    if choices.len() > MOST_CHOICES {
        return Err(format!("choice has {} texts, but may have at most {MOST_CHOICES}", choices.len()));
    }
    let texts: Vec<String> = choices.iter().filter_map(|text| text.as_str().map(structural_tag::quoted)).collect();
    Ok(TopLevelGrammar::from_lark(format!("start: {}", texts.join(" | "))))
}

fn lark_grammar(lark: &str) -> Result<TopLevelGrammar, String> {
    if lark.contains("::=") {
        return Err("grammar is in EBNF (\"::=\"); write it in Lark: start: \"yes\" | \"no\"".into());
    }
    check_depth(lark)?;
    regexes(lark).try_for_each(check_regex)?;
    Ok(TopLevelGrammar::from_lark(lark.to_owned()))
}

/// The regular expressions of a Lark grammar, between slashes.
fn regexes(lark: &str) -> impl Iterator<Item = &str> {
    let mut rest = lark;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(['"', '/'])?;
            let (open, after) = (rest.as_bytes()[at], &rest[at + 1..]);
            if open == b'/' && after.starts_with('/') {
                rest = &after[after.find('\n')?..];
                continue;
            }
            let end = closing(after, open)?;
            rest = &after[end + 1..];
            if open == b'/' {
                return Some(&after[..end]);
            }
        }
    })
}

/// Where the first such byte is that no backslash stands before.
fn closing(text: &str, byte: u8) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let found = b == byte && !escaped;
        escaped = b == b'\\' && !escaped;
        found
    })
}

fn check_regex(regex: &str) -> Result<(), String> {
    check_depth(regex)?;
    let most = repeated(regex);
    if most > MOST_REPEATED {
        return Err(format!(
            "it repeats something {most} times, by counts inside each other, but may at most {MOST_REPEATED} times"
        ));
    }
    Ok(())
}

/// How often a regular expression repeats what it repeats most, by its counts.
fn repeated(regex: &str) -> u64 {
    let bytes = regex.as_bytes();
    // The most in each open group, and of what has just ended.
    let (mut groups, mut last, mut at) = (vec![1u64], 1u64, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        match byte {
            b'(' => {
                groups.push(1);
                last = 1;
            }
            b')' if groups.len() > 1 => last = groups.pop().unwrap_or(1),
            b'{' => {
                let end = closing(&regex[at..], b'}').unwrap_or(bytes.len() - at);
                let counts = regex[at..at + end].split(',').filter_map(|count| count.trim().parse().ok());
                last = last.saturating_mul(counts.max().unwrap_or(1).max(1));
                at += end;
            }
            b'[' => {
                last = 1;
                at += closing(&regex[at..], b']').unwrap_or(0);
            }
            b'\\' => {
                last = 1;
                at += regex[at..].chars().next().map_or(0, char::len_utf8);
            }
            b'*' | b'+' | b'?' | b'}' => {}
            _ => last = 1,
        }
        if let Some(group) = groups.last_mut() {
            *group = (*group).max(last);
        }
    }
    groups.into_iter().max().unwrap_or(1)
}

/// Refuses brackets deeper than compilers can go. It counts those of texts too, so that it need not know where they are.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut depth, mut deepest, mut escaped) = (0usize, 0, false);
    for byte in text.bytes() {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'(' | b'[' | b'{' if !escaped => depth += 1,
            b')' | b']' | b'}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = false;
        deepest = deepest.max(depth);
    }
    if deepest > MOST_DEEP {
        return Err(format!("it has brackets inside each other {deepest} deep, but may have at most {MOST_DEEP}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_inside_each_other_are_counted() {
        for (regex, most) in [
            ("abc", 1),
            ("a{3}", 3),
            ("(a{3}b{5}){2,4}c{7}", 20),
            ("((a{1000}){1000}){1000}", 1_000_000_000),
            ("[(]{4}", 4),
            (r"\({9}", 9),
            ("([)]a{10}){10}", 100),
            ("(a{2})*{3}", 6),
            ("a{2,}é{5}", 5),
            ("{", 1),
            ("a{99999999999999999999}", 1),
        ] {
            assert_eq!(repeated(regex), most, "{regex}");
        }
    }

    #[test]
    fn regexes_are_found_in_lark() {
        let lark = "start: \"/\" A // /no/ \nA: /a\\/b/ | \"\\\"/\"\nB: /[0-9]{3}/";
        assert_eq!(regexes(lark).collect::<Vec<_>>(), [r"a\/b", "[0-9]{3}"]);
        assert_eq!(regexes("a: \"b").count() + regexes("a: /b").count(), 0);
    }
}
