//! The key-value pairs of a GGUF header.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bad;
use crate::Result;

/// A metadata value. Strings that are not UTF-8 have their bad bytes replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `GGUF_TYPE_UINT8`, 16, 32 or 64.
    Uint(u64),
    /// `GGUF_TYPE_INT8`, 16, 32 or 64.
    Int(i64),
    /// `GGUF_TYPE_FLOAT32` or 64.
    Float(f64),
    /// `GGUF_TYPE_BOOL`.
    Bool(bool),
    /// `GGUF_TYPE_STRING`.
    Str(String),
    /// `GGUF_TYPE_ARRAY`; arrays of arrays do not exist.
    Array(Array),
}

/// The elements of a metadata array.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// u8, u16, u32 or u64.
    Uint(Vec<u64>),
    /// i8, i16, i32 or i64.
    Int(Vec<i64>),
    /// f32 or f64.
    Float(Vec<f64>),
    /// bool.
    Bool(Vec<bool>),
    /// Strings.
    Str(Vec<String>),
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Uint(v) => v.len(),
            Array::Int(v) => v.len(),
            Array::Float(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Str(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All key-value pairs of a file.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    pub(super) fn new(path: PathBuf, values: BTreeMap<String, Value>) -> Self {
        Self { path, values }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// `key` as a u32, if it is there.
    ///
    /// # Errors
    /// A value that is not a whole number from 0 to 2^32 - 1.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", |value| match value {
            Value::Uint(n) => u32::try_from(*n).ok(),
            Value::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        })
    }

    /// `key` as a u32.
    ///
    /// # Errors
    /// A missing key, or see [`Metadata::opt_u32`].
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, self.opt_u32(key)?)
    }

    /// `key` as an f32, if it is there.
    ///
    /// # Errors
    /// A value that is not a number.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            Value::Float(x) => Some(*x as f32),
            _ => None,
        })
    }

    /// `key` as an f32.
    ///
    /// # Errors
    /// A missing key, or see [`Metadata::opt_f32`].
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.opt_f32(key)?)
    }

    /// `key` as a bool, if it is there.
    ///
    /// # Errors
    /// A value that is not a bool.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// `key` as a string, if it is there.
    ///
    /// # Errors
    /// A value that is not a string.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::Str(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// `key` as a string.
    ///
    /// # Errors
    /// A missing key, or see [`Metadata::opt_str`].
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.opt_str(key)?)
    }

    /// `key` as one u32 for each of `n` layers: an array of at least `n`, or one number for all
    /// (llama.cpp's `get_key_or_arr`). Bools count as 0 and 1.
    ///
    /// # Errors
    /// Another type, a negative element, fewer than `n` elements.
    pub fn opt_u32_per_layer(&self, key: &str, n: u32) -> Result<Option<Vec<u32>>> {
        let Some(Value::Array(array)) = self.get(key) else {
            return Ok(self.opt_u32(key)?.map(|value| vec![value; n as usize]));
        };
        let values: Option<Vec<u32>> = match array {
            Array::Uint(v) => v.iter().map(|&x| u32::try_from(x).ok()).collect(),
            Array::Int(v) => v.iter().map(|&x| u32::try_from(x).ok()).collect(),
            Array::Bool(v) => Some(v.iter().map(|&x| u32::from(x)).collect()),
            Array::Float(_) | Array::Str(_) => None,
        };
        match values {
            Some(mut values) if values.len() >= n as usize => {
                values.truncate(n as usize);
                Ok(Some(values))
            }
            Some(values) => Err(bad(
                &self.path,
                format!("`{key}` has {} elements for {n} layers", values.len()),
            )),
            None => Err(bad(
                &self.path,
                format!("`{key}` must hold whole numbers below 2^32"),
            )),
        }
    }

    /// The array at `key`, if it is there.
    ///
    /// # Errors
    /// A value that is not an array.
    pub fn opt_array(&self, key: &str) -> Result<Option<&Array>> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(bad(&self.path, format!("`{key}` must be {expected}"))),
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| bad(&self.path, format!("the key `{key}` is missing")))
    }
}
