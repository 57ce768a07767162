//! When a child that failed is started again, and when it is given up.

use std::time::{Duration, Instant};

/// Wait before the first restart; it doubles with each further one. Short, because most faults
/// are gone with the state that caused them.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);

/// Longest wait before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A child that fails more often than this within [`RESTART_WINDOW`] is given up: twice what it
/// takes the backoff to reach its maximum.
const MAX_RESTARTS: usize = 16;

/// Failures older than this are forgotten.
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// The recent failures of a child.
#[derive(Default)]
pub(super) struct Failures(Vec<Instant>);

impl Failures {
    /// Counts a failure. Returns how long to wait before the restart, or nothing to give up.
    pub(super) fn next_backoff(&mut self, now: Instant) -> Option<Duration> {
        self.0
            .retain(|&failure| now.duration_since(failure) < RESTART_WINDOW);
        let n_before = self.0.len();
        self.0.push(now);
        let doubled = 1_u32
            .checked_shl(u32::try_from(n_before).ok()?)
            .unwrap_or(u32::MAX);
        (n_before < MAX_RESTARTS).then(|| FIRST_BACKOFF.saturating_mul(doubled).min(MAX_BACKOFF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_longer_each_time_and_end() {
        let mut failures = Failures::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..=MAX_RESTARTS)
            .map(|_| failures.next_backoff(now))
            .collect();
        assert_eq!(waits[0], Some(FIRST_BACKOFF));
        assert_eq!(waits[1], Some(FIRST_BACKOFF * 2));
        assert_eq!(waits[MAX_RESTARTS - 1], Some(MAX_BACKOFF));
        assert_eq!(waits[MAX_RESTARTS], None);
        assert_eq!(
            failures.next_backoff(now + RESTART_WINDOW),
            Some(FIRST_BACKOFF)
        );
    }
}
