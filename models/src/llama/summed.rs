//! A file that is written from front to back, and the BLAKE3 hash of all its bytes.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

/// Small writes are gathered; one system call moves a megabyte.
const BUFFER_BYTES: usize = 1 << 20;
/// What holes read as, for the hash.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

pub(super) struct SummedFile<'a> {
    out: BufWriter<&'a mut File>,
    hasher: blake3::Hasher,
    at: u64,
}

impl<'a> SummedFile<'a> {
    /// Drops what `file` held.
    pub(super) fn new(file: &'a mut File) -> io::Result<Self> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            hasher: blake3::Hasher::new(),
            at: 0,
        })
    }

    /// Leaves a hole up to byte `at` of the file: it reads as zeroes and takes no room on disk.
    pub(super) fn skip_to(&mut self, at: u64) -> io::Result<()> {
        let mut n_left = at.saturating_sub(self.at);
        if n_left == 0 {
            return Ok(());
        }
        self.out.seek(SeekFrom::Start(at))?;
        self.at = at;
        while n_left > 0 {
            let n = n_left.min(ZEROES.len() as u64);
            self.hasher.update(&ZEROES[..n as usize]);
            n_left -= n;
        }
        Ok(())
    }

    /// The hash of the file, whose end is here.
    pub(super) fn finish(mut self) -> io::Result<blake3::Hash> {
        self.out.flush()?;
        // A hole at the end exists only once the length says so.
        self.out.get_ref().set_len(self.at)?;
        Ok(self.hasher.finalize())
    }
}

impl Write for SummedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
