//! How many rows share a micro-batch, by what steps take.

use super::step_times::{CostsOf, MAX_ROWS, StepTimes};

/// How many times as fast as otherwise tokens have to come where stages wait: what was measured is true
/// to some percent.
const MIN_GAIN: f64 = 1.05;
/// After so many steps it is tried what all rows take in one micro-batch: what stages take from each other
/// is not known before. Tried again after twice as many each time, up to the second number.
const TRIED_AFTER: u32 = 64;
const TRIED_IN: u32 = 256;
/// Steps of a trial, behind those that are under way when it begins: the first of a shape is slow.
const N_TRIED: u32 = 2;
/// What is expected to take so many times as long is not tried. The expectation may be too high by as much as
/// stages take from each other.
const WORTH_TRYING: f64 = 1.25;

impl StepTimes {
    /// Of `n_streams` sequences that decode a row each, how many share a micro-batch so that most
    /// tokens come: a round takes as long as the slowest stage needs for all micro-batches, or as
    /// the largest needs all around. So of unequal stages the slowest may have enough with fewer of them,
    /// and larger ones; stages that take the memory's bandwidth from each other are best one after the
    /// other, if all `may_be_one` micro-batch. What a row costs in company is measured, so unequal ones may
    /// be best.
    pub(in crate::planner) fn decode_batch_size(
        &self,
        n_streams: u32,
        context: u32,
        cells: u32,
        may_be_one: bool,
    ) -> u32 {
        if n_streams <= 1 {
            return 1;
        }
        let n_stages = self.n_stages() as u32;
        let asked = CostsOf {
            max_rows: n_streams,
            context,
            cells,
            decode_batch_size: 1,
            n_batches: 1,
        };
        let round_ns = |size: u32| {
            let (n_full, n_rest) = (u64::from(n_streams / size), n_streams % size);
            let full = self.costs_of(size, &asked);
            let rest = (n_rest > 0).then(|| self.costs_of(n_rest, &asked));
            let rest_at = |at: usize| rest.as_ref().map_or(0, |rest| rest.servers[at]);
            let servers = full.servers.iter().enumerate();
            let busy = servers.map(|(at, full)| full * n_full + rest_at(at));
            let slowest = busy.max()?;
            let is_alone = size == n_streams;
            Some(if is_alone {
                full.alone
            } else {
                slowest.max(full.around)
            })
        };
        let best_of = |sizes: &mut dyn Iterator<Item = u32>| {
            let rounds = sizes.map(|size| (round_ns(size).unwrap_or(u64::MAX), size));
            rounds.min()
        };
        // At most one micro-batch more than stages, as many as may be in flight.
        let n_batches = |size: u32| n_streams.div_ceil(size);
        let sizes = || (1..=n_streams).filter(|&size| n_batches(size) <= n_stages + 1);
        let all_work =
            best_of(&mut sizes().filter(|&size| n_batches(size) >= n_streams.min(n_stages)));
        // With fewer than stages some of these wait.
        let is_even = |size: u32| size == n_streams.div_ceil(n_batches(size));
        let may_be_one = may_be_one && self.may_share;
        let fewest = if may_be_one { 1 } else { 2 };
        let is_fewer = |&size: &u32| (fewest..n_stages).contains(&n_batches(size)) && is_even(size);
        let some_wait = best_of(&mut sizes().filter(is_fewer));
        let (ns, size) = all_work.or(some_wait).unwrap_or((u64::MAX, n_streams));
        let in_one_ns = || round_ns(n_streams).unwrap_or(u64::MAX) as f64;
        if may_be_one && self.is_to_try(n_streams) && in_one_ns() < WORTH_TRYING * ns as f64 {
            return n_streams;
        }
        match some_wait {
            Some((fewer_ns, fewer)) if fewer_ns as f64 * MIN_GAIN < ns as f64 => fewer,
            _ => size,
        }
    }

    /// Whether all rows are to go in one micro-batch now, to see what they take alone.
    fn is_to_try(&self, rows: u32) -> bool {
        let period = 1 << self.n_seen.max(1).ilog2();
        let since = self.n_seen % period.min(TRIED_IN);
        let most_under_way = self.n_stages() as u32 + 1;
        let is_time = self.n_seen >= TRIED_AFTER && since < most_under_way + N_TRIED;
        is_time && rows as usize <= MAX_ROWS && !self.knows_alone(rows)
    }

