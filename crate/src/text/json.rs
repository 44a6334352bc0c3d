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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spells_json_as_python_does() {
        let value = json!({"a": [1, "é<\n", null], "b": {}, "c": []});
        assert_eq!(dumps(&value, None).unwrap(), r#"{"a": [1, "é<\n", null], "b": {}, "c": []}"#);
        assert_eq!(dumps(&json!({"a": [1]}), Some(2)).unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
