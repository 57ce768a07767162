//! One file from the hub into the cache. It grows as `ETAG.incomplete`, as that of the hub's own
//! programs does, and is renamed when it is whole; until then any run goes on where the last one broke.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::Response;

use super::OnBytes;
use super::cache::RepoCache;
use super::remote::{Blob, Remote};
use crate::error::HubError;

/// Connections in a row that bring nothing, after which the network is given up.
const MAX_FAILURES: u32 = 3;

/// Pause before the second such connection, and so much more before the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes between two looks at the progress.
const BLOCK_BYTES: usize = 256 << 10;

/// Hexadecimal digits of SHA-256; hashes of Git have fewer, and say nothing of the bytes alone.
const SHA256_DIGITS: usize = 64;

/// Brings the bytes of `file` into the cache, if they are not there.
///
/// # Errors
/// No network, a full disk, bytes that are not those announced, another program at work on them.
pub(super) fn file(
    remote: &Remote,
    cache: &RepoCache,
    file: &str,
    blob: &Blob,
    on_bytes: OnBytes<'_>,
) -> Result<(), HubError> {
    let whole = cache.blob(&blob.etag);
    let growing = cache.blob(&format!("{}.incomplete", blob.etag));
    let failed = |error| HubError::io(&growing, error);
    if let Some(folder) = growing.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    let mut out = options
        .create(true)
        .append(true)
        .read(true)
        .open(&growing)
        .map_err(failed)?;
    match out.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(HubError::Busy { file: file.into() }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    if whole.exists() {
        // Made by another program since, or of another commit.
        return fs::remove_file(&growing).map_err(failed);
    }
    grow(remote, file, blob, &mut out, &growing, on_bytes)?;
    if let Err(error) = check(file, blob, &growing, on_bytes) {
        // A part of it may be right, but nobody knows which.
        fs::remove_file(&growing).map_err(failed)?;
        return Err(error);
    }
    out.sync_all().map_err(failed)?;
    fs::rename(&growing, &whole).map_err(failed)
}

/// Asks for what is missing until all is there. A connection that breaks after it brought something
/// is followed by another.
fn grow(
    remote: &Remote,
    file: &str,
    blob: &Blob,
    out: &mut File,
    path: &Path,
    on_bytes: OnBytes<'_>,
) -> Result<(), HubError> {
    let failed = |error| HubError::io(path, error);
    let mut failures = 0;
    loop {
        let mut done = out.metadata().map_err(failed)?.len();
        if done > blob.n_bytes {
            out.set_len(0).map_err(failed)?;
            done = 0;
        }
        on_bytes(file, done, blob.n_bytes);
        if done == blob.n_bytes {
            return Ok(());
        }
        let broken = match more(remote, file, blob, done, out, path, on_bytes) {
            Ok(()) => remote.network("the connection ended early"),
            Err(error @ HubError::Network { .. }) => error,
            Err(error) => return Err(error),
        };
        let now = out.metadata().map_err(failed)?.len();
        if now == blob.n_bytes {
            continue;
        }
        failures = if now > done { 0 } else { failures + 1 };
        if failures == MAX_FAILURES {
            return Err(broken);
        }
        tracing::debug!(file, done = now, "a download goes on: {broken}");
        thread::sleep(PAUSE * failures);
    }
}

/// Adds what one connection brings.
fn more(
    remote: &Remote,
    file: &str,
    blob: &Blob,
    mut done: u64,
    out: &mut File,
    path: &Path,
    on_bytes: OnBytes<'_>,
) -> Result<(), HubError> {
    let start = (done > 0).then_some(done);
    let response = remote.checked(remote.get(&blob.url, start)?)?;
    if start.is_some() && !continues(&response, done) {
        // A server that sends all of it again, or another part.
        if response.status().as_u16() == 206 {
            return Err(remote.odd("with another part of the file"));
        }
        out.set_len(0).map_err(|error| HubError::io(path, error))?;
        done = 0;
    }
    let mut body = response.into_body().into_reader().take(blob.n_bytes - done);
    copy(&mut body, out, &mut |n| {
        on_bytes(file, done + n, blob.n_bytes)
    })
    .map_err(|broken| match broken {
        Broken::Read(error) => remote.network(error),
        Broken::Write(error) => HubError::io(path, error),
    })
}

/// Whether `response` begins at byte `start`.
fn continues(response: &Response<Body>, start: u64) -> bool {
    let range = response.headers().get("content-range");
    let begin = range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes "));
    response.status().as_u16() == 206
        && begin.and_then(|range| range.split('-').next()?.parse().ok()) == Some(start)
}

/// Which side of a copy failed.
#[derive(Debug)]
enum Broken {
    Read(io::Error),
    Write(io::Error),
}

/// Copies all of `from`; `on_bytes` hears how many bytes there are so far.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(), Broken> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut done = 0;
    loop {
        let n = match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Read(error)),
        };
        to.write_all(&block[..n]).map_err(Broken::Write)?;
        done += n as u64;
        on_bytes(done);
    }
}

/// Compares the bytes with their hash, if the hub told it.
fn check(file: &str, blob: &Blob, path: &Path, on_bytes: OnBytes<'_>) -> Result<(), HubError> {
    if blob.etag.len() != SHA256_DIGITS {
        return Ok(());
    }
    let failed = |error| HubError::io(path, error);
    let mut hasher = Sha256::new();
    let mut bytes = File::open(path).map_err(failed)?;
    let what = format!("checking {file}");
    copy(&mut bytes, &mut hasher, &mut |n| {
        on_bytes(&what, n, blob.n_bytes)
    })
    .map_err(|broken| match broken {
        Broken::Read(error) | Broken::Write(error) => failed(error),
    })?;
    let got: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if got == blob.etag.to_lowercase() {
        return Ok(());
    }
    Err(HubError::Altered {
        file: file.into(),
        what: format!("SHA-256 {got} instead of {}", blob.etag),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_lost_connection() {
        let mut full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let broken = copy(&mut &[1; 9][..], &mut full, &mut |_| {}).unwrap_err();
        let Broken::Write(error) = broken else {
            panic!("{broken:?}");
        };
        let error = HubError::io("a/blob", error);
        assert!(matches!(error, HubError::Full { .. }), "{error}");
        assert!(error.to_string().contains("no space left for a/blob"));
    }
}