    /// Rows of each micro-batch with which `n_rows` of several short texts pass all stages soonest.
    pub(in crate::planner) fn rows_at_once(&self, n_rows: u32) -> u32 {
        if n_rows <= 1 {
            return 1;
        }
        let n_stages = self.n_stages() as u64;
        let costs = self.costs(&CostsOf {
            max_rows: n_rows,
            context: 0,
            cells: 0,
            decode_batch_size: 1,
            n_batches: 1,
        });
        let all_ns = |rows: u32| {
            let slowest = costs.of(rows)?.servers.iter().max()?;
            Some(slowest * (u64::from(n_rows.div_ceil(rows)) + n_stages - 1))
        };
        // Larger ones where it is the same.
        let sizes = (1..=n_rows).rev();
        let best = sizes.min_by_key(|&rows| all_ns(rows).unwrap_or(u64::MAX));
        best.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::step_times::tests::{asked, timing};
    use super::*;
    use crate::message::HeadsTiming;
    use crate::planning::cost::Work;

    #[test]
    fn streams_are_spread_as_the_row_curve_says() {
        let of = |n_stages| StepTimes::new(None, n_stages);
        // Few rows cost what one costs, so as few micro-batches as there are stages, and even ones.
        assert_eq!(of(2).decode_batch_size(6, 0, 0, true), 3);
        assert_eq!(of(2).decode_batch_size(12, 0, 0, true), 6);
        assert_eq!(of(2).decode_batch_size(3, 0, 0, true), 2);
        assert_eq!(of(2).decode_batch_size(1, 0, 0, true), 1);
        // One micro-batch of 4 takes no longer than 2 and 2 all around, but a stage would wait.
        assert_eq!(of(2).decode_batch_size(4, 0, 0, true), 2);
        assert_eq!(of(1).decode_batch_size(4, 0, 0, true), 4);
        // Eight stages: 28 rows are no 8 or 9 equal micro-batches and a smaller one.
        assert_eq!(of(8).decode_batch_size(28, 0, 0, true), 4);
        // What was seen counts more. Kernels work in fours here: 4 and 2 rows.
        let mut dear = of(2);
        for (rows, us) in [(1, 100), (2, 170), (3, 230), (4, 170)] {
            for _ in 0..50 {
                let took = [timing(0, us), timing(1, us)];
                let all = Some(Duration::from_micros(2 * us));
                dear.observe(Work::decode(rows, 0), &took, all, HeadsTiming::default());
            }
        }
        assert_eq!(dear.decode_batch_size(6, 0, 0, true), 4);
    }

    #[test]
    fn where_one_stage_is_slow_it_gets_fewer_and_larger_micro_batches() {
        let with_slow = |slow_us| {
            let mut times = StepTimes::new(None, 4);
            for _ in 0..50 {
                let took = [(0, 2000), (1, 2000), (2, 2000), (3, slow_us)];
                let took = took.map(|(stage, us)| timing(stage, us));
                times.observe(Work::decode(1, 0), &took, None, HeadsTiming::default());
            }
            times
        };
        assert_eq!(StepTimes::new(None, 4).decode_batch_size(8, 0, 0, true), 2);
        // Once around takes twice what the slow stage takes, or one and a half times as long.
        assert_eq!(with_slow(6000).decode_batch_size(8, 0, 0, true), 4);
        assert_eq!(with_slow(12_000).decode_batch_size(8, 0, 0, true), 8);
        let beside_prompts = with_slow(12_000).decode_batch_size(8, 0, 0, false);
        assert_eq!(beside_prompts, 4, "prompts would wait");
    }

    #[test]
    fn stages_that_take_from_each_other_compute_one_after_the_other() {
        let mut times = StepTimes::new(None, 2);
        // Whatever a step has for rows, it takes 100 us alone and `us` beside another one.
        let observe = |times: &mut StepTimes, rows, is_alone: bool, us| {
            let took = [timing(0, us), timing(1, us)];
            let alone_for = is_alone.then(|| Duration::from_micros(2 * us));
            times.observe(
                Work::decode(rows, 0),
                &took,
                alone_for,
                HeadsTiming::default(),
            );
        };
        for _ in 0..TRIED_AFTER - 1 {
            observe(&mut times, 2, false, 160);
        }
        // Nothing says so before all rows were tried in one.
        assert_eq!(times.decode_batch_size(4, 0, 0, true), 2);
        observe(&mut times, 2, false, 160);
        assert_eq!(times.decode_batch_size(4, 0, 0, false), 2);
        assert_eq!(times.decode_batch_size(4, 0, 0, true), 4, "tried");
        assert_eq!(times.decode_batch_size(64, 0, 0, true), 32, "not worth it");
        for _ in 0..10 {
            observe(&mut times, 4, true, 100);
        }
        assert_eq!(times.decode_batch_size(4, 0, 0, true), 4);
        // Not misled by one that was slow because it was the first.
        observe(&mut times, 8, true, 9000);
        for _ in 0..20 {
            observe(&mut times, 8, false, 160);
        }
        let eight = times.costs_of(8, &asked(1, 1));
        assert!(eight.alone < 400_000, "{eight:?}");
        // Where they do not, both compute.
        for _ in 0..50 {
            observe(&mut times, 2, false, 100);
        }
        assert_eq!(times.decode_batch_size(4, 0, 0, true), 2);
    }

    #[test]
    fn short_texts_go_in_a_few_micro_batches() {
        let of = |n_stages| StepTimes::new(None, n_stages);
        assert_eq!(of(1).rows_at_once(48), 48);
        // (2 + 2 - 1) * 26.7 ms; with 16 rows 4 * 21.6.
        assert_eq!(of(2).rows_at_once(48), 24);
        // More stages are filled by smaller ones: (3 + 4 - 1) * 21.6 ms; with 24 rows 5 * 26.7.
        assert_eq!(of(4).rows_at_once(48), 16);
        assert_eq!(of(2).rows_at_once(4), 4);
        assert_eq!(of(2).rows_at_once(0), 1);
    }
}
