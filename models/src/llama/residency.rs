//! Gives back the file pages that loading made resident.
//!
//! llama.cpp copies weights that its kernels want in another order ("repacked") out of the mapping
//! and keeps the mapping; with `MAP_POPULATE` both stay resident. The pages that are read later,
//! because their weights are used in place, come back from the page cache on the first step.

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// Held while mappings of model files are made or ended, by as many threads as like; alone by who gives
/// pages back by their addresses. An address whose mapping has ended may belong to memory of any other
/// thread, which would read zeroes then.
static MAPPINGS: RwLock<()> = RwLock::new(());

/// Who makes or ends mappings of model files holds one meanwhile.
pub(super) fn mappings_change() -> RwLockReadGuard<'static, ()> {
    MAPPINGS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Drops the resident pages of all mappings of `path` in this process, without unmapping them. Whoever
/// holds [`mappings_change`] gives that back before.
#[cfg(target_os = "linux")]
pub fn release_file_pages(path: &Path) {
    let _alone = MAPPINGS.write().unwrap_or_else(PoisonError::into_inner);
    let Ok(path) = std::fs::canonicalize(path) else {
        return;
    };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, end) in read_only_mappings(&maps, &path.to_string_lossy()) {
        // SAFETY: the range is a read-only, shared, file-backed mapping of this process; for such,
        // MADV_DONTNEED only drops page-table entries, and later reads bring the same bytes back from the
        // file (madvise(2)). Nobody has ended it since it was listed: that takes `mappings_change`.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
}

/// Other systems have no such list; their pages go under memory pressure.
#[cfg(not(target_os = "linux"))]
pub fn release_file_pages(_path: &Path) {}

/// The address ranges of lines like `7f..-7f.. r--s 00000000 fe:00 1234   /path` about `path`.
#[cfg(target_os = "linux")]
fn read_only_mappings<'a>(
    maps: &'a str,
    path: &'a str,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    maps.lines().filter_map(move |line| {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let shared_read_only = fields.next()? == "r--s";
        let named = fields.nth(3)?.trim_start() == path;
        let range = (
            usize::from_str_radix(start, 16).ok()?,
            usize::from_str_radix(end, 16).ok()?,
        );
        (shared_read_only && named).then_some(range)
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_shared_mappings_of_the_path_count() {
        let maps = "\
7f00000000-7f00001000 r--s 00000000 fe:00 42                     /models/a b.gguf
7f00002000-7f00003000 rw-p 00000000 fe:00 42                     /models/a b.gguf
7f00004000-7f00005000 r--s 00000000 fe:00 43                     /models/other.gguf
7f00006000-7f00007000 rw-p 00000000 00:00 0 
";
        let found: Vec<_> = read_only_mappings(maps, "/models/a b.gguf").collect();
        assert_eq!(found, [(0x7f_0000_0000, 0x7f_0000_1000)]);
    }
}
