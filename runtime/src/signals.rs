//! Signals that ask a program to end.
//!
//! What was ignored when the program started stays ignored: `nohup` ignores SIGHUP so that a closed
//! terminal ends nothing, and a shell without job control ignores SIGINT for what it starts with `&`,
//! so that Ctrl-C reaches only what runs in the foreground.

use std::future::poll_fn;
use std::io;
use std::sync::LazyLock;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Bit `n - 1` is set for each signal `n` that was ignored when this was first looked at, which is
/// before any handler of ours replaces that.
static IGNORED: LazyLock<u64> = LazyLock::new(ignored_now);

/// Some signals, from now on: none is lost while nobody waits, and several count as one.
#[derive(Debug)]
pub struct Signals(Vec<Signal>);

impl Signals {
    /// Ctrl-C.
    ///
    /// # Errors
    /// When the system refuses a handler; needs a tokio runtime.
    pub fn interrupt() -> io::Result<Self> {
        Self::of(&[SignalKind::interrupt()])
    }

    /// What the system sends when it wants a program to end: SIGTERM, or SIGHUP when the terminal
    /// closes.
    ///
    /// # Errors
    /// The same.
    pub fn end() -> io::Result<Self> {
        Self::of(&[SignalKind::terminate(), SignalKind::hangup()])
    }

    /// Any of these.
    ///
    /// # Errors
    /// The same.
    pub fn stop() -> io::Result<Self> {
        Self::of(&[
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ])
    }

    fn of(kinds: &[SignalKind]) -> io::Result<Self> {
        let heeded = kinds.iter().filter(|kind| !is_ignored(**kind, *IGNORED));
        heeded
            .map(|kind| signal(*kind))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Waits for one of them; for ever where all are ignored. Cancel safe.
    pub async fn recv(&mut self) {
        poll_fn(|context| {
            // Each is polled until one is there, so that each wakes the task.
            let arrived = self.0.iter_mut().any(|s| s.poll_recv(context).is_ready());
            if arrived {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }

    /// Forgets what has arrived already.
    pub fn forget(&mut self) {
        use futures::FutureExt;
        while self.recv().now_or_never().is_some() {}
    }
}

fn is_ignored(kind: SignalKind, ignored: u64) -> bool {
    let bit = u32::try_from(kind.as_raw_value() - 1).ok();
    bit.and_then(|bit| ignored.checked_shr(bit))
        .is_some_and(|shifted| shifted & 1 == 1)
}

/// The signals that this process ignores now. Only Linux tells; elsewhere none counts as ignored.
fn ignored_now() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| parse_ignored(&status))
        .unwrap_or(0)
}

/// The mask in the line `SigIgn:` of `/proc/<pid>/status`.
fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_by_number() {
        let status = "Name:\tjupiter\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000001003\n";
        let ignored = parse_ignored(status).unwrap();
        for (kind, expected) in [
            (SignalKind::hangup(), true),
            (SignalKind::interrupt(), true),
            (SignalKind::quit(), false),
            (SignalKind::terminate(), false),
        ] {
            assert_eq!(is_ignored(kind, ignored), expected, "{kind:?}");
        }
        assert_eq!(parse_ignored("Name:\tjupiter\n"), None);
    }

    #[tokio::test]
    async fn nobody_waits_for_signals_that_are_ignored() {
        use futures::FutureExt;
        assert!(Signals(Vec::new()).recv().now_or_never().is_none());
    }
}
