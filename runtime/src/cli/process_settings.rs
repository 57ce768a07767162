//! What libraries read from the environment when a process starts: so this program starts itself
//! once more with it.
//!
//! **Huge pages** for the weights. Decoding reads every weight for every token. In pages of 4 KiB
//! that costs 15 to 20 % of the speed in address translation (measured on a virtual machine, 0.3 GB
//! Q4_0), and how much depends on the luck of the physical layout. Debian and Ubuntu give huge pages
//! to whoever asks, and glibc's `malloc` asks when the environment says so.
//!
//! **Fewer threads of zenoh.** By itself a thread that waits for a connection wakes another one that
//! reads from it. With one runtime for both a message between two stages comes 50 us earlier (of
//! 200, on a virtual machine with two cores), and two threads less run.

use std::env;
use std::process::Command;

/// Where glibc reads its settings.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// `malloc` asks for huge pages with `madvise` (glibc 2.35 and later; others ignore it).
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";

/// Where zenoh reads what its threads are (`zenoh_runtime::ZRuntime`).
const ZENOH_THREADS: &str = "ZENOH_RUNTIME";
/// Connections are made, accepted and read by the same threads.
const ONE_RUNTIME: &str = "(rx: (handover: net), acc: (handover: net), net: (worker_threads: 2))";

/// Starts this program again in the same process with the settings that are missing, unless another
/// choice is there already. Child processes inherit them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn ask_for() {
    use std::os::unix::process::CommandExt as _;

    let mut missing = Vec::new();
    let tunables = env::var(TUNABLES).unwrap_or_default();
    if !tunables.contains("glibc.malloc.hugetlb") {
        let tunables = match tunables.as_str() {
            "" => HUGE_PAGES.to_owned(),
            others => format!("{others}:{HUGE_PAGES}"),
        };
        missing.push((TUNABLES, tunables));
    }
    if env::var_os(ZENOH_THREADS).is_none() {
        missing.push((ZENOH_THREADS, ONE_RUNTIME.to_owned()));
    }
    let (false, Ok(program)) = (missing.is_empty(), env::current_exe()) else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only when it failed, and then all goes on without.
    let _ = command.args(arguments).envs(missing).exec();
}

/// Other systems decide by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn ask_for() {}
