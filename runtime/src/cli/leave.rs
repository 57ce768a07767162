//! How the program ends: in one way, whatever came of the work.
//!
//! Signals, errors, panics and the end of stdin all end a verb's future, which gives back what others
//! rely on (children, session, terminal). Then the process leaves without exit handlers: a thread that
//! loads or computes in llama.cpp cannot be stopped, and must not find its tables gone.

use std::io::{self, Write};
use std::time::Duration;

use jupiter::signals::Signals;
use jupiter_models::llama::leave;

/// How long the end may take once a signal asked for it: what `docker stop` gives too. A step of a
/// slow machine can take longer, and is not worth waiting for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a command ended, as shells count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitCode(u8);

impl ExitCode {
    /// All is done.
    pub(crate) const SUCCESS: Self = Self(0);
    /// What was asked could not be done.
    pub(crate) const FAILED: Self = Self(1);
    /// The command line makes no sense.
    pub(crate) const USAGE: Self = Self(2);
    /// A signal asked for the end (128 + SIGINT).
    pub(crate) const INTERRUPTED: Self = Self(130);

    /// Ends the process.
    pub(crate) fn leave(self) -> ! {
        // A reader that is gone was told of when it was written to.
        let _ = io::stdout().flush();
        leave::at_once(self.0)
    }
}

/// Sees to it that a program that was asked to end does: with one more signal at once, else after
/// [`PATIENCE`], whatever still computes, waits for a peer, or blocks on a pipe that nobody reads.
pub(crate) async fn insist(mut signals: Signals) {
    signals.recv().await;
    tokio::select! {
        () = signals.recv() => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    // Not through stdout, which may be what blocks.
    leave::at_once(ExitCode::INTERRUPTED.0)
}
