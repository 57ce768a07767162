//! Sizes, rates and times as people write them.

use std::time::Duration;

use bytesize::ByteSize;

use crate::error::{ConfigError, Result};

/// Bits of a byte on a link.
const BITS_PER_BYTE: f64 = 8.0;

/// `600M`, `2G` or `512MiB` in bytes.
///
/// # Errors
/// When it is none, or zero.
pub(super) fn bytes(text: &str) -> Result<u64, ConfigError> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(bytes)) if bytes > 0 => Ok(bytes),
        _ => Err(not_a("size", text, "600M or 2G")),
    }
}

/// `100mbit` (as `tc` writes rates: bits in a second) in bytes in a second.
///
/// # Errors
/// When it is none, or zero.
pub(super) fn bytes_per_s(text: &str) -> Result<f64, ConfigError> {
    let bits = text.trim().to_ascii_lowercase();
    let number = bits
        .strip_suffix("bit")
        .and_then(|rate| rate.parse::<ByteSize>().ok());
    match number {
        Some(ByteSize(bits)) if bits > 0 => Ok(bits as f64 / BITS_PER_BYTE),
        _ => Err(not_a("rate", text, "100mbit or 1gbit")),
    }
}

/// `5ms` or `300us`.
///
/// # Errors
/// When it is none.
pub(super) fn duration(text: &str) -> Result<Duration, ConfigError> {
    humantime::parse_duration(text).map_err(|_| not_a("time", text, "5ms"))
}

fn not_a(what: &'static str, text: &str, example: &'static str) -> ConfigError {
    let text = text.to_owned();
    ConfigError::Unit {
        text,
        what,
        example,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!(bytes("600M").unwrap(), 600_000_000);
        assert_eq!(bytes("2 GiB").unwrap(), 2 << 30);
        assert_eq!(bytes_per_s("100mbit").unwrap(), 12.5e6);
        assert_eq!(bytes_per_s("1gbit").unwrap(), 125e6);
        assert_eq!(duration("5ms").unwrap(), Duration::from_millis(5));
    }

    #[test]
    fn what_is_no_unit_is_named_in_one_line() {
        for error in [
            bytes("many").unwrap_err(),
            bytes("0").unwrap_err(),
            bytes_per_s("100").unwrap_err(),
            bytes_per_s("0mbit").unwrap_err(),
            duration("5").unwrap_err(),
            duration("-5ms").unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("write it as") && !text.contains('\n'),
                "{text}"
            );
        }
    }
}
