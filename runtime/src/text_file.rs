//! Text that is read whole: from a file, a pipe (`<(...)`) or `/dev/stdin`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest text that is read, in bytes: more than any context, grammar or configuration holds, and a
/// bound on what a pipe without end can make us allocate.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// What Windows' editors write before text; no part of it.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    from.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        let most = MAX_TEXT_BYTES >> 20;
        return Err(invalid(format!("longer than {most} MiB: not read")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| invalid("not UTF-8 text".to_owned()))?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn text_is_utf_8_of_a_sane_length_without_a_byte_order_mark() {
        assert_eq!(read_from(&b"\xef\xbb\xbfa\n"[..]).unwrap(), "a\n");
        let error = read_from(&b"\xff"[..]).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
        let error = read_from(io::repeat(b'x')).unwrap_err();
        assert!(error.to_string().contains("16 MiB"), "{error}");
    }
}
