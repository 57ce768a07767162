//! Text that is read whole: from a file, a pipe (`<(...)`) or `/dev/stdin`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest text that is read, in bytes: more than any context, grammar or configuration holds, and a
/// bound on what a pipe without end can make us allocate.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// What Windows' editors write before text; no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes that are no text as it is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// Two bytes a character, as Windows calls "Unicode" (UTF-32 among it).
    #[error("UTF-16 text: save it as UTF-8")]
    Utf16,
    /// Something else.
    #[error("not UTF-8 text: byte {at} is {byte:#04x}")]
    NotUtf8 {
        /// Place of the first byte that is none, from 0.
        at: usize,
        /// That byte.
        byte: u8,
    },
}

/// The text at `path`, read once, from the beginning to the end.
///
/// # Errors
/// When it cannot be opened or read, is longer than 16 MiB, or is not UTF-8. The path is not named.
pub fn read(path: &Path) -> io::Result<String> {
    read_from(File::open(path)?)
}

/// The same of what is open already.
///
/// # Errors
/// The same.
pub fn read_from(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let what = format!("longer than {} MiB: not read", MAX_TEXT_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    decode(&bytes)
        .map(str::to_owned)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The text of these bytes, without a byte order mark.
///
/// # Errors
/// Bytes that are not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, NotText> {
    if is_utf16(bytes) {
        return Err(NotText::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        NotText::NotUtf8 { at, byte }
    })?;
    Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// By the byte order mark; and without one, by the zero byte of a first character that is ASCII.
fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn text_is_utf_8_of_a_sane_length_without_a_byte_order_mark() {
        assert_eq!(read_from(&b"\xef\xbb\xbfa\n"[..]).unwrap(), "a\n");
        assert_eq!(read_from(&b"a\xef\xbb\xbf"[..]).unwrap(), "a\u{feff}");
        assert_eq!(read_from(&b""[..]).unwrap(), "");
        let error = read_from(&b"ab\xe4"[..]).unwrap_err();
        assert_eq!(error.to_string(), "not UTF-8 text: byte 2 is 0xe4");
        let error = read_from(io::repeat(b'x')).unwrap_err();
        assert!(error.to_string().contains("16 MiB"), "{error}");
    }

    #[test]
    fn utf_16_is_called_by_its_name() {
        let text = |bytes: fn(u16) -> [u8; 2], mark: &[u8]| -> Vec<u8> {
            let units = "Hi \u{e4}".encode_utf16().flat_map(bytes);
            mark.iter().copied().chain(units).collect()
        };
        let (little, big) = (u16::to_le_bytes, u16::to_be_bytes);
        for bytes in [
            text(little, b"\xff\xfe"),
            text(big, b"\xfe\xff"),
            text(little, b""),
            text(big, b""),
        ] {
            assert_eq!(decode(&bytes), Err(NotText::Utf16), "{bytes:?}");
        }
    }
}
