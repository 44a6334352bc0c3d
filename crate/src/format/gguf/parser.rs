//! The header's state machine: one state per field of known length.

use std::collections::btree_map::Entry;
use std::mem;

use super::input::Input;
use super::{Array, Header, Metadata, TensorInfo, Value, invalid, tensors};
use crate::error::{Error, ErrorCode, Result, excerpt};

/// Longest string. The longest real ones, chat templates, have some ten thousand bytes.
const MAX_STRING: u64 = 64 << 20;
/// Longest header; a vocabulary of 256 k tokens with merges takes about 16 MiB.
const MAX_HEADER: u64 = 256 << 20;
/// Most key-values, and most tensors.
const MAX_COUNT: u64 = 1 << 20;
/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;
/// Largest alignment.
const MAX_ALIGNMENT: u32 = 1 << 20;
const DEFAULT_ALIGNMENT: u32 = 32;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The field that comes next.
enum State {
    Magic,
    Version,
    Counts,
    /// Between key-values: a key, or the first tensor if there are no more.
    Entry,
    Key(usize),
    Type,
    /// A value, or an array's next element, of this GGUF type.
    Value(u32),
    Text(usize),
    Elements,
    /// Between tensors: a name, or the padding if there are no more.
    Tensor,
    Name(usize),
    Rank,
    Place(usize),
    Padding(u64),
    Done,
}

/// An array whose elements are arriving.
struct Open {
    array: Array,
    element: u32,
    left: u64,
}

/// Parses a header from chunks of any size. After an error it must not be used again.
pub struct Parser {
    state: State,
    pub(super) pending: Vec<u8>,
    /// Bytes consumed.
    position: u64,
    entries_left: u64,
    tensors_left: u64,
    /// The key whose value, or the name of the tensor whose place, arrives.
    name: String,
    /// The arrays being read, the innermost last.
    open: Vec<Open>,
    header: Header,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser at the start of a file.
    pub fn new() -> Self {
        let header = Header {
            version: 0,
            metadata: Metadata::default(),
            metadata_bytes: 0,
            tensors: Vec::new(),
            data_offset: 0,
        };
        Self {
            state: State::Magic,
            pending: Vec::new(),
            position: 0,
            entries_left: 0,
            tensors_left: 0,
            name: String::new(),
            open: Vec::new(),
            header,
        }
    }

