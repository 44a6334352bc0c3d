//! The header of a safetensors file: eight bytes of length, then JSON with each tensor's type, shape and place
//! (<https://huggingface.co/docs/safetensors>). The tensors' bytes follow at once.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::gguf::TensorInfo;
use super::quant::QuantType;
use crate::error::{Error, ErrorCode, Result};

/// Longest header. safetensors itself allows 100 MB; real ones have some hundred kilobytes.
const MAX_HEADER: u64 = 64 << 20;
/// Most bytes of a file: what JavaScript counts exactly.
const MAX_BYTES: u64 = 1 << 53;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors, ordered by their place in the file; none overlap.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' bytes start in the file.
    pub data_offset: u64,
}

/// Parses a header from pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    length: Vec<u8>,
    json: Vec<u8>,
    header: Option<Header>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidFile, message)
}

impl Parser {
    /// Takes what belongs to the header from the next bytes; how many that were. Once the header is complete it takes none.
    ///
    /// # Errors
    /// `invalid_file` for what is no header, `unsupported_quantization` for a type that no kernel has.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.header.is_some() {
            return Ok(0);
        }
        let (length, rest) = bytes.split_at(bytes.len().min(8 - self.length.len()));
        self.length.extend_from_slice(length);
        let Ok(size) = <[u8; 8]>::try_from(self.length.as_slice()).map(u64::from_le_bytes) else {
            return Ok(length.len());
        };
        if !(2..=MAX_HEADER).contains(&size) {
            return Err(invalid(format!(
                "the file is no safetensors: its header would have {size} bytes, and {MAX_HEADER} are the most"
            )));
        }
        let wanted = size as usize - self.json.len();
        let json = &rest[..rest.len().min(wanted)];
        self.json.extend_from_slice(json);
        if json.len() == wanted {
            self.header = Some(Header { tensors: tensors(&std::mem::take(&mut self.json))?, data_offset: 8 + size });
        }
        Ok(length.len() + json.len())
    }

    /// The header, once it is complete.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }
}

fn tensors(json: &[u8]) -> Result<Vec<TensorInfo>> {
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json)
        .map_err(|e| invalid(format!("the file is no safetensors: its header is no JSON object ({e})")))?;
    entries.remove("__metadata__");
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let shown = crate::error::excerpt(&name).to_string();
        let entry: Entry = serde_json::from_value(value)
            .map_err(|e| invalid(format!("tensor '{shown}' is not described right: {e}")))?;
        let ty = match entry.dtype.as_str() {
            "F32" => QuantType::F32,
            "F16" => QuantType::F16,
            "BF16" => QuantType::BF16,
            other => {
                let message = format!(
                    "tensor '{shown}' has the type {}; supported are F32, F16 and BF16",
                    crate::error::excerpt(other)
                );
                return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
            }
        };
        let elements = entry.shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).filter(|n| *n > 0);
        let [offset, end] = entry.data_offsets;
        let size =
            elements.map(|n| ty.bytes_for(n)).filter(|size| end <= MAX_BYTES && offset.checked_add(*size) == Some(end));
        let Some(size) = size else {
            return Err(invalid(format!(
                "tensor '{shown}' has shape {:?} and lies at {offset} to {end}; its {} values do not fit that",
                entry.shape, entry.dtype
            )));
        };
        // Innermost first.
        let shape = entry.shape.into_iter().rev().collect();
        tensors.push(TensorInfo { name, shape, ty, offset, size });
    }
    tensors.sort_by_key(|tensor| tensor.offset);
    if let Some(pair) = tensors.windows(2).find(|pair| pair[1].offset < pair[0].offset + pair[0].size) {
        let [a, b] = [&pair[0], &pair[1]].map(|tensor| crate::error::excerpt(&tensor.name).to_string());
        return Err(invalid(format!("tensors '{a}' and '{b}' overlap in the file")));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), b"data"].concat()
    }

    fn parse(file: &[u8], piece: usize) -> Result<(Header, usize)> {
        let mut parser = Parser::default();
        let mut used = 0;
        for bytes in file.chunks(piece) {
            used += parser.push(bytes)?;
        }
        Ok((parser.header().cloned().expect("a whole header"), used))
    }

    #[test]
    fn tensors_come_in_the_order_of_their_bytes_with_the_innermost_dimension_first() {
        let json = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"__metadata__":{"format":"pt"},
            "z":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}"#;
        let file = file(json);
        for piece in [1, 7, file.len()] {
            let (header, used) = parse(&file, piece).unwrap();
            assert_eq!((used, header.data_offset), (8 + json.len(), 8 + json.len() as u64));
            let info = |name: &str, shape: &[u64], ty, offset, size| TensorInfo {
                name: name.into(),
                shape: shape.to_vec(),
                ty,
                offset,
                size,
            };
            assert_eq!(
                header.tensors,
                [info("z", &[4], QuantType::BF16, 0, 8), info("a", &[3, 2], QuantType::F32, 8, 24)]
            );
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let entry = |text: &str| format!(r#"{{"a":{text}}}"#);
        for (json, expected) in [
            ("[]", "no JSON object"),
            (&entry(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#), "do not fit"),
            (&entry(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), "do not fit"),
            (&entry(r#"{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#), "do not fit"),
            (&entry(r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#), "do not fit"),
            (&entry(r#"{"dtype":"I64","shape":[1],"data_offsets":[0,8]}"#), "I64"),
            (&entry(r#"{"dtype":"F32"}"#), "missing field"),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                "overlap",
            ),
        ] {
            let error = parse(&file(json), 5).unwrap_err();
            assert!(error.message.contains(expected), "{json}: {error}");
        }
        assert!(parse(&u64::MAX.to_le_bytes(), 8).unwrap_err().message.contains("no safetensors"));
    }
}
