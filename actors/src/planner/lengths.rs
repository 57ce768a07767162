//! How long answers are expected to become, by those that were seen.

/// Answers that count: the first ones all alike, later ones less the longer ago they were complete.
const COUNTED: u32 = 8;

/// An answer that is as long as most are, or longer, is expected to get so much of their mean length more:
/// lengths have a long tail.
const TAIL: f64 = 0.25;

/// The lengths of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths {
    /// Tokens, of late.
    mean: f64,
    n_seen: u32,
}

impl Lengths {
    /// Before one was seen: each has its share of the context.
    pub(super) fn new(n_ctx: u32, n_parallel: u32) -> Self {
        Self {
            mean: f64::from(n_ctx) / f64::from(n_parallel.max(1)),
            n_seen: 0,
        }
    }

    /// An answer of `n` tokens is complete.
    pub(super) fn learn(&mut self, n: usize) {
        self.n_seen = COUNTED.min(self.n_seen + 1);
        self.mean += (n as f64 - self.mean) / f64::from(self.n_seen);
    }

    /// Whether an answer was seen.
    pub(super) fn are_known(&self) -> bool {
        self.n_seen > 0
    }

    /// Tokens that an answer of `n_done` tokens is expected to get, where it may get `n_left` more.
    pub(super) fn expected(&self, n_done: usize, n_left: usize) -> usize {
        let more = (self.mean - n_done as f64).max(TAIL * self.mean);
        (more.ceil() as usize).min(n_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_follows_what_was_seen() {
        let mut lengths = Lengths::new(96, 3);
        assert_eq!(lengths.expected(0, 500), 32);
        assert_eq!(lengths.expected(0, 5), 5, "no more than it may get");
        assert_eq!(lengths.expected(20, 500), 12);
        assert_eq!(lengths.expected(90, 500), 8, "long ones go on");
        for _ in 0..100 {
            lengths.learn(80);
        }
        assert_eq!(lengths.expected(0, 500), 80);
    }
}
