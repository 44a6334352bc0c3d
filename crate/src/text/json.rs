//! JSON as Python's `json.dumps(value, ensure_ascii=False)` spells it, which is what chat templates were trained with.

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{Result, Write};

/// `", "` between items and `": "` after keys, on one line.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        out.write_all(b": ")
    }
}

/// The value as JSON, on one line or with this many spaces of indentation.
pub(super) fn dumps(value: &impl Serialize, indent: Option<usize>) -> serde_json::Result<String> {
    let mut out = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced))?,
        Some(n) => {
            let spaces = " ".repeat(n.min(16));
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
        }
    }
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// The same JSON text with U+FFFD for lone surrogates, as JavaScript's own `TextEncoder` has it. `JSON.stringify` escapes
/// those, and no other surrogates.
pub fn well_formed(json: String) -> String {
    let mut bytes = json.into_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'\\', b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _, _, ..] => {
                bytes[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            [b'\\', ..] => at += 2,
            _ => at += 1,
        }
    }
    // ASCII was put in place of ASCII.
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lone_surrogates_are_replaced() {
        for (json, expected) in [
            (r#""a\ud800b\udfff""#, "a\u{fffd}b\u{fffd}"),
            (r#""\\ud800 \ue000 \u00e9 é\n""#, "\\ud800 \u{e000} é é\n"),
            (r#""\\\ud9ab""#, "\\\u{fffd}"),
        ] {
            assert_eq!(serde_json::from_str::<String>(&well_formed(json.into())).unwrap(), expected);
        }
    }

    #[test]
    fn spells_json_as_python_does() {
        let value = json!({"a": [1, "é<\n", null], "b": {}, "c": []});
        assert_eq!(dumps(&value, None).unwrap(), r#"{"a": [1, "é<\n", null], "b": {}, "c": []}"#);
        assert_eq!(dumps(&json!({"a": [1]}), Some(2)).unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
