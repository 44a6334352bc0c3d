//! The key-values of a GGUF header.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::invalid;
use crate::error::{Result, excerpt};

/// A value of any of GGUF's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    String(String),
    Array(Array),
}

/// An array, its elements stored without tags.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    Strings(Vec<String>),
    Arrays(Vec<Array>),
}

impl Value {
    /// The type, as messages name it.
    fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
            Self::String(_) => "string",
            Self::Array(array) => match array {
                Array::U8(_) => "array of u8",
                Array::I8(_) => "array of i8",
                Array::U16(_) => "array of u16",
                Array::I16(_) => "array of i16",
                Array::U32(_) => "array of u32",
                Array::I32(_) => "array of i32",
                Array::F32(_) => "array of f32",
                Array::Bool(_) => "array of bool",
                Array::U64(_) => "array of u64",
                Array::I64(_) => "array of i64",
                Array::F64(_) => "array of f64",
                Array::Strings(_) => "array of strings",
                Array::Arrays(_) => "array of arrays",
            },
        }
    }

    /// The number that it is, of whatever type.
    pub fn as_number(&self) -> Option<f64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::I8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::F32(v) => Some(v.into()),
            Self::U64(v) => Some(v as f64),
            Self::I64(v) => Some(v as f64),
            Self::F64(v) => Some(v),
            Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    fn as_u32(&self) -> Option<u32> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v),
            Self::U64(v) => v.try_into().ok(),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    fn as_f32(&self) -> Option<f32> {
        match *self {
            Self::F32(v) => Some(v),
            Self::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The bool that it is.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(v) = *self { Some(v) } else { None }
    }

    /// The string that it is.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(v) = self { Some(v) } else { None }
    }

    fn as_strings(&self) -> Option<&[String]> {
        if let Self::Array(Array::Strings(v)) = self { Some(v) } else { None }
    }

    fn as_f32s(&self) -> Option<&[f32]> {
        if let Self::Array(Array::F32(v)) = self { Some(v) } else { None }
    }

    fn as_i32s(&self) -> Option<&[i32]> {
        match self {
            Self::Array(Array::I32(v)) => Some(v),
            Self::Array(Array::U32(v)) if v.iter().all(|&v| v <= i32::MAX as u32) => Some(bytemuck::cast_slice(v)),
            _ => None,
        }
    }
}

/// As messages show it: a scalar's value, a string's beginning, and of an array only that it is one.
impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::String(v) => write!(f, "'{}'", excerpt(v)),
            Self::Array(_) => write!(f, "an {}", self.kind()),
            Self::F32(v) => write!(f, "{v}"),
            Self::F64(v) => write!(f, "{v}"),
            Self::U64(v) => write!(f, "{v}"),
            Self::I64(v) => write!(f, "{v}"),
            small => write!(f, "{}", small.as_number().unwrap_or_default()),
        }
    }
}

/// The key-values by key. The getters give `InvalidFile`, naming the key, where it is missing or of another type; the
/// `opt_` ones give `None` where it is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub(super) BTreeMap<String, Value>);

impl Metadata {
    /// The value as it is in the file.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All key-values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// An integer of any type whose value fits.
    pub fn u32(&self, key: &str) -> Result<u32> {
        required(key, U32, self.opt_u32(key)?)
    }

    /// An integer of any type whose value fits.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, U32, Value::as_u32)
    }

    /// A float; an f64 is rounded.
    pub fn f32(&self, key: &str) -> Result<f32> {
        required(key, F32, self.opt_f32(key)?)
    }

    /// A float; an f64 is rounded.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, F32, Value::as_f32)
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<bool> {
        required(key, BOOL, self.opt_bool(key)?)
    }

    /// A bool.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, BOOL, Value::as_bool)
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<&str> {
        required(key, STRING, self.opt_str(key)?)
    }

    /// A string.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, STRING, Value::as_str)
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        required(key, STRINGS, self.typed(key, STRINGS, Value::as_strings)?)
    }

    /// An array of strings, moved out: the key is gone afterwards. On an error the value stays.
    pub fn take_strings(&mut self, key: &str) -> Result<Vec<String>> {
        self.strings(key)?;
        match self.0.remove(key) {
            Some(Value::Array(Array::Strings(strings))) => Ok(strings),
            _ => required(key, STRINGS, None),
        }
    }

    /// An array of i32, or of u32 whose values all fit.
    pub fn i32s(&self, key: &str) -> Result<&[i32]> {
        required(key, I32S, self.typed(key, I32S, Value::as_i32s)?)
    }

    /// An array of f32.
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        required(key, F32S, self.typed(key, F32S, Value::as_f32s)?)
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(invalid(format!(
                "metadata '{}' is {value} (of type {}); expected {want}",
                excerpt(key),
                value.kind()
            ))),
        }
    }
}

const U32: &str = "an integer from 0 to 4294967295";
const F32: &str = "a float";
const BOOL: &str = "a bool";
const STRING: &str = "a string";
const STRINGS: &str = "an array of strings";
const I32S: &str = "an array of i32";
const F32S: &str = "an array of f32";

fn required<T>(key: &str, want: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| invalid(format!("metadata '{key}' is missing; expected {want}")))
}
