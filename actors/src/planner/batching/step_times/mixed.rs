//! What steps take in which prompts are computed: what the profiles or the typical curve say, corrected
//! by what such steps took. Of many different numbers of rows few are ever seen, so those that are about
//! as many share a correction.

use super::super::UnderWay;
use super::{ExpectedTimes, FadingMean, StepTimes};
use crate::message::StageTiming;
use crate::planning::cost::Work;

/// Classes of rows: up to 1, 2, 4, ... 4096 of them.
const N_CLASSES: usize = 13;

/// How many times as long as expected steps of a stage took.
#[derive(Clone, Debug, Default)]
pub(super) struct MixedTimes {
    by_class: [FadingMean; N_CLASSES],
    at_all: FadingMean,
}

fn class_of(rows: u32) -> usize {
    (rows.max(1).ilog2() as usize).min(N_CLASSES - 1)
}

impl StepTimes {
    /// A step of `work`, in which prompts were computed, was reported.
    pub(in crate::planner) fn observe_mixed(&mut self, work: Work, timings: &[StageTiming]) {
        self.n_seen = self.n_seen.wrapping_add(1);
        let expected = ExpectedTimes::of(self.plan.as_deref(), work);
        for timing in timings {
            let stage = timing.stage as usize;
            let slower = timing.busy_us as f64 * 1e3 / expected.stage_ns(stage);
            if let Some(times) = self.stages.get_mut(stage) {
                times.mixed.by_class[class_of(work.rows)].add(slower);
                times.mixed.at_all.add(slower);
            }
        }
    }

    /// Nanoseconds of `work` on the slowest stage or link, and once around.
    pub(in crate::planner) fn mixed_ns(&self, work: Work) -> (f64, f64) {
        let expected = ExpectedTimes::of(self.plan.as_deref(), work);
        let stages = (0..self.n_stages()).map(|stage| self.mixed_stage_ns(stage, work, &expected));
        let (slowest, around) = stages.fold((1.0_f64, 0.0), |(slowest, around), ns| {
            (slowest.max(ns), around + ns)
        });
        let links = (0..self.delays_ns.len()).map(|link| expected.link_ns(link) as f64);
        let slowest = links.fold(slowest, f64::max);
        (slowest, around + self.overhead_ns(&expected))
    }

    /// When each stage will have computed what is `under_way`, in nanoseconds from now on.
    pub(in crate::planner) fn busy_until(&self, under_way: &[UnderWay]) -> Vec<f64> {
        let mut until = vec![f64::NEG_INFINITY; self.n_stages()];
        for step in under_way {
            let expected = ExpectedTimes::of(self.plan.as_deref(), step.work);
            self.pass(&mut until, -(step.since_ns as f64), step.work, &expected);
            // It is not back yet.
            if let Some(last) = until.last_mut() {
                *last = last.max(0.0);
            }
        }
        until
    }

    /// When `work` is back that is sent now, to stages that are busy until then, in nanoseconds.
    pub(in crate::planner) fn back_ns(&self, busy_until: &[f64], work: Work) -> f64 {
        let expected = ExpectedTimes::of(self.plan.as_deref(), work);
        let mut until = busy_until.to_vec();
        let done = self.pass(&mut until, 0.0, work, &expected);
        let links = (0..self.n_stages()).map(|stage| self.link_ns(stage, &expected));
        let links: f64 = links.map(|(busy, delay)| busy + delay).sum();
        done + (self.overhead_ns(&expected) - links).max(0.0)
    }

    /// Moves `work` that is sent at `now` through all stages, which are busy until they are done with it.
    fn pass(
        &self,
        busy_until: &mut [f64],
        now: f64,
        work: Work,
        expected: &ExpectedTimes<'_>,
    ) -> f64 {
        let mut arrives = now;
        for (stage, until) in busy_until.iter_mut().enumerate() {
            *until = arrives.max(*until) + self.mixed_stage_ns(stage, work, expected);
            let (busy, delay) = self.link_ns(stage, expected);
            arrives = *until + busy + delay;
        }
        arrives
    }

    fn mixed_stage_ns(&self, stage: usize, work: Work, expected: &ExpectedTimes<'_>) -> f64 {
        let expected = expected.stage_ns(stage);
        self.stages.get(stage).map_or(expected, |times| {
            // Until such steps are seen, as those that decode.
            let decoding = times.scale.get_or(1.0) * times.slower_now;
            let at_all = times.mixed.at_all.get().unwrap_or(decoding);
            expected * times.mixed.by_class[class_of(work.rows)].get_or(at_all)
        })
    }

    /// How long the link behind a stage is busy, and how long what it carries is under way after that.
    fn link_ns(&self, stage: usize, expected: &ExpectedTimes<'_>) -> (f64, f64) {
        let delay = self.delays_ns.get(stage).map_or(0.0, |&ns| ns as f64);
        (expected.link_ns(stage) as f64, delay)
    }

    /// What the way around takes beside the stages' work.
    fn overhead_ns(&self, expected: &ExpectedTimes<'_>) -> f64 {
        let seen = self.overhead.get().unwrap_or(0.0);
        seen.max(self.ways_ns(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::timing;
    use super::*;

    #[test]
    fn steps_with_prompts_are_expected_as_such_steps_were() {
        let mut times = StepTimes::new(None, 2);
        let work = |rows| Work::chunk(rows, 0);
        let near = |got: f64, ms: f64| (got / ms / 1e6 - 1.0).abs() < 0.02;
        // Once around takes both stages' time.
        let (slowest, around) = times.mixed_ns(work(32));
        assert!(near(slowest, 33.2) && near(around, 66.4));
        for _ in 0..50 {
            times.observe_mixed(work(40), &[timing(0, 20_300), timing(1, 81_200)]);
        }
        // 40.6 ms were expected. What is about as large is expected to take half and twice as long; of
        // other sizes it is known that steps were slower.
        let (slowest, around) = times.mixed_ns(work(32));
        assert!(
            near(slowest, 66.4) && near(around, 83.0),
            "{slowest} {around}"
        );
        let (slowest, _) = times.mixed_ns(work(128));
        assert!(near(slowest, 251.4), "{slowest}");
    }

    #[test]
    fn what_is_under_way_holds_up_what_comes_behind_it() {
        let times = StepTimes::new(None, 2);
        let (large, small) = (Work::chunk(32, 0), Work::decode(1, 0));
        let back_ms = |under_way: &[UnderWay]| {
            let until = times.busy_until(under_way);
            times.back_ns(&until, small) / 1e6
        };
        let since = |ms: u64| UnderWay {
            work: large,
            since_ns: ms * 1_000_000,
        };
        // Behind 33.2 ms at each stage; at the second one, when it has begun there.
        let near = |got: f64, ms: f64| assert!((got - ms).abs() < 1e-3, "{got} {ms}");
        near(back_ms(&[]), 22.4);
        near(back_ms(&[since(0)]), 2.0 * 33.2 + 11.2);
        near(back_ms(&[since(60)]), 22.4);
        // It should be back for long, and is not.
        near(back_ms(&[since(500)]), 22.4);
    }
}
