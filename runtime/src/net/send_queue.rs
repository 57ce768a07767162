//! The bounded queue between whoever sends and the thread that publishes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest frame that is published without the queue's thread: the hidden states of a few rows. What
/// follows larger ones may find the connection full, and is left to the thread, which may wait.
const SMALL_BYTES: usize = 32 << 10;

/// Frames on their way to one address. The publishing thread takes them once a receiver is there.
#[derive(Default)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    /// Whether a frame that left the queue, or never entered it, is being published.
    is_publishing: bool,
    /// Length of the newest frame.
    last_bytes: usize,
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
        state.last_bytes = frame.bytes.len();
        state.frames.push_back(frame);
        self.changed.notify_all();
        Push::Taken
    }

    /// Whether the caller may publish a frame of `n_bytes` itself, in order and without a long wait:
    /// it is small, as was the one before, none waits and someone receives it. Then it has to call
    /// [`SendQueue::published`].
    pub(crate) fn claim(&self, n_bytes: usize) -> bool {
        let mut state = self.lock();
        let is_quiet = state.last_bytes.max(n_bytes) <= SMALL_BYTES
            && state.frames.is_empty()
            && !state.is_publishing
            && state.has_receiver
            && !state.closed;
        if is_quiet {
            state.is_publishing = true;
            state.last_bytes = n_bytes;
        }
        is_quiet
    }

    /// The frame that was claimed, or came from [`SendQueue::next`], is published.
    pub(crate) fn published(&self) {
        let mut state = self.lock();
        state.is_publishing = false;
        if !state.frames.is_empty() {
            self.changed.notify_all();
        }
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

    /// Waits for the next frame, until the one before is published, and then at most `patience` for someone who receives it.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        while (state.frames.is_empty() || state.is_publishing) && !state.closed {
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
            Some(frame) if !state.closed => {
                state.is_publishing = true;
                Next::Frame(frame)
            }
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
        queue.published();
        assert_eq!(queue.push(frame(3), 2), Push::Taken);
        for byte in [2, 3] {
            assert_eq!(queue.next(SOON), Next::Frame(frame(byte)));
            queue.published();
        }
    }

    #[test]
    fn a_frame_goes_past_the_queue_only_when_it_is_small_and_alone() {
        let queue = SendQueue::default();
        assert!(!queue.claim(1), "nobody receives");
        queue.set_receiver(true);
        assert!(!queue.claim(SMALL_BYTES + 1), "it is large");
        assert!(queue.claim(SMALL_BYTES));
        assert!(!queue.claim(1), "another is being published");
        queue.published();
        let large = Frame {
            bytes: vec![0; SMALL_BYTES + 1],
            due: None,
        };
        assert_eq!(queue.push(large, 4), Push::Taken);
        assert!(!queue.claim(1), "another waits");
        assert!(matches!(queue.next(SOON), Next::Frame(_)));
        queue.published();
        assert!(!queue.claim(1), "the one before was large");
        assert_eq!(queue.push(frame(2), 4), Push::Taken);
        assert_eq!(queue.next(SOON), Next::Frame(frame(2)));
        assert!(!queue.claim(1), "the thread publishes another");
        queue.published();
        assert!(queue.claim(1));
        queue.published();
        queue.close();
        assert!(!queue.claim(1), "it is closed");
    }

    #[test]
    fn the_thread_waits_for_a_frame_that_went_past_the_queue() {
        let queue = Arc::new(SendQueue::default());
        queue.set_receiver(true);
        assert!(queue.claim(1));
        assert_eq!(queue.push(frame(2), 4), Push::Taken);
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn({
            let queue = queue.clone();
            move || tell.send(queue.next(LATE))
        });
        assert!(
            told.recv_timeout(SOON).is_err(),
            "the first is not published"
        );
        queue.published();
        assert_eq!(told.recv_timeout(LATE), Ok(Next::Frame(frame(2))));
        assert!(matches!(waiting.join(), Ok(Ok(()))));
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
