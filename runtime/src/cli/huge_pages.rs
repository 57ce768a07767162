//! Huge pages for the weights.
//!
//! Decoding reads every weight for every token. In pages of 4 KiB that costs 15 to 20 % of the
//! speed in address translation (measured on a virtual machine, 0.3 GB Q4_0), and how much depends
//! on the luck of the physical layout. Debian and Ubuntu give huge pages to whoever asks, and
//! glibc's `malloc` asks when the environment says so at the start of the process.

use std::env;
use std::process::Command;

/// Where glibc reads its settings.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// `malloc` asks for huge pages with `madvise` (glibc 2.35 and later; others ignore it).
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";

/// Starts this program again in the same process with the setting, unless it or another choice is
/// there already. Child processes inherit it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn ask_for() {
    use std::os::unix::process::CommandExt as _;

    let tunables = env::var(TUNABLES).unwrap_or_default();
    if tunables.contains("glibc.malloc.hugetlb") {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let tunables = match tunables.as_str() {
        "" => HUGE_PAGES.to_owned(),
        others => format!("{others}:{HUGE_PAGES}"),
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only when it failed, and then all goes on without.
    let _ = command.args(arguments).env(TUNABLES, tunables).exec();
}

/// Other systems decide by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn ask_for() {}
