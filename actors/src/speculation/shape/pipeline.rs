//! What several steps of one sequence in flight bring (PipeInfer, arXiv 2407.11798), by renewal.
//!
//! Steps of k rows follow the draft's likeliest path; at most d are out. The first step of a run
//! holds the last accepted token and k-1 guesses, each further one k guesses. A run ends with the
//! first wrong guess: the verdict that finds it is the start of the next run.
//!
//! ```text
//! step j of a run   leaves at   (j div d) * max(around, d * pace) + (j mod d) * pace, where pace is
//!                   the time of the slowest stage
//!                   verdict     around later
//! goes on           when the k guesses that its verdict judges are right (its own but the first
//!                   row, and the first row of the step behind it)
//! tokens of a run   1 + sum over guesses of P(it and all before it are right)
//! time of a run     sum over j of P(the run ends with step j) * its verdict, and what
//!                   stages still compute for nothing then
//! ```
//! Two stages that need t(k) for k rows, a constant acceptance a and d = 2 give
//! `t(1)/(1-a) * 2 / ((1/(1-a^k) - 1 + 2) t(k))` times plain decoding.

use serde::{Deserialize, Serialize};

use crate::speculation::shape::StepCost;

/// A run goes on with at most this probability: answers end, too.
const SUREST: f64 = 1.0 - 1e-9;

/// Lines of so many rows, so many steps of them in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineShape {
    /// Rows of a step, at least 1.
    pub rows: u32,
    /// Most steps in flight, at least 1.
    pub in_flight: u32,
}

/// What is expected of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Tokens per time over those of plain decoding.
    pub ratio: f64,
    /// Accepted tokens per step that was not computed in vain.
    pub tokens_per_step: f64,
}

/// What lines of `shape.rows` rows with `shape.in_flight` steps out bring. `rates[i]` is how often a
/// guess at depth `i + 1` is right, the last one for all deeper.
pub fn predict(rates: &[f64], cost: &StepCost<'_>, shape: LineShape) -> Prediction {
    let (k, d) = (shape.rows.max(1), shape.in_flight.max(1));
    let (servers, around) = (cost.servers(k), cost.around(k));
    let step = servers.iter().copied().fold(1.0, f64::max);
    let round = around.max(f64::from(d) * step);
    let rate = |depth: u32| {
        let at = (depth.max(1) as usize - 1).min(rates.len().saturating_sub(1));
        rates.get(at).copied().unwrap_or(0.0)
    };
    let (mut tokens, mut time, mut n_steps) = (1.0, in_vain(&servers, around, d), 0.0);
    // Probability that the run reaches step j.
    let mut reaches = 1.0;
    for j in 0..=d {
        // With one step in flight nothing is drafted behind it: the next run begins anew.
        let n_judged = if d == 1 { k - 1 } else { k };
        let (mut goes_on, mut right) = (1.0, 0.0);
        for i in 0..n_judged {
            goes_on *= rate(depth_of(j, i, k, d));
            right += goes_on;
        }
        let goes_on = if d == 1 { 0.0 } else { goes_on.min(SUREST) };
        let verdict = if j < d {
            f64::from(j) * step + around
        } else {
            round + around
        };
        if j < d {
            tokens += reaches * right;
            n_steps += reaches;
            time += reaches * (1.0 - goes_on) * verdict;
            reaches *= goes_on;
        } else {
            // From here on one step is as the other: the number of further ones is geometric.
            let more = goes_on / (1.0 - goes_on);
            let all_d = goes_on.powi(d as i32);
            let rounds = all_d / (1.0 - all_d);
            tokens += reaches * right * (1.0 + more);
            n_steps += reaches * (1.0 + more);
            time += reaches * (verdict + rounds * round + (more - rounds * f64::from(d)) * step);
        }
    }
    Prediction {
        ratio: tokens / time * cost.alone(1),
        tokens_per_step: tokens / n_steps,
    }
}

