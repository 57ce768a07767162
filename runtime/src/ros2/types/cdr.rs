//! Payloads of messages: plain CDR (XCDR1) behind a header of 4 bytes, as Fast CDR and rmw_zenoh write
//! it, to JSON and back.
//!
//! ```text
//! 00 01 00 00   little endian (00 00: big endian), no options
//! body          numbers aligned to their size, counted from here; strings: u32 bytes with the
//!               final 0; sequences: u32 elements
//! ```
//!
//! What fills up to alignments, and what stands behind the end, is not read: Fast DDS leaves anything
//! there. In JSON a number that is none is the string `nan`, `inf` or `-inf`.

use serde_json::{Map, Value};

use super::{DUMMY_FIELD, Field, Kind, Shape, TypeError, Types};

/// How many elements of a sequence are made room for before the first is read; the length that a
/// message claims is not believed.
const MAX_TRUSTED: usize = 64;

impl Types {
    /// The bytes of a message; what `value` does not say is as in its definition, or zero.
    ///
    /// # Errors
    /// The first value that does not fit its member, by its path, or a member that is not there.
    pub(in crate::ros2) fn encode(&self, name: &str, value: &Value) -> Result<Vec<u8>, TypeError> {
        let mut writer = Writer {
            types: self,
            body: Vec::new(),
            path: Vec::new(),
        };
        writer.message(name, value)?;
        Ok([&[0, 1, 0, 0], writer.body.as_slice()].concat())
    }

    /// What a message says.
    ///
    /// # Errors
    /// Bytes that are not such a message.
    pub(in crate::ros2) fn decode(&self, name: &str, bytes: &[u8]) -> Result<Value, TypeError> {
        let is_little = match bytes {
            [0, 0, _, _, ..] => false,
            [0, 1, _, _, ..] => true,
            _ => return Err(TypeError::Header),
        };
        let mut reader = Reader {
            types: self,
            body: &bytes[4..],
            at: 0,
            is_little,
            field: name,
        };
        reader.message(name)
    }
}

struct Writer<'a> {
    types: &'a Types,
    body: Vec<u8>,
    path: Vec<&'a str>,
}

impl<'a> Writer<'a> {
    fn message(&mut self, name: &'a str, value: &Value) -> Result<(), TypeError> {
        let nothing = Map::new();
        let said = match value {
            Value::Object(said) => said,
            Value::Null => &nothing,
            _ => return Err(self.wrong("it is not an object")),
        };
        let types = self.types;
        let fields = types.fields(name)?;
        let is_known = |key: &String| fields.iter().any(|field| field.name == *key);
        if let Some(key) = said.keys().find(|key| !is_known(key)) {
            return Err(self.wrong(&format!("{name} has no member `{key}`")));
        }
        for field in fields {
            self.path.push(&field.name);
            let value = said.get(&field.name).filter(|value| !value.is_null());
            self.field(field, value.or(field.default.as_ref()))?;
            self.path.pop();
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field, value: Option<&Value>) -> Result<(), TypeError> {
        if field.shape == Shape::One {
            return self.one(&field.kind, value.unwrap_or(&Value::Null));
        }
        let none = Vec::new();
        let items = match value {
            None => &none,
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.wrong("it is not a list")),
        };
        match field.shape {
            Shape::Array(n) => {
                let n = n as usize;
                if value.is_some() && items.len() != n {
                    return Err(self.wrong(&format!("it has {} elements, not {n}", items.len())));
                }
                for i in 0..n {
                    self.one(&field.kind, items.get(i).unwrap_or(&Value::Null))?;
                }
            }
            Shape::Bounded(max) if items.len() > max as usize => {
                return Err(self.wrong(&format!("it has {} elements, at most {max}", items.len())));
            }
            _ => {
                self.length(items.len())?;
                for item in items {
                    self.one(&field.kind, item)?;
                }
            }
        }
        Ok(())
    }

