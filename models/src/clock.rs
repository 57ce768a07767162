//! The time, as a thing that tests can set.

use std::time::{Duration, Instant};

/// How much of a wait is spun: `thread::sleep` oversleeps by about 60 us, more on a busy machine.
const SPIN: Duration = Duration::from_micros(200);

/// Tells the time and waits.
pub(crate) trait Clock: Send {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// Returns at the moment `at`, or at once when that has passed.
    fn wait_until(&self, at: Duration);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> SystemClock {
        let start = Instant::now();
        SystemClock { start }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&self, at: Duration) {
        let left = at.saturating_sub(self.now());
        if left > SPIN {
            std::thread::sleep(left - SPIN);
        }
        while self.now() < at {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::Clock;

    /// A clock that stands still until it is told to go on; clones show the same time.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct FakeClock(Arc<AtomicU64>);

    impl FakeClock {
        /// Lets `by` pass.
        pub(crate) fn advance(&self, by: Duration) {
            let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            self.0.fetch_add(ns, Ordering::Relaxed);
        }
    }

    impl Clock for FakeClock {
        fn now(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::Relaxed))
        }

        fn wait_until(&self, at: Duration) {
            self.advance(at.saturating_sub(self.now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_its_moment_and_not_before() {
        let clock = SystemClock::new();
        let at = clock.now() + 2 * SPIN;
        clock.wait_until(at);
        assert!(clock.now() >= at);
        clock.wait_until(Duration::ZERO);
    }
}
