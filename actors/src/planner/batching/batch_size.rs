//! How many rows share a micro-batch, by what steps take.

use super::step_times::{CostsOf, StepTimes};

impl StepTimes {
    /// Of `n_streams` sequences that decode a row each, how many share a micro-batch so that most
    /// tokens come: a round takes as long as the slowest stage needs for all micro-batches, or as
    /// the largest needs all around. What a row costs in company is measured, so unequal ones may be best.
    pub(in crate::planner) fn decode_batch_size(
        &self,
        n_streams: u32,
        context: u32,
        cells: u32,
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
        // Only of the sizes that are possible: with many stages these are few.
        let round_ns = |size: u32| {
            let (n_full, n_rest) = (u64::from(n_streams / size), n_streams % size);
            let (full, rest) = (self.costs_of(size, &asked), self.costs_of(n_rest, &asked));
            let n_rest = u64::from(n_rest.min(1));
            let servers = full.servers.iter().zip(&rest.servers);
            let busy = servers.map(|(full, rest)| full * n_full + rest * n_rest);
            let is_alone = size == n_streams;
            let around = if is_alone { full.alone } else { full.around };
            busy.max().map(|slowest| slowest.max(around))
        };
        // At least as many steps as stages, so that none waits, and at most one more, as many as may
        // be in flight.
        let best_of = |fewest: u32| {
            let is_possible = |n: &u32| (fewest..=n_stages + 1).contains(&n_streams.div_ceil(*n));
            let possible: Vec<u32> = (1..=n_streams).filter(is_possible).collect();
            match possible[..] {
                [only] => Some(only),
                _ => (possible.into_iter()).min_by_key(|&n| round_ns(n).unwrap_or(u64::MAX)),
            }
        };
        // Some numbers cannot be cut so.
        let best = best_of(n_streams.min(n_stages)).or_else(|| best_of(1));
        best.unwrap_or(1)
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

    use super::super::step_times::tests::timing;
    use super::*;
    use crate::planning::cost::Work;

    #[test]
    fn streams_are_spread_as_the_row_curve_says() {
        let of = |n_stages| StepTimes::new(None, n_stages);
        // Few rows cost what one costs, so as few micro-batches as there are stages, and even ones.
        assert_eq!(of(2).decode_batch_size(6, 0, 0), 3);
        assert_eq!(of(2).decode_batch_size(12, 0, 0), 6);
        assert_eq!(of(2).decode_batch_size(3, 0, 0), 2);
        assert_eq!(of(2).decode_batch_size(1, 0, 0), 1);
        // One micro-batch of 4 takes no longer than 2 and 2 all around, but a stage would wait.
        assert_eq!(of(2).decode_batch_size(4, 0, 0), 2);
        assert_eq!(of(1).decode_batch_size(4, 0, 0), 4);
        // Eight stages: 28 rows are no 8 or 9 equal micro-batches and a smaller one.
        assert_eq!(of(8).decode_batch_size(28, 0, 0), 4);
        // What was seen counts more. Kernels work in fours here: 4 and 2 rows.
        let mut dear = of(2);
        for (rows, us) in [(1, 100), (2, 170), (3, 230), (4, 170)] {
            for _ in 0..50 {
                let took = [timing(0, us), timing(1, us)];
                let all = Some(Duration::from_micros(2 * us));
                dear.observe(Work::decode(rows, 0), &took, all, false);
            }
        }
        assert_eq!(dear.decode_batch_size(6, 0, 0), 4);
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
