//! How urgent a request is, until when its answer is of use, and on whose account it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RequestError;

/// How urgent a request is, from 0, the most urgent, to 7; as zenoh and vLLM count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// The least urgent.
    pub const LOWEST: Self = Self(7);

    /// None beyond [`Priority::LOWEST`].
    pub fn new(level: u8) -> Option<Self> {
        (level <= Self::LOWEST.0).then_some(Self(level))
    }

    /// 0 to 7.
    pub fn level(self) -> u8 {
        self.0
    }
}

impl TryFrom<i64> for Priority {
    type Error = RequestError;

    fn try_from(priority: i64) -> Result<Self, RequestError> {
        let level = u8::try_from(priority).ok().and_then(Self::new);
        level.ok_or(RequestError::NoSuchPriority { priority })
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(4)
    }
}

/// Until when an answer is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// What has to be there by then.
    pub kind: DeadlineKind,
    /// Counted from when the request comes to the Planner; more than nothing.
    pub within: Duration,
}

impl Deadline {
    /// What has to be there within so many milliseconds.
    ///
    /// # Errors
    /// When it is over already.
    pub fn new(kind: DeadlineKind, within_ms: i64) -> Result<Self, RequestError> {
        match u64::try_from(within_ms) {
            Ok(ms) if ms > 0 => Ok(Self {
                kind,
                within: Duration::from_millis(ms),
            }),
            _ => Err(RequestError::DeadlineInThePast { within_ms }),
        }
    }
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineKind {
    /// The whole answer.
    #[default]
    Answer,
    /// The first token of the answer.
    FirstToken,
}

/// Whose request it is: clients take turns, however many requests each has waiting. Whoever hands
/// requests to the Planner numbers those it asks for; the default is the program of the Planner itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_are_eight_priorities_and_the_least_number_is_the_most_urgent() {
        let all: Vec<Priority> = (0..=u8::MAX).filter_map(Priority::new).collect();
        assert_eq!(all.len(), 8);
        assert_eq!(all.last(), Some(&Priority::LOWEST));
        assert!(all.is_sorted() && all[4] == Priority::default());
        assert_eq!(Priority::try_from(7), Ok(Priority::LOWEST));
        for priority in [-1, 8, 9, 256] {
            let refused = Priority::try_from(priority).unwrap_err();
            assert_eq!(refused, RequestError::NoSuchPriority { priority });
        }
    }

    #[test]
    fn a_deadline_is_to_come() {
        let deadline = Deadline::new(DeadlineKind::Answer, 1).unwrap();
        assert_eq!(deadline.within, Duration::from_millis(1));
        for within_ms in [0, -5] {
            let refused = Deadline::new(DeadlineKind::Answer, within_ms).unwrap_err();
            assert_eq!(refused, RequestError::DeadlineInThePast { within_ms });
        }
    }
}