    /// Takes the next bytes of the file; how many of them belong to the header and its padding. Fewer than all means
    /// that the header is complete, and the rest is tensor data.
    ///
    /// [`ErrorCode::InvalidFile`] if the bytes are no GGUF header, [`ErrorCode::UnsupportedQuantization`] if a tensor
    /// has a type the engine cannot compute with.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize> {
        let start = self.position;
        let mut pending = mem::take(&mut self.pending);
        let mut input = Input { pending: &mut pending, bytes, used: 0 };
        while !matches!(self.state, State::Done) {
            let stepped = self.step(&mut input)?;
            self.position = start + input.used as u64;
            if self.position > MAX_HEADER && !matches!(self.state, State::Padding(_) | State::Done) {
                return Err(invalid(format!("the GGUF header does not end within {MAX_HEADER} bytes")));
            }
            if stepped.is_none() {
                break;
            }
        }
        let used = input.used;
        self.pending = pending;
        Ok(used)
    }

    /// The header, once it is complete.
    pub fn header(&self) -> Option<&Header> {
        matches!(self.state, State::Done).then_some(&self.header)
    }

    /// The header; [`ErrorCode::TruncatedFile`] if it is not complete.
    pub fn into_header(self) -> Result<Header> {
        if matches!(self.state, State::Done) {
            return Ok(self.header);
        }
        Err(Error::new(
            ErrorCode::TruncatedFile,
            format!(
                "the file ends after {} bytes, inside its GGUF header ({}); download the file again",
                self.position,
                self.place()
            ),
        ))
    }

    /// Where in the header the parser is, for messages.
    fn place(&self) -> String {
        match self.state {
            State::Magic | State::Version | State::Counts => "at its start".into(),
            State::Entry | State::Key(_) => format!("with {} key-values to come", self.entries_left),
            State::Type | State::Value(_) | State::Text(_) | State::Elements => format!("in '{}'", excerpt(&self.name)),
            State::Tensor | State::Name(_) => format!("with {} tensors to come", self.tensors_left),
            State::Rank | State::Place(_) => format!("in tensor '{}'", excerpt(&self.name)),
            State::Padding(_) | State::Done => "in the padding after it".into(),
        }
    }

    /// Reads one field. `None` if its bytes are not all here.
    fn step(&mut self, input: &mut Input<'_, '_>) -> Result<Option<()>> {
        // Reads a field, or leaves with `None`.
        macro_rules! read {
            ($field:expr) => {
                match $field {
                    Some(value) => value,
                    None => return Ok(None),
                }
            };
        }
        match self.state {
            State::Magic => {
                let magic: [u8; 4] = read!(input.array());
                if &magic != b"GGUF" {
                    let start = magic.escape_ascii();
                    return Err(invalid(format!("not a GGUF file: it starts with '{start}'; expected 'GGUF'")));
                }
                self.state = State::Version;
            }
            State::Version => {
                self.header.version = checked_version(read!(input.u32()))?;
                self.state = State::Counts;
            }
            State::Counts => {
                let counts = |bytes: &[u8]| (number(&bytes[..8]), number(&bytes[8..]));
                (self.tensors_left, self.entries_left) = read!(input.take(16, counts));
                if self.tensors_left.max(self.entries_left) > MAX_COUNT {
                    return Err(invalid(format!(
                        "the GGUF header claims {} tensors and {} key-values; expected at most {MAX_COUNT} of each",
                        self.tensors_left, self.entries_left
                    )));
                }
                self.state = State::Entry;
            }
            State::Entry if self.entries_left == 0 => self.state = State::Tensor,
            State::Entry => {
                let len = read!(input.u64());
                self.state = State::Key(self.length(len, "a key")?);
            }
            State::Key(len) => {
                let text = read!(input.take(len, text));
                self.name = self.utf8(text, "a key")?;
                self.state = State::Type;
            }
            State::Type => self.state = State::Value(read!(input.u32())),
            State::Value(STRING) => {
                let len = read!(input.u64());
                self.state = State::Text(self.length(len, "a string")?);
            }
            State::Text(len) => {
                let text = read!(input.take(len, text));
                let text = self.utf8(text, "a string")?;
                self.value(Value::String(text))?;
            }
            State::Value(ARRAY) => {
                let head = |bytes: &[u8]| (number(&bytes[..4]) as u32, number(&bytes[4..]));
                let (element, left) = read!(input.take(12, head));
                self.open(element, left)?;
            }
            State::Value(kind) => {
                let Some(len) = scalar_len(kind) else { return Err(self.unknown_type(kind)) };
                let value = read!(input.take(len, |bytes| scalar(kind, bytes)));
                match value {
                    Some(value) => self.value(value)?,
                    None => return Err(self.bad_bool()),
                }
            }
            State::Elements => self.elements()?,
            State::Tensor if self.tensors_left == 0 => self.end()?,
            State::Tensor => {
                let len = read!(input.u64());
                self.state = State::Name(self.length(len, "a tensor's name")?);
            }
            State::Name(len) => {
                let text = read!(input.take(len, text));
                self.name = self.utf8(text, "a tensor's name")?;
                self.state = State::Rank;
            }
            State::Rank => {
                let rank = read!(input.u32());
                if !(1..=4).contains(&rank) {
                    let name = excerpt(&self.name);
                    return Err(invalid(format!("tensor '{name}' has {rank} dimensions; expected 1 to 4")));
                }
                self.state = State::Place(rank as usize);
            }
            State::Place(rank) => {
                let name = &mut self.name;
                let tensor = read!(input.take(rank * 8 + 12, |bytes| place(mem::take(name), rank, bytes)));
                self.header.tensors.push(tensor?);
                self.tensors_left -= 1;
                self.state = State::Tensor;
            }
            State::Padding(left) => {
                let left = left - input.skip(left);
                if left > 0 {
                    self.state = State::Padding(left);
                    return Ok(None);
                }
                self.state = State::Done;
            }
            State::Done => return Ok(None),
        }
        Ok(Some(()))
    }

    /// A length field, if it is one a string may have.
    fn length(&self, len: u64, what: &str) -> Result<usize> {
        if len <= MAX_STRING {
            return Ok(len as usize);
        }
        Err(invalid(format!(
            "{what} in the GGUF header claims {len} bytes ({}); expected at most {MAX_STRING}",
            self.place()
        )))
    }

    fn utf8(&self, text: Option<String>, what: &str) -> Result<String> {
        text.ok_or_else(|| invalid(format!("{what} in the GGUF header is not UTF-8 ({})", self.place())))
    }

    fn unknown_type(&self, kind: u32) -> Error {
        invalid(format!("metadata '{}' has the value type {kind}; expected 0 to 12", excerpt(&self.name)))
    }

    fn bad_bool(&self) -> Error {
        invalid(format!("metadata '{}' holds a bool that is neither 0 nor 1", excerpt(&self.name)))
    }

    /// Starts an array.
    fn open(&mut self, element: u32, left: u64) -> Result<()> {
        if self.open.len() == MAX_DEPTH {
            return Err(invalid(format!(
                "metadata '{}' nests arrays more than {MAX_DEPTH} deep; expected fewer",
                excerpt(&self.name)
            )));
        }
        let Some(array) = empty_array(element) else { return Err(self.unknown_type(element)) };
        self.open.push(Open { array, element, left });
        self.state = State::Elements;
        Ok(())
    }

    /// Goes on to the innermost array's next element, or closes the array.
    fn elements(&mut self) -> Result<()> {
        if let Some(Open { element, left: 1.., .. }) = self.open.last() {
            self.state = State::Value(*element);
            return Ok(());
        }
        match self.open.pop() {
            Some(done) => self.value(Value::Array(done.array)),
            None => Ok(()),
        }
    }

    /// Puts a complete value where it belongs: into the innermost open array, or under its key.
    fn value(&mut self, value: Value) -> Result<()> {
        if let Some(open) = self.open.last_mut() {
            append(&mut open.array, value);
            open.left -= 1;
            self.state = State::Elements;
            return Ok(());
        }
        match self.header.metadata.0.entry(mem::take(&mut self.name)) {
            Entry::Vacant(entry) => entry.insert(value),
            Entry::Occupied(entry) => {
                let key = excerpt(entry.key());
                return Err(invalid(format!("metadata '{key}' is in the file twice; keys must be unique")));
            }
        };
        self.entries_left -= 1;
        self.state = State::Entry;
        Ok(())
    }

    /// All fields are read: checks the tensors together and goes on to the padding.
    fn end(&mut self) -> Result<()> {
        let header = &mut self.header;
        let alignment = header.metadata.opt_u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(invalid(format!(
                "metadata 'general.alignment' is {alignment}; expected a power of two up to {MAX_ALIGNMENT}"
            )));
        }
        tensors::arrange(&mut header.tensors, alignment.into())?;
        header.metadata_bytes = self.position;
        // A file without tensors may end without padding.
        header.data_offset = match header.tensors.is_empty() {
            true => self.position,
            false => self.position.next_multiple_of(alignment.into()),
        };
        self.state = State::Padding(header.data_offset - self.position);
        Ok(())
    }
}

