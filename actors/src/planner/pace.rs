//! How fast requests are served, by what steps took: from it follows when who waits has an answer.
//!
//! What a step took is the time since the report before it, or since it was sent where nothing was under
//! way: so in a pipeline that is full it is the time of the slowest stage, and in one with a single stream
//! the whole way around.

use std::time::Instant;

use super::batching::RequestRows;

/// The least that an observation counts in the mean of all before it.
const MIN_WEIGHT: f64 = 0.05;

/// The mean of what was observed, of all in the beginning, so that a first step that reads the weights from
/// a disk does not stand for those after it.
#[derive(Debug, Default)]
struct Mean {
    value: f64,
    n: u32,
}

impl Mean {
    fn observe(&mut self, value: f64) {
        self.n = self.n.saturating_add(1);
        self.value += (1.0 / f64::from(self.n)).max(MIN_WEIGHT) * (value - self.value);
    }

    /// None before anything was seen.
    fn get(&self) -> Option<f64> {
        (self.n > 0).then_some(self.value)
    }
}

/// What the cluster takes for each row of a prompt and each token of an answer, as far as it was seen.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Seconds of a row of a prompt.
    row: Mean,
    /// Seconds of a token of an answer, beside those of other answers.
    token: Mean,
    reported: Option<Instant>,
    /// Rows of prompts that were computed since the start.
    pub(super) n_prompt_rows: u64,
    /// Tokens of answers that came since the start.
    pub(super) n_answer_tokens: u64,
}

/// What a request still wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) rows: usize,
    pub(super) tokens: usize,
}

impl Pace {
    /// A step of these parts was reported.
    pub(super) fn observe(&mut self, parts: &[RequestRows], sent: Instant, now: Instant) {
        let since = self.reported.map_or(sent, |at| at.max(sent));
        self.reported = Some(now);
        let seconds = now.duration_since(since).as_secs_f64();
        let of_prompt = parts.iter().filter(|part| part.is_prompt);
        let n_rows: usize = of_prompt.map(|part| part.n_rows).sum();
        let n_tokens = parts
            .iter()
            .filter(|part| part.is_judged && !part.is_prompt);
        let n_tokens = n_tokens.count();
        self.n_prompt_rows += n_rows as u64;
        if parts.iter().any(|part| part.is_dead) {
            return;
        }
        match (n_rows, n_tokens) {
            (0, 0) => {}
            (0, n) => self.token.observe(seconds / n as f64),
            (n, n_tokens) => {
                let of_tokens = self.token.get().unwrap_or_default() * n_tokens as f64;
                self.row.observe((seconds - of_tokens).max(0.0) / n as f64);
            }
        }
    }

    /// Seconds that it takes; none before anything was seen.
    pub(super) fn seconds(&self, of: Demand) -> Option<f64> {
        let row = self.row.get().or(self.token.get())?;
        let token = self.token.get().or(self.row.get())?;
        Some(of.rows as f64 * row + of.tokens as f64 * token)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::RequestId;

    fn part(n_rows: usize, is_prompt: bool) -> RequestRows {
        RequestRows {
            request: RequestId(0),
            n_rows,
            is_prompt,
            is_judged: !is_prompt,
            is_dead: false,
        }
    }

    #[test]
    fn overlapping_steps_count_from_report_to_report_and_mixed_ones_by_what_tokens_take() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        let seconds = |pace: &Pace, rows, tokens| pace.seconds(Demand { rows, tokens });
        assert_eq!(seconds(&pace, 1, 1), None);
        // Two streams of one pipeline: a report each 10 ms, each step under way for 20 ms.
        for n in 0..4 {
            let sent = at(10 * n);
            pace.observe(&[part(1, false)], sent, at(10 * (n + 2)));
        }
        // The first one was alone on its way: 20 ms, and 10 ms each of three others.
        let token = seconds(&pace, 0, 1).unwrap();
        assert!((token - 0.0125).abs() < 1e-6, "{token}");
        let mixed = [part(3, false), part(100, true)];
        pace.observe(&mixed, at(40), at(50 + 100 + (1e3 * token) as u64));
        let row = seconds(&pace, 1, 0).unwrap();
        assert!((row - 1e-3).abs() < 1e-4, "{row}");
        assert_eq!(pace.n_prompt_rows, 100);
    }
}
