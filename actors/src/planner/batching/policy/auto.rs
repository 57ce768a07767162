//! A budget in time. Where nobody decodes, prompts go in the chunks that were planned for them. Beside
//! those that decode, the rule is one inequality of the stages: with `J` micro-batches under way, each of
//! which takes the slowest stage `s`, a stream's next token comes after `max(J * s, once around)`. So
//!
//! - `J` is the least number with which the slowest stage never waits: once around over `s`. More of them
//!   would only make each stream slower, fewer would leave the stage idle;
//! - a micro-batch gets as many rows of prompts as keep that time below what streams were promised, and is
//!   itself back in not much more: when a prompt comes, micro-batches follow each other closely, and what
//!   each takes longer than the one before it the next one waits for;
//! - it gets no more than its share of the prompts there are: equal micro-batches leave no stage idle,
//!   and pieces of a prompt in several of them overlap (Jupiter's intra-sequence pipelined prefill).

use super::super::budget::{Backlog, Memory, Prefill};
use super::super::step_times::StepTimes;
use super::Scheduling;
use crate::planning::cost::Work;

/// Fewest rows of a prompt: it goes on, whatever was promised, and up to a tile of the kernels cost
/// nearly the same.
const FEWEST: usize = 8;
/// What of a micro-batch's time the slowest stage may wait in a round, so that not one more is under way:
/// every stream would wait for all of that one.
const MAY_WAIT: f64 = 0.25;
/// In how many times the target a micro-batch has to be back. With no more than once that, one that follows
/// another closely would carry nothing, and follow as closely the next time.
const PATIENCE: f64 = 1.25;
/// Without a target, what a round takes in which each micro-batch has its share of `--parallel` streams
/// and this part of the largest chunk. A row costs little more there than in a whole chunk.
const CHUNK_SHARE: usize = 4;

/// Rows of those that decode, and of prompts.
pub(in crate::planner::batching) fn rows(
    scheduling: &Scheduling,
    load: &Backlog,
    memory: &Memory,
    times: &StepTimes,
) -> (f64, Prefill) {
    let decode_rows = match load.n_due {
        0 => 0.0,
        _ => decode_rows(load, memory, times),
    };
    let prefill = match (load.n_answering, load.n_prompt) {
        (0, _) => Prefill::Planned,
        (_, 0) => Prefill::AtMost(0),
        _ => Prefill::AtMost(
            Beside {
                load,
                memory,
                times,
            }
            .prompt_rows(scheduling, decode_rows),
        ),
    };
    (decode_rows, prefill)
}

fn decode_rows(load: &Backlog, memory: &Memory, times: &StepTimes) -> f64 {
    let size = decode_batch_size(load, memory, times);
    let n_batches = load.n_decoding.div_ceil(size.max(1));
    match !are_few(load) && load.n_decode_steps >= n_batches {
        true => 0.0,
        false => load.rows_each * size as f64,
    }
}

/// Few sequences may have several steps of guesses under way each.
fn are_few(load: &Backlog) -> bool {
    2 * load.n_decoding <= load.n_stages + 1
}

/// Sequences that decode in one micro-batch, when each has as many rows as the others.
pub(in crate::planner) fn decode_batch_size(
    load: &Backlog,
    memory: &Memory,
    times: &StepTimes,
) -> usize {
    let (n, context) = (load.n_decoding as u32, load.context as u32);
    // Stages that wait would compute prompts; few sequences do not wait for each other.
    let may_be_one = load.n_prompt == 0 && !are_few(load);
    let best = times.decode_batch_size(n, context, memory.n_cells as u32, may_be_one);
    (best as usize).min(memory.n_rows)
}

/// Prompts beside those that decode.
struct Beside<'a> {
    load: &'a Backlog,
    memory: &'a Memory,
    times: &'a StepTimes,
}

impl Beside<'_> {
    /// Rows of prompts in a micro-batch that may have `decode_rows` others.
    fn prompt_rows(&self, scheduling: &Scheduling, decode_rows: f64) -> usize {
        let n_in_flight = self.load.under_way.len();
        // A micro-batch of the default's size says how many are to be under way.
        let n_streams = scheduling.n_parallel.div_ceil(self.load.n_stages.max(1));
        let n_usual = self.memory.n_rows / CHUNK_SHARE;
        let (slowest_ns, around_ns) = self.times.mixed_ns(self.work(n_streams, n_usual));
        let n_jobs = (around_ns / slowest_ns - MAY_WAIT).ceil().max(1.0) as usize;
        let n_decoding = (decode_rows.round() as usize).min(self.load.n_due);
        if n_decoding == 0 && n_in_flight >= n_jobs {
            return 0;
        }
        let round_ns = |(slowest, around): (f64, f64), n: usize| around.max(slowest * n as f64);
        let target = scheduling.tbt_target.map(|target| target.as_nanos() as f64);
        let target_ns = target.unwrap_or_else(|| round_ns((slowest_ns, around_ns), n_jobs));
        // Those that decode may need more micro-batches, or have several steps of guesses under way.
        let n_ahead = n_jobs.max(n_in_flight + 1);
        let stages = self.times.busy_until(&self.load.under_way);
        let keeps = |n_rows| {
            let work = self.work(n_decoding, n_rows);
            round_ns(self.times.mixed_ns(work), n_ahead) <= target_ns
                && self.times.back_ns(&stages, work) <= PATIENCE * target_ns
        };
        let share = self.load.n_prompt_whole.div_ceil(n_jobs).max(FEWEST);
        most(share.min(self.memory.n_rows), keeps).max(FEWEST)
    }

    /// A micro-batch of so many rows.
    fn work(&self, n_decoding: usize, n_prompt: usize) -> Work {
        let row_context = n_decoding * self.load.context + n_prompt * self.load.prompt_context;
        Work {
            rows: (n_decoding + n_prompt) as u32,
            row_context: row_context as u64,
            cells: self.memory.n_cells as u32,
            logits: n_decoding as u32 + u32::from(n_prompt > 0),
        }
    }
}

