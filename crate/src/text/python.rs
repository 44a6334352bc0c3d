//! Values as Python's `str` and `repr` spell them, which is what templates write where they write no JSON.

use std::fmt::Write;

use minijinja::Value;
use minijinja::value::ValueKind;

/// How deep lists and maps may nest; a template that nests them deeper was stopped before.
const DEPTH: usize = 64;

/// `str(value)` of a list, a map or a float; `None` for all else, which minijinja writes as Python does.
pub(super) fn str(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let mut out = String::new();
            repr(value, DEPTH, &mut out);
            Some(out)
        }
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).ok().map(float),
        _ => None,
    }
}

/// The value, as text where Python would have another than minijinja.
pub(super) fn stringified(value: Value) -> Value {
    str(&value).map_or(value, Value::from)
}

/// A finite float: the shortest digits, with an exponent where Python has one.
pub(super) fn float(x: f64) -> String {
    let scientific = format!("{x:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return x.to_string() };
    match exponent.parse::<i32>() {
        Ok(e) if !(-4..16).contains(&e) => format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs()),
        _ => format!("{x:?}"),
    }
}

fn repr(value: &Value, depth: usize, out: &mut String) {
    let elements = || value.try_iter().into_iter().flatten().take(if depth == 0 { 0 } else { usize::MAX });
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, key) in elements().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(&key, depth - 1, out);
                out.push_str(": ");
                repr(&value.get_item(&key).unwrap_or_default(), depth - 1, out);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, element) in elements().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(&element, depth - 1, out);
            }
            out.push(']');
        }
        ValueKind::Undefined => out.push_str("Undefined"),
        _ => out.push_str(&str(value).unwrap_or_else(|| value.to_string())),
    }
}

/// A string as `repr` has it.
fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if printable(c) => out.push(c),
            // Writing to a string does not fail.
            c if (c as u32) < 0x100 => drop(write!(out, "\\x{:02x}", c as u32)),
            c if (c as u32) < 0x10000 => drop(write!(out, "\\u{:04x}", c as u32)),
            c => drop(write!(out, "\\U{:08x}", c as u32)),
        }
    }
    out.push(quote);
}

/// Python's `isprintable` but for code points that no Unicode version has assigned.
fn printable(c: char) -> bool {
    let format = matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
        | '\u{e0001}'..='\u{e007f}' | '\u{f0000}'..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_pythons() {
        for (x, expected) in [
            (0.8, "0.8"),
            (2.0, "2.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (-1e100, "-1e+100"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(float(x), expected);
        }
    }

    #[test]
    fn containers_are_pythons() {
        let value: Value = serde_json::from_str(
            r#"{"b": [1, 2.5, true, null, "it's"], "a": {"x": "\n\"'\\é\u0007\u200b\u00a0😀"}, "": []}"#,
        )
        .unwrap();
        let expected = r#"{'b': [1, 2.5, True, None, "it's"], 'a': {'x': '\n"\'\\é\x07\u200b\xa0😀'}, '': []}"#;
        assert_eq!(str(&value).as_deref(), Some(expected));
        assert_eq!(str(&Value::from("x")), None);
    }
}
