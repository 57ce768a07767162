//! A motion: velocities, each for its time.
//!
//! A robot takes a velocity as one for the next moment, and stops where no other comes. So each is said
//! ten times a second, and the last part, which stands still, once. A new motion takes the place of the
//! one before; the end of the node ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ros2::node::Publisher;

/// Time between two messages: half of what controllers of robots wait for one (0.25 to 0.5 s) at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// A message, and how long it holds; one without a time is said once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TimedMessage {
    pub(super) message: Value,
    pub(super) seconds: f64,
}

impl TimedMessage {
    /// What is told of it.
    pub(super) fn told(&self) -> Value {
        json!({ "message": self.message, "seconds": self.seconds })
    }
}

/// Where motions go.
pub(super) struct Motion(Arc<Shared>);

struct Shared {
    publisher: Publisher,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which motion it is; an older one says nothing any more.
    n: u64,
    is_moving: bool,
    /// Nothing moves any more.
    is_closed: bool,
}

impl Motion {
    pub(super) fn new(publisher: Publisher) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { publisher, state }))
    }

    /// Begins a motion, whose last part stands still. Its first message is out when this returns.
    pub(super) fn begin(&self, parts: Vec<TimedMessage>) {
        let n = {
            let mut state = self.0.state();
            if state.is_closed {
                return;
            }
            state.n += 1;
            state.is_moving = true;
            if let Some(first) = parts.first() {
                self.0.publisher.publish(&first.message);
            }
            state.n
        };
        tokio::spawn(self.0.clone().go_on(n, parts));
    }

    /// Ends the motion: the robot stands still.
    pub(super) fn halt(&self) {
        self.end(false);
    }

    /// The same, and no other begins.
    pub(super) fn close(&self) {
        self.end(true);
    }

    fn end(&self, is_last: bool) {
        let mut state = self.0.state();
        state.n += 1;
        state.is_closed |= is_last;
        if std::mem::take(&mut state.is_moving) {
            self.0.publisher.publish(&json!({}));
        }
    }
}

impl Drop for Motion {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// The rest of a motion, behind its first message.
    async fn go_on(self: Arc<Self>, n: u64, parts: Vec<TimedMessage>) {
        let (mut begin, mut is_first) = (Instant::now(), true);
        for part in parts {
            let end = begin + Duration::from_secs_f64(part.seconds);
            let mut at = begin;
            loop {
                tokio::time::sleep_until(at).await;
                if !std::mem::take(&mut is_first) && !self.say(n, &part.message) {
                    return;
                }
                at += INTERVAL;
                if at >= end {
                    break;
                }
            }
            begin = end;
        }
        tokio::time::sleep_until(begin).await;
        let mut state = self.state();
        if state.n == n {
            state.is_moving = false;
        }
    }

    /// Whether it is still this motion's turn.
    fn say(&self, n: u64, message: &Value) -> bool {
        // Held while it is sent, so that a motion that has ended says nothing behind its end.
        let state = self.state();
        let is_its_turn = state.n == n;
        if is_its_turn {
            self.publisher.publish(message);
        }
        is_its_turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
