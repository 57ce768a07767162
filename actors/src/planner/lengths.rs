//! How long answers are expected to become, by those that were seen.

/// Of the difference to the answer that is complete now, how much the mean takes on: so the last eight or
/// so count.
const LEARNED: f64 = 0.125;

/// An answer that is as long as most are, or longer, is expected to get so much of their mean length more:
/// lengths have a long tail.
const TAIL: f64 = 0.25;

/// The lengths of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths {
    /// Tokens, of late.
    mean: f64,
}

impl Lengths {
    /// Before one was seen: each has its share of the context.
    pub(super) fn new(n_ctx: u32, n_parallel: u32) -> Self {
        Self {
            mean: f64::from(n_ctx) / f64::from(n_parallel.max(1)),
        }
    }

    /// An answer of `n` tokens is complete.
    pub(super) fn learn(&mut self, n: usize) {
        self.mean += LEARNED * (n as f64 - self.mean);
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