/// Depth, counted from the last verified token when it was drafted, of guess `i` that the verdict
/// of step `j` judges. Guess `j k + i + 1` of the run; the step that holds it is sent when the
/// verdict of the step `d` before it is there.
fn depth_of(j: u32, i: u32, k: u32, d: u32) -> u32 {
    let guess = u64::from(j) * u64::from(k) + u64::from(i) + 1;
    let holder = guess / u64::from(k);
    let n_verified = (holder + 1).saturating_sub(u64::from(d)) * u64::from(k);
    u32::try_from(guess - n_verified.min(guess - 1)).unwrap_or(u32::MAX)
}

/// How long the first step of the next run waits for dead steps that stages had begun before the
/// cancel came. At each stage step m starts m times the slowest so far after the first; the new step
/// takes the same way, so what it waits there is how much later than `around` the dead one ends.
fn in_vain(servers: &[f64], around: f64, d: u32) -> f64 {
    let (mut before, mut slowest, mut longest) = (0.0, 0.0f64, 0.0f64);
    for &time in servers {
        slowest = slowest.max(time);
        let begun = ((around - before) / slowest).ceil() - 1.0;
        if begun <= f64::from(d) - 1.0 {
            longest = longest.max(begun * slowest + time - around);
        }
        before += time;
    }
    longest
}

/// Deepest guess that is needed: with `in_flight` steps out, the last one's last row.
pub fn deepest(shape: LineShape) -> u32 {
    (shape.rows * shape.in_flight).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::planning::typical::rows_ns;

    /// Two equal stages with the typical row curve: four rows in 1.11 times the time of one.
    fn predict_two_stages(a: f64, rows: u32, in_flight: u32) -> f64 {
        let servers_ns = |rows| vec![rows_ns(rows); 2];
        let around_ns = |rows| 2 * rows_ns(rows);
        let cost = StepCost {
            servers_ns: &servers_ns,
            around_ns: &around_ns,
            alone_ns: &around_ns,
        };
        predict(&[a], &cost, LineShape { rows, in_flight }).ratio
    }

    #[test]
    fn the_limits_of_two_stages() {
        let check = |a, rows, in_flight, expected: f64| {
            let got = predict_two_stages(a, rows, in_flight);
            assert!(
                (got - expected).abs() < 0.01 * expected,
                "{got} for {a} {rows} {in_flight}"
            );
        };
        check(0.8, 1, 1, 1.0);
        check(0.8, 4, 1, 2.666);
        check(0.9, 4, 1, 3.106);
        // The formula above.
        for a in [0.3f64, 0.8, 0.9] {
            let run = 1.0 / (1.0 - a.powi(4)) + 1.0;
            check(a, 4, 2, 11.2 / (1.0 - a) * 2.0 / (run * 12.4));
        }
        check(0.8, 4, 2, 3.353);
        check(0.9, 4, 2, 4.622);
        check(0.0, 4, 2, 0.903);
        // All right: both stages always busy, four tokens a step.
        check(1.0, 4, 2, 4.0 * 2.0 * 11.2 / 12.4);
    }

    #[test]
    fn guesses_count_from_what_is_verified_when_they_are_made() {
        // One at a time: the guesses of a step are 1 .. k-1.
        let depths: Vec<_> = (0..3).map(|i| depth_of(0, i, 4, 1)).collect();
        assert_eq!(depths, [1, 2, 3]);
        // Two in flight: the first two steps are drafted at once, later ones when one more is known.
        let depths = |j| -> Vec<_> { (0..4).map(|i| depth_of(j, i, 4, 2)).collect() };
        assert_eq!(depths(0), [1, 2, 3, 4]);
        assert_eq!(depths(1), [5, 6, 7, 4]);
        assert_eq!(depths(2), [5, 6, 7, 4]);
        assert_eq!(
            deepest(LineShape {
                rows: 4,
                in_flight: 2
            }),
            7
        );
    }
}
