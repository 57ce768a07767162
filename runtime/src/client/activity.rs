//! How many answers are being written, so that what can wait is done when there are none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts answers. Clones count the same.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<watch::Sender<usize>>);

/// An answer, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Counts one more.
    pub(crate) fn begin(&self) -> Busy {
        self.0.send_modify(|n| *n += 1);
        Busy(self.clone())
    }

    /// Answers that are being written.
    pub(crate) fn n_busy(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until nobody has asked for so long.
    pub(crate) async fn quiet(&self, long: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            // The sender is ours, so it does not close.
            let _ = changes.wait_for(|n| *n == 0).await;
            if timeout(long, changes.wait_for(|n| *n > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Waits until somebody asks.
    pub(crate) async fn woken(&self) {
        let _ = self.0.subscribe().wait_for(|n| *n > 0).await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_quiet_when_nobody_asks() {
        let activity = Activity::new();
        let quiet = || timeout(Duration::ZERO, activity.quiet(Duration::ZERO));
        let (first, second) = (activity.begin(), activity.begin());
        activity.woken().await;
        drop(first);
        assert_eq!(activity.n_busy(), 1);
        assert!(quiet().await.is_err());
        drop(second);
        activity.quiet(Duration::ZERO).await;
        let woken = timeout(Duration::ZERO, activity.woken());
        assert!(woken.await.is_err());
    }
}