fn checked_version(version: u32) -> Result<u32> {
    match version {
        2 | 3 => Ok(version),
        1 => Err(invalid("the file is GGUF version 1; expected 2 or 3, so convert the model again")),
        _ if (1..=3).contains(&version.swap_bytes()) => {
            Err(invalid("the GGUF file is big-endian; expected a little-endian one, so convert the model again"))
        }
        _ => Err(invalid(format!("the file is GGUF version {version}; expected 2 or 3"))),
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Bytes of a value of a scalar GGUF type.
fn scalar_len(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// A scalar of as many bytes as its type has; `None` for a bool that is neither 0 nor 1.
fn scalar(kind: u32, bytes: &[u8]) -> Option<Value> {
    let bits = number(bytes);
    Some(match kind {
        0 => Value::U8(bits as u8),
        1 => Value::I8(bits as i8),
        2 => Value::U16(bits as u16),
        3 => Value::I16(bits as i16),
        4 => Value::U32(bits as u32),
        5 => Value::I32(bits as i32),
        6 => Value::F32(f32::from_bits(bits as u32)),
        7 if bits < 2 => Value::Bool(bits == 1),
        10 => Value::U64(bits),
        11 => Value::I64(bits as i64),
        12 => Value::F64(f64::from_bits(bits)),
        _ => return None,
    })
}

/// An array for elements of this GGUF type.
fn empty_array(element: u32) -> Option<Array> {
    Some(match element {
        0 => Array::U8(Vec::new()),
        1 => Array::I8(Vec::new()),
        2 => Array::U16(Vec::new()),
        3 => Array::I16(Vec::new()),
        4 => Array::U32(Vec::new()),
        5 => Array::I32(Vec::new()),
        6 => Array::F32(Vec::new()),
        7 => Array::Bool(Vec::new()),
        STRING => Array::Strings(Vec::new()),
        ARRAY => Array::Arrays(Vec::new()),
        10 => Array::U64(Vec::new()),
        11 => Array::I64(Vec::new()),
        12 => Array::F64(Vec::new()),
        _ => return None,
    })
}

/// Adds an element. The array was made for its type.
fn append(array: &mut Array, value: Value) {
    match (array, value) {
        (Array::U8(array), Value::U8(v)) => array.push(v),
        (Array::I8(array), Value::I8(v)) => array.push(v),
        (Array::U16(array), Value::U16(v)) => array.push(v),
        (Array::I16(array), Value::I16(v)) => array.push(v),
        (Array::U32(array), Value::U32(v)) => array.push(v),
        (Array::I32(array), Value::I32(v)) => array.push(v),
        (Array::F32(array), Value::F32(v)) => array.push(v),
        (Array::Bool(array), Value::Bool(v)) => array.push(v),
        (Array::U64(array), Value::U64(v)) => array.push(v),
        (Array::I64(array), Value::I64(v)) => array.push(v),
        (Array::F64(array), Value::F64(v)) => array.push(v),
        (Array::Strings(array), Value::String(v)) => array.push(v),
        (Array::Arrays(array), Value::Array(v)) => array.push(v),
        (array, value) => debug_assert!(false, "{value:?} in {array:?}"),
    }
}

/// A tensor's dimensions, type and offset.
fn place(name: String, rank: usize, bytes: &[u8]) -> Result<TensorInfo> {
    let (dims, rest) = bytes.split_at(rank * 8);
    let (kind, offset) = rest.split_at(4);
    let shape = dims.chunks_exact(8).map(number).collect();
    tensors::tensor(name, shape, number(kind) as u32, number(offset))
}

/// A little-endian integer of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