    fn one(&mut self, kind: &'a Kind, value: &Value) -> Result<(), TypeError> {
        match kind {
            Kind::Message(name) => self.message(name, value)?,
            Kind::Bool => match value {
                Value::Null => self.put(&[0]),
                Value::Bool(is) => self.put(&[u8::from(*is)]),
                _ => return Err(self.wrong("it is not true or false")),
            },
            Kind::Byte => self.integer(1, false, value)?,
            Kind::Integer { bytes, is_signed } => self.integer(*bytes, *is_signed, value)?,
            Kind::Float32 => {
                let value = self.number(value)?;
                #[allow(
                    clippy::cast_possible_truncation,
                    reason = "that is what the type holds"
                )]
                let narrow = value as f32;
                if narrow.is_infinite() && value.is_finite() {
                    return Err(self.wrong(&format!("{value} is too large for a float32")));
                }
                self.put(&narrow.to_le_bytes());
            }
            Kind::Float64 => {
                let value = self.number(value)?;
                self.put(&value.to_le_bytes());
            }
            Kind::String(max) => self.string(*max, value)?,
            Kind::WideString(_) => return Err(self.wrong("wide strings are not written")),
        }
        Ok(())
    }

    fn string(&mut self, max: Option<u32>, value: &Value) -> Result<(), TypeError> {
        let text = match value {
            Value::Null => "",
            Value::String(text) => text,
            _ => return Err(self.wrong("it is not a text")),
        };
        if text.contains('\0') {
            return Err(self.wrong("a text cannot hold a zero byte"));
        }
        let n_chars = text.chars().count();
        if let Some(max) = max.filter(|&max| n_chars > max as usize) {
            return Err(self.wrong(&format!("it has {n_chars} characters, at most {max}")));
        }
        self.length(text.len() + 1)?;
        self.body.extend_from_slice(text.as_bytes());
        self.body.push(0);
        Ok(())
    }

    fn integer(&mut self, bytes: u8, is_signed: bool, value: &Value) -> Result<(), TypeError> {
        let number = match value {
            Value::Null => Some(0),
            Value::Number(n) => (n.as_i64().map(i128::from)).or(n.as_u64().map(i128::from)),
            _ => None,
        };
        let bits = u32::from(bytes) * 8;
        let (min, max) = match is_signed {
            true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
            false => (0, (1_i128 << bits) - 1),
        };
        match number {
            Some(n) if (min..=max).contains(&n) => {
                self.put(&n.to_le_bytes()[..usize::from(bytes)]);
                Ok(())
            }
            _ => Err(self.wrong(&format!("{value} is no whole number from {min} to {max}"))),
        }
    }

    fn number(&self, value: &Value) -> Result<f64, TypeError> {
        match value {
            Value::Null => Some(0.0),
            Value::Number(n) => n.as_f64(),
            Value::String(text) => match text.as_str() {
                "nan" => Some(f64::NAN),
                "inf" => Some(f64::INFINITY),
                "-inf" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| self.wrong(&format!("{value} is no number")))
    }

    fn length(&mut self, n: usize) -> Result<(), TypeError> {
        let n = u32::try_from(n).map_err(|_| self.wrong("it has more than 4 billion elements"))?;
        self.put(&n.to_le_bytes());
        Ok(())
    }

    /// Appends a number, aligned to its size.
    fn put(&mut self, bytes: &[u8]) {
        let aligned = self.body.len().next_multiple_of(bytes.len());
        self.body.resize(aligned, 0);
        self.body.extend_from_slice(bytes);
    }

    fn wrong(&self, why: &str) -> TypeError {
        let at = match self.path.is_empty() {
            true => "the message".to_owned(),
            false => self.path.join("."),
        };
        let why = why.to_owned();
        TypeError::Value { at, why }
    }
}

struct Reader<'a> {
    types: &'a Types,
    body: &'a [u8],
    at: usize,
    is_little: bool,
    field: &'a str,
}

