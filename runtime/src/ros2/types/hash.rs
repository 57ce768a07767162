//! Hashes of types, version 1 (REP 2016): `RIHS01_` and the SHA-256 of the type's description in JSON,
//! with those of all types that it consists of. Two nodes hear each other only if they agree in it.

use std::collections::BTreeSet;
use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::{Kind, Shape, TypeError, Types};

impl Types {
    /// # Errors
    /// A type that is not known.
    pub(in crate::ros2) fn hash(&self, name: &str) -> Result<String, TypeError> {
        let mut others = BTreeSet::new();
        self.references(name, &mut others)?;
        let mut text = r#"{"type_description": "#.to_owned();
        self.describe(name, &mut text)?;
        text += r#", "referenced_type_descriptions": ["#;
        for (i, other) in others.iter().enumerate() {
            text += if i > 0 { ", " } else { "" };
            self.describe(other, &mut text)?;
        }
        text += "]}";
        let digest = Sha256::digest(text.as_bytes());
        let mut hash = "RIHS01_".to_owned();
        for byte in digest {
            let _ = write!(hash, "{byte:02x}");
        }
        Ok(hash)
    }

    /// All types that `name` consists of.
    fn references<'a>(&'a self, name: &str, seen: &mut BTreeSet<&'a str>) -> Result<(), TypeError> {
        for field in self.fields(name)? {
            if let Kind::Message(other) = &field.kind
                && seen.insert(other)
            {
                self.references(other, seen)?;
            }
        }
        Ok(())
    }

    fn describe(&self, name: &str, text: &mut String) -> Result<(), TypeError> {
        let _ = write!(text, r#"{{"type_name": "{name}", "fields": ["#);
        for (i, field) in self.fields(name)?.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let (id, capacity) = match field.shape {
                Shape::One => (0, 0),
                Shape::Array(n) => (48, n),
                Shape::Bounded(n) => (96, n),
                Shape::Sequence => (144, 0),
            };
            let id = id + type_id(&field.kind);
            let (length, nested) = match &field.kind {
                Kind::String(max) | Kind::WideString(max) => (max.unwrap_or(0), ""),
                Kind::Message(other) => (0, other.as_str()),
                _ => (0, ""),
            };
            let field = &field.name;
            let _ = write!(
                text,
                r#"{comma}{{"name": "{field}", "type": {{"type_id": {id}, "capacity": {capacity}, "string_capacity": {length}, "nested_type_name": "{nested}"}}}}"#
            );
        }
        text.push_str("]}");
        Ok(())
    }
}

/// The number of a type (`type_description_interfaces/msg/FieldType`).
fn type_id(kind: &Kind) -> u32 {
    match kind {
        Kind::Message(_) => 1,
        Kind::Integer {
            bytes: 1,
            is_signed,
        } => 3 - u32::from(*is_signed),
        Kind::Integer {
            bytes: 2,
            is_signed,
        } => 5 - u32::from(*is_signed),
        Kind::Integer {
            bytes: 4,
            is_signed,
        } => 7 - u32::from(*is_signed),
        Kind::Integer { is_signed, .. } => 9 - u32::from(*is_signed),
        Kind::Float32 => 10,
        Kind::Float64 => 11,
        Kind::Bool => 15,
        Kind::Byte => 16,
        Kind::String(None) => 17,
        Kind::WideString(None) => 18,
        Kind::String(Some(_)) => 21,
        Kind::WideString(Some(_)) => 22,
    }
}
