//! Reads little-endian values from bytes, never beyond their end.

/// Why the bytes cannot be read on; the caller names the file.
pub(super) type Outcome<T> = Result<T, String>;

/// A position in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.at as u64
    }

    /// Bytes that are left.
    pub(super) fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64, what: &str) -> Outcome<&'a [u8]> {
        if n > self.remaining() {
            return Err(format!(
                "truncated: {what} at byte {} needs {n} bytes, {} are left: download it again",
                self.at,
                self.remaining()
            ));
        }
        let start = self.at;
        self.at += n as usize;
        Ok(&self.bytes[start..self.at])
    }

    /// The next `N` bytes, for `from_le_bytes`.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Outcome<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, what: &str) -> Outcome<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Outcome<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `min_bytes` each, refused when they cannot all follow.
    pub(super) fn count(&mut self, min_bytes: u64, what: &str) -> Outcome<usize> {
        let n = self.u64(what)?;
        self.fits(n, min_bytes, what)
    }

    /// `n`, when `n` things of at least `min_bytes` each can follow.
    pub(super) fn fits(&self, n: u64, min_bytes: u64, what: &str) -> Outcome<usize> {
        if n > self.remaining() / min_bytes {
            return Err(format!(
                "{what} {n} cannot fit the {} bytes that follow: the file is corrupt, download it again",
                self.remaining()
            ));
        }
        Ok(n as usize)
    }

    /// A string: u64 length and bytes.
    pub(super) fn string(&mut self, what: &str) -> Outcome<&'a [u8]> {
        let n = self.count(1, what)?;
        self.take(n as u64, what)
    }
}
