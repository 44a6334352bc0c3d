//! JSON as Python's `json.dumps(value, ensure_ascii=False)` spells it, which is what chat templates were trained with.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{Result, Write};

use super::python;

/// How JSON is spaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spacing<'a> {
    /// Between two items.
    pub item: &'a str,
    /// Between a key and its value.
    pub key: &'a str,
    /// Spaces of indentation, with a line for each item.
    pub indent: Option<usize>,
}

impl Spacing<'_> {
    /// Python's, with this indentation.
    pub fn new(indent: Option<usize>) -> Self {
        Self { item: if indent.is_some() { "," } else { ", " }, key: ": ", indent: indent.map(|n| n.min(16)) }
    }
}

struct Spaced<'a> {
    spacing: Spacing<'a>,
    depth: usize,
    /// Whether the list or object that ends has an item.
    filled: bool,
}

impl Spaced<'_> {
    fn line<W: ?Sized + Write>(&self, out: &mut W) -> Result<()> {
        let Some(indent) = self.spacing.indent else { return Ok(()) };
        write!(out, "\n{:1$}", "", indent * self.depth)
    }

    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> Result<()> {
        out.write_all(if first { b"" } else { self.spacing.item.as_bytes() })?;
        self.line(out)
    }
}

impl Formatter for Spaced<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> Result<()> {
        out.write_all(python::float(value).as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> Result<()> {
        self.item(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> Result<()> {
        self.item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> Result<()> {
        out.write_all(self.spacing.key.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> Result<()> {
        self.filled = true;
        Ok(())
    }
}

/// The value as JSON.
pub(super) fn dumps(value: &impl Serialize, spacing: Spacing) -> serde_json::Result<String> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Spaced { spacing, depth: 0, filled: false }))?;
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
        let value = json!({"a": [1, "é<\n", null], "b": {}, "c": [1e22]});
        let plain = Spacing::new(None);
        assert_eq!(dumps(&value, plain).unwrap(), r#"{"a": [1, "é<\n", null], "b": {}, "c": [1e+22]}"#);
        assert_eq!(dumps(&json!({"a": [1, 2]}), Spacing { item: ",", key: ":", ..plain }).unwrap(), r#"{"a":[1,2]}"#);
        let lines = "{\n  \"a\": [\n    1,\n    {},\n    []\n  ]\n}";
        assert_eq!(dumps(&json!({"a": [1, {}, []]}), Spacing::new(Some(2))).unwrap(), lines);
    }
}