/// The greatest number up to `limit` for which `holds` is true, where it holds for all smaller ones; 0
/// for none.
fn most(limit: usize, holds: impl Fn(usize) -> bool) -> usize {
    if holds(limit) {
        return limit;
    }
    let (mut good, mut bad) = (0, limit);
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        match holds(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::budget::tests::{MEMORY, load};
    use super::*;

    fn promised(ms: u64) -> Scheduling {
        Scheduling {
            tbt_target: Some(Duration::from_millis(ms)),
            ..Scheduling::default()
        }
    }

    /// Two stages, of which a row takes 11.2 ms each and 64 rows 63.7 ms.
    fn times() -> StepTimes {
        StepTimes::new(None, 2)
    }

    fn with_prompt(n_decoding: usize, n_decode_steps: usize, n_prompt: usize) -> Backlog {
        Backlog {
            n_prompt,
            n_prompt_whole: n_prompt,
            ..load(n_decoding, n_decode_steps)
        }
    }

    #[test]
    fn those_that_decode_are_spread_over_as_many_micro_batches_as_is_best() {
        let of = |load: &Backlog| rows(&promised(1000), load, &MEMORY, &times()).0;
        assert_eq!(of(&load(6, 0)), 3.0);
        assert_eq!(of(&load(6, 1)), 3.0);
        assert_eq!(of(&load(6, 2)), 0.0, "both micro-batches are under way");
        assert_eq!(of(&load(1, 2)), 1.0, "guesses may go behind guesses");
        let waiting = Backlog {
            n_due: 0,
            ..load(6, 0)
        };
        assert_eq!(of(&waiting), 0.0, "all are under way");
        let wide = Backlog {
            rows_each: 4.0,
            ..load(6, 0)
        };
        assert_eq!(of(&wide), 12.0);
    }

    #[test]
    fn no_micro_batch_is_larger_than_the_largest() {
        let one = StepTimes::new(None, 1);
        let small = Memory {
            n_rows: 2,
            ..MEMORY
        };
        assert_eq!(decode_batch_size(&load(8, 0), &small, &one), 2);
        assert_eq!(decode_batch_size(&load(8, 0), &MEMORY, &one), 8);
    }

    #[test]
    fn a_prompt_alone_goes_as_it_was_planned() {
        let (_, prefill) = rows(&promised(1), &with_prompt(0, 0, 500), &MEMORY, &times());
        assert_eq!(prefill, Prefill::Planned);
    }

    fn beside(ms: u64, load: &Backlog) -> usize {
        match rows(&promised(ms), load, &MEMORY, &times()).1 {
            Prefill::AtMost(n) => n,
            Prefill::Planned => usize::MAX,
        }
    }

    #[test]
    fn beside_those_that_decode_a_micro_batch_keeps_their_promise() {
        // Two micro-batches are under way: each may take 30 ms at a stage.
        let n_prompt = beside(60, &with_prompt(8, 0, 2000));
        let ms = |n_rows: usize| times().mixed_ns(Work::chunk(n_rows as u32, 0)).0 / 1e6;
        let n_rows = 4 + n_prompt;
        assert!(ms(n_rows) <= 30.0 && ms(n_rows + 1) > 30.0, "{n_rows}");
        assert_eq!(beside(1, &with_prompt(8, 0, 2000)), FEWEST, "it goes on");
        assert_eq!(beside(60, &with_prompt(8, 2, 2000)), 0, "no third one");
        assert_eq!(beside(60, &load(8, 0)), 0);
        // One stream has three steps of guesses under way, and more behind them.
        let ahead = beside(60, &with_prompt(1, 3, 2000));
        assert!((FEWEST..n_prompt).contains(&ahead), "{ahead}");
        assert!(
            beside(60, &with_prompt(2, 0, 2000)) > n_prompt,
            "fewer rows beside it"
        );
    }

    #[test]
    fn micro_batches_get_equal_shares_of_short_prompts() {
        assert_eq!(beside(1000, &with_prompt(8, 0, 40)), 20);
        assert_eq!(beside(1000, &with_prompt(8, 0, 3)), FEWEST);
        let begun = Backlog {
            n_prompt: 20,
            ..with_prompt(8, 1, 40)
        };
        assert_eq!(beside(1000, &begun), 20, "the second as much as the first");
    }

    #[test]
    fn steps_that_were_slower_carry_fewer_rows() {
        let load = with_prompt(8, 0, 2000);
        let before = beside(60, &load);
        let mut slow = times();
        let timing = |stage| crate::message::StageTiming {
            stage,
            began_us: 0,
            waited_us: 0,
            busy_us: 60_000,
        };
        for _ in 0..50 {
            // The typical curve expects half of that.
            slow.observe_mixed(Work::chunk(28, 0), &[timing(0), timing(1)]);
        }
        let (_, prefill) = rows(&promised(60), &load, &MEMORY, &slow);
        assert!(
            matches!(prefill, Prefill::AtMost(n) if n < before),
            "{prefill:?} {before}"
        );
    }
}
