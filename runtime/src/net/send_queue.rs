//! The bounded queue between whoever sends and the thread that publishes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Frames on their way to one address. The publishing thread takes them once a receiver is there.
#[derive(Default)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    /// Whether anyone subscribes to the address.
    has_receiver: bool,
    closed: bool,
}

/// A message for one address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Not to be published before; none for at once.
    pub(crate) due: Option<Instant>,
}

/// What became of a frame that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    Taken,
    Full,
    Closed,
}

/// What the publishing thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Publish this.
    Frame(Frame),
    /// Nobody subscribed in time; so many frames were thrown away.
    NoReceiver(usize),
    /// End.
    Closed,
}

impl SendQueue {
    /// Takes the frame, unless `capacity` frames wait already or the queue is closed.
    pub(crate) fn push(&self, frame: Frame, capacity: usize) -> Push {
        let mut state = self.lock();
        if state.closed {
            return Push::Closed;
        }
        if state.frames.len() >= capacity {
            return Push::Full;
        }
        state.frames.push_back(frame);
        self.changed.notify_all();
        Push::Taken
    }

    /// Notes whether anyone subscribes.
    pub(crate) fn set_receiver(&self, has_receiver: bool) {
        self.lock().has_receiver = has_receiver;
        self.changed.notify_all();
    }

    /// Ends the publishing thread and throws away what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.frames.clear();
        self.changed.notify_all();
    }

    /// Waits for the next frame, and then at most `patience` for someone who receives it.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        while state.frames.is_empty() && !state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let deadline = Instant::now() + patience;
        while !state.has_receiver && !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let n_frames = state.frames.len();
                state.frames.clear();
                return Next::NoReceiver(n_frames);
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        match state.frames.pop_front() {
            Some(frame) if !state.closed => Next::Frame(frame),
            _ => Next::Closed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn frame(byte: u8) -> Frame {
        Frame {
            bytes: vec![byte],
            due: None,
        }
    }

    const SOON: Duration = Duration::from_millis(20);
    const LATE: Duration = Duration::from_secs(20);

    #[test]
    fn frames_come_out_in_order_and_no_more_than_fit_go_in() {
        let queue = SendQueue::default();
        queue.set_receiver(true);
        assert_eq!(queue.push(frame(1), 2), Push::Taken);
        assert_eq!(queue.push(frame(2), 2), Push::Taken);
        assert_eq!(queue.push(frame(3), 2), Push::Full);
        assert_eq!(queue.next(SOON), Next::Frame(frame(1)));
        assert_eq!(queue.push(frame(3), 2), Push::Taken);
        assert_eq!(queue.next(SOON), Next::Frame(frame(2)));
        assert_eq!(queue.next(SOON), Next::Frame(frame(3)));
    }

    #[test]
    fn frames_to_nobody_are_thrown_away_after_a_while() {
        let queue = SendQueue::default();
        assert_eq!(queue.push(frame(1), 4), Push::Taken);
        assert_eq!(queue.push(frame(2), 4), Push::Taken);
        assert_eq!(queue.next(SOON), Next::NoReceiver(2));
        assert_eq!(queue.push(frame(3), 4), Push::Taken);
        queue.set_receiver(true);
        assert_eq!(queue.next(SOON), Next::Frame(frame(3)));
    }

    #[test]
    fn a_receiver_that_appears_and_an_end_both_wake_the_thread() {
        for (close, expected) in [(false, Next::Frame(frame(1))), (true, Next::Closed)] {
            let queue = Arc::new(SendQueue::default());
            assert_eq!(queue.push(frame(1), 4), Push::Taken);
            let waiting = std::thread::spawn({
                let queue = queue.clone();
                move || queue.next(LATE)
            });
            if close {
                queue.close()
            } else {
                queue.set_receiver(true)
            }
            assert!(matches!(waiting.join(), Ok(next) if next == expected));
            let expected = if close { Push::Closed } else { Push::Taken };
            assert_eq!(queue.push(frame(2), 4), expected);
        }
    }
}
