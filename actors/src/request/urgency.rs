//! How urgent a request is, until when its answer is of use, and on whose account it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    }
}