impl<'a> Reader<'a> {
    fn message(&mut self, name: &str) -> Result<Value, TypeError> {
        let types = self.types;
        let mut message = Map::new();
        for field in types.fields(name)? {
            // Some clients leave out the member of a message that has none.
            if field.name == DUMMY_FIELD && self.at >= self.body.len() {
                continue;
            }
            self.field = &field.name;
            let value = self.field(field)?;
            message.insert(field.name.clone(), value);
        }
        Ok(Value::Object(message))
    }

    fn field(&mut self, field: &'a Field) -> Result<Value, TypeError> {
        let n = match field.shape {
            Shape::One => return self.one(&field.kind),
            Shape::Array(n) => n,
            Shape::Bounded(max) => {
                let n = self.length()?;
                if n > max {
                    let (at, why) = (field.name.clone(), format!("{n} elements, at most {max}"));
                    return Err(TypeError::Value { at, why });
                }
                n
            }
            Shape::Sequence => self.length()?,
        };
        // Each element takes a byte at least: a length beyond what is left ends the reading at once.
        if n as usize > self.body.len().saturating_sub(self.at) {
            return Err(self.short());
        }
        let mut items = Vec::with_capacity((n as usize).min(MAX_TRUSTED));
        for _ in 0..n {
            items.push(self.one(&field.kind)?);
        }
        Ok(Value::Array(items))
    }

    fn one(&mut self, kind: &'a Kind) -> Result<Value, TypeError> {
        Ok(match kind {
            Kind::Message(name) => self.message(name)?,
            Kind::Bool => (self.number::<1>()?[0] != 0).into(),
            Kind::Byte => self.number::<1>()?[0].into(),
            Kind::Integer { bytes, is_signed } => self.integer(*bytes, *is_signed)?,
            Kind::Float32 => float(f64::from(f32::from_le_bytes(self.number()?))),
            Kind::Float64 => float(f64::from_le_bytes(self.number()?)),
            Kind::String(max) => self.string(*max)?,
            Kind::WideString(_) => {
                let (at, why) = (
                    self.field.to_owned(),
                    "wide strings are not read".to_owned(),
                );
                return Err(TypeError::Value { at, why });
            }
        })
    }

    fn integer(&mut self, bytes: u8, is_signed: bool) -> Result<Value, TypeError> {
        Ok(match (bytes, is_signed) {
            (1, false) => u8::from_le_bytes(self.number()?).into(),
            (1, true) => i8::from_le_bytes(self.number()?).into(),
            (2, false) => u16::from_le_bytes(self.number()?).into(),
            (2, true) => i16::from_le_bytes(self.number()?).into(),
            (4, false) => u32::from_le_bytes(self.number()?).into(),
            (4, true) => i32::from_le_bytes(self.number()?).into(),
            (_, false) => u64::from_le_bytes(self.number()?).into(),
            (_, true) => i64::from_le_bytes(self.number()?).into(),
        })
    }

    fn string(&mut self, max: Option<u32>) -> Result<Value, TypeError> {
        let n = self.length()? as usize;
        let bytes = self.take(n)?;
        let wrong = |why: String| TypeError::Value {
            at: self.field.to_owned(),
            why,
        };
        let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let text = std::str::from_utf8(text).map_err(|_| wrong("it is no UTF-8".to_owned()))?;
        match max {
            Some(max) if text.chars().count() > max as usize => {
                Err(wrong(format!("more than {max} characters")))
            }
            _ => Ok(text.into()),
        }
    }

    fn length(&mut self) -> Result<u32, TypeError> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    /// The next number, aligned to its size, as little endian.
    fn number<const N: usize>(&mut self) -> Result<[u8; N], TypeError> {
        self.at = self.at.next_multiple_of(N);
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if !self.is_little {
            bytes.reverse();
        }
        Ok(bytes)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], TypeError> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.body.len());
        let end = end.ok_or_else(|| self.short())?;
        let bytes = &self.body[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn short(&self) -> TypeError {
        TypeError::Short {
            at: self.body.len() + 4,
            field: self.field.to_owned(),
        }
    }
}

fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || match value {
            value if value.is_nan() => "nan".into(),
            value if value > 0.0 => "inf".into(),
            _ => "-inf".into(),
        },
        Value::Number,
    )
}
