//! How long answers are expected to become, by those that were seen: tokens of all answers for each one
//! that ended. Those that go on, or are given up, count with the tokens that they have: short answers end
//! first, so the ones that have ended say too little of the others.

/// What an answer that ended still counts when the next one ends.
const DECAY: f64 = 0.9;

/// The lengths of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths {
    /// Tokens that an answer is expected to have before one has ended.
    prior: f64,
    /// Tokens of answers, and answers that ended: of late.
    n_tokens: f64,
    n_ended: f64,
}

impl Lengths {
    /// Before one was seen: each has its share of the context.
    pub(super) fn new(n_ctx: u32, n_parallel: u32) -> Self {
        Self {
            prior: f64::from(n_ctx) / f64::from(n_parallel.max(1)),
            n_tokens: 0.0,
            n_ended: 0.0,
        }
    }

    /// An answer got `n` tokens more.
    pub(super) fn grew(&mut self, n: usize) {
        self.n_tokens += n as f64;
    }

    /// An answer is complete.
    pub(super) fn ended(&mut self) {
        (self.n_tokens, self.n_ended) = (DECAY * self.n_tokens, DECAY * (self.n_ended + 1.0));
    }

    /// Whether an answer was seen.
    pub(super) fn are_known(&self) -> bool {
        self.n_ended > 0.0
    }

    /// Tokens that an answer of `n_done` tokens is expected to get, where it may get `n_left` more. One that
    /// is as long as most are, or longer, is expected to get a part of their length more: lengths have a
    /// long tail.
    pub(super) fn expected(&self, n_done: usize, n_left: usize) -> usize {
        const TAIL: f64 = 0.25;
        let mean = match self.are_known() {
            true => self.n_tokens / self.n_ended,
            false => self.prior,
        };
        let more = (mean - n_done as f64).max(TAIL * mean);
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
            lengths.grew(80);
            lengths.ended();
        }
        assert_eq!(lengths.expected(0, 500), 80);
    }

    #[test]
    fn those_that_go_on_are_longer_than_the_first_that_end() {
        let mut lengths = Lengths::new(96, 3);
        for _ in 0..4 {
            lengths.grew(40);
        }
        lengths.ended();
        assert_eq!(lengths.expected(0, 500), 160, "one of four has ended");
    }
}
