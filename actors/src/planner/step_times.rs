//! What decode steps of so many rows take, stage by stage: from the profiles where devices were
//! measured, else from a typical row curve, and corrected by what the steps really took.

use std::sync::Arc;
use std::time::Duration;

use super::fleet::MeasuredPlan;
use crate::message::StageTiming;
use crate::planning::cost::{Pipeline, Work};
use crate::planning::typical::rows_ns;
use crate::speculation::shape::StepCost;

/// Rows whose times are kept one by one; larger steps are left to the profile.
const MAX_ROWS: usize = 64;
/// What an observation still counts after the next one.
const DECAY: f64 = 0.9;
/// What is expected counts, in observations.
const PRIOR_WEIGHT: f64 = 0.5;
/// What everything counts after an observation of anything: a shape that was slow once (its first
/// step sets things up) is not used any more, so it would never be seen again; so it comes to be
/// expected as the others say.
const FADE: f64 = 0.995;
/// A running mean.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum = self.sum * DECAY + value;
        self.weight = self.weight * DECAY + 1.0;
    }

    fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    fn fade(&mut self) {
        self.sum *= FADE;
        self.weight *= FADE;
    }

    /// The mean, where `prior` counts as [`PRIOR_WEIGHT`] observations.
    fn get_or(&self, prior: f64) -> f64 {
        (self.sum + PRIOR_WEIGHT * prior) / (self.weight + PRIOR_WEIGHT)
    }
}

/// Times of the stages of one plan.
#[derive(Clone, Debug, Default)]
pub(super) struct StepTimes {
    plan: Option<Arc<MeasuredPlan>>,
    stages: Vec<StageTimes>,
    /// What a step alone in the pipeline takes beyond the engines' times.
    way: Mean,
    /// The same where Medusa heads guess.
    way_with_heads: Mean,
}

/// What one stage takes.
#[derive(Clone, Debug)]
struct StageTimes {
    /// Nanoseconds by rows, while no other stage computes.
    rows: Vec<Mean>,
    /// What steps took over what is expected of them.
    scale: Mean,
    /// By rows, how many times as long it takes while others compute: they may share a memory.
    slower: Vec<Mean>,
    /// The same over all rows.
    slower_at_all: Mean,
}

impl Default for StageTimes {
    fn default() -> Self {
        Self {
            rows: vec![Mean::default(); MAX_ROWS + 1],
            scale: Mean::default(),
            slower: vec![Mean::default(); MAX_ROWS + 1],
            slower_at_all: Mean::default(),
        }
    }
}

impl StageTimes {
    /// A step of `rows` took `ns` where `expected` was to be expected.
    fn observe(&mut self, rows: u32, ns: f64, expected: f64, is_alone: bool) {
        self.rows
            .iter_mut()
            .chain(&mut self.slower)
            .for_each(Mean::fade);
        let at = rows as usize;
        let is_known = self
            .rows
            .get(at)
            .is_some_and(|seen| seen.weight > PRIOR_WEIGHT);
        if !is_alone && is_known {
            let slower = ns / self.alone_ns(rows, expected);
            self.slower_at_all.add(slower);
            self.slower[at].add(slower);
            return;
        }
        let ns = match is_alone {
            true => ns,
            false => ns / self.slower(rows),
        };
        self.scale.add(ns / expected);
        if let Some(mean) = self.rows.get_mut(at) {
            mean.add(ns);
        }
    }

    fn alone_ns(&self, rows: u32, expected: f64) -> f64 {
        let scaled = expected * self.scale.get().unwrap_or(1.0);
        let seen = self.rows.get(rows as usize).copied().unwrap_or_default();
        seen.get_or(scaled)
    }

    fn slower(&self, rows: u32) -> f64 {
        let seen = self.slower.get(rows as usize).copied().unwrap_or_default();
        seen.get_or(self.slower_at_all.get_or(1.0))
    }
}

impl StepTimes {
    /// For a pipeline of `n_stages`, of which nothing was observed.
    pub(super) fn new(plan: Option<Arc<MeasuredPlan>>, n_stages: usize) -> Self {
        Self {
            plan,
            stages: vec![StageTimes::default(); n_stages],
            way: Mean::default(),
            way_with_heads: Mean::default(),
        }
    }

    pub(super) fn n_stages(&self) -> usize {
        self.stages.len()
    }

    /// A decode step of `work` was reported; `alone_for` is its time from end to end, if it had
    /// the stages to itself. With `has_heads`, Medusa heads guessed at what follows.
    pub(super) fn observe(
        &mut self,
        work: Work,
        timings: &[StageTiming],
        alone_for: Option<Duration>,
        has_heads: bool,
    ) {
        for timing in timings {
            let stage = timing.stage as usize;
            let expected = self.expected_ns(stage, work);
            if let Some(times) = self.stages.get_mut(stage) {
                let ns = timing.busy_us as f64 * 1e3;
                times.observe(work.rows, ns, expected, alone_for.is_some());
            }
        }
        if let Some(latency) = alone_for {
            let busy: u64 = timings.iter().map(|timing| timing.busy_us * 1000).sum();
            let way = match has_heads {
                true => &mut self.way_with_heads,
                false => &mut self.way,
            };
            way.add((latency.as_nanos() as f64 - busy as f64).max(0.0));
        }
    }

    /// What a stage should take, before anything of it was seen.
    fn expected_ns(&self, stage: usize, work: Work) -> f64 {
        let ns = match &self.plan {
            Some(plan) => plan.pipeline().server_ns(2 * stage, work) as f64,
            None => rows_ns(work.rows) as f64,
        };
        ns.max(1.0)
    }

    /// Nanoseconds of a stage alone, and while others compute.
    fn stage_ns(&self, stage: usize, rows: u32, asked: &CostsOf) -> (f64, f64) {
        let work = Work::decode(rows, asked.context).among(asked.cells.max(asked.context));
        let expected = self.expected_ns(stage, work);
        self.stages
            .get(stage)
            .map_or((expected, expected), |times| {
                let alone = times.alone_ns(rows, expected);
                (alone, alone * times.slower(rows))
            })
    }

    /// What steps cost.
    pub(super) fn costs(&self, asked: &CostsOf) -> StepCosts {
        let of = |rows| self.costs_of(rows, asked);
        StepCosts {
            rows: (0..=asked.max_rows.max(1)).map(of).collect(),
            heads_ns: self.heads_ns(),
        }
    }

    /// What a step of `rows` rows costs; of none, as of one.
    pub(super) fn costs_of(&self, rows: u32, asked: &CostsOf) -> RowCosts {
        let links = self.plan.as_ref().map(|plan| plan.pipeline());
        let rows = rows.max(1) * asked.n_alike.max(1);
        let stages = (0..self.stages.len()).map(|at| self.stage_ns(at, rows, asked));
        let (alone, mut together): (Vec<f64>, Vec<f64>) = stages.unzip();
        let way = match (self.way.get().or(self.way_with_heads.get()), &links) {
            (Some(seen), _) => seen,
            (None, Some(pipeline)) => way_ns(pipeline, rows),
            (None, None) => 0.0,
        };
        let (alone_ns, around_ns) = (alone.iter().sum::<f64>(), together.iter().sum::<f64>());
        if let Some(pipeline) = &links {
            let link = |at| pipeline.server_ns(at, Work::decode(rows, asked.context)) as f64;
            together.extend((1..pipeline.n_servers()).step_by(2).map(link));
        }
        // Streams that fill the pipeline take turns at the slowest server.
        let slowest = together.iter().copied().fold(0.0, f64::max);
        let turn = match asked.n_batches {
            0 | 1 => 0.0,
            n => slowest * f64::from(n),
        };
        RowCosts {
            servers: together.iter().map(|&ns| ns as u64).collect(),
            around: (around_ns + way).max(turn) as u64,
            alone: (alone_ns + way).max(turn) as u64,
        }
    }

    /// What Medusa heads take, where both ways were seen.
    fn heads_ns(&self) -> f64 {
        let with = self.way_with_heads.get().zip(self.way.get());
        with.map_or(0.0, |(with, without)| (with - without).max(0.0))
    }
}

/// What the way around takes beside the stages' work.
fn way_ns(pipeline: &Pipeline<'_>, rows: u32) -> f64 {
    let work = Work::decode(rows, 0);
    let links = (1..pipeline.n_servers()).step_by(2);
    let passed = links.map(|link| pipeline.server_ns(link, work) + pipeline.delay_ns(link));
    (passed.sum::<u64>() + pipeline.entry_ns() + pipeline.return_ns()) as f64
}

/// Which steps' costs are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct CostsOf {
    /// Most rows.
    pub(super) max_rows: u32,
    /// Tokens in the cache before them.
    pub(super) context: u32,
    /// Cells of the KV cache that all sequences use.
    pub(super) cells: u32,
    /// Streams that share a step and all guess alike: each row stands for so many.
    pub(super) n_alike: u32,
    /// Steps of such groups of streams that are under way together.
    pub(super) n_batches: u32,
}

/// What steps of 0, 1, 2, ... rows cost.
#[derive(Clone, Debug, Default)]
pub(super) struct StepCosts {
    rows: Vec<RowCosts>,
    /// What Medusa heads take beside a step.
    pub(super) heads_ns: f64,
}

/// What a source of guesses takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DraftCost {
    /// For each guess, before the step can go.
    pub(super) guess_ns: f64,
    /// For the guesses of a step together, before it can go: the way to a draft model and back.
    pub(super) request_ns: f64,
    /// For each step, after it.
    pub(super) step_ns: f64,
}

/// In nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct RowCosts {
    /// Stages and links, where others compute too.
    pub(super) servers: Vec<u64>,
    /// Once around, where others compute too.
    pub(super) around: u64,
    /// Once around alone.
    pub(super) alone: u64,
}

impl StepCosts {
    /// Those of `rows` rows, or of the most that were asked for.
    pub(super) fn of(&self, rows: u32) -> Option<&RowCosts> {
        self.rows.get(rows as usize).or(self.rows.last())
    }

    /// Calls `choose` with the costs as functions. What the source takes is no part of plain
    /// decoding: one row alone.
    pub(super) fn with<T>(&self, draft: DraftCost, choose: impl FnOnce(&StepCost<'_>) -> T) -> T {
        let drafting =
            |rows: u32| (draft.guess_ns * f64::from(rows.saturating_sub(1)) + draft.step_ns) as u64;
        choose(&StepCost {
            servers_ns: &|rows| {
                let mut servers = self.of(rows).map_or_else(Vec::new, |of| of.servers.clone());
                if draft.guess_ns > 0.0 {
                    servers.push((draft.request_ns + draft.guess_ns * f64::from(rows)) as u64);
                }
                if draft.step_ns > 0.0 {
                    servers.push(draft.step_ns as u64);
                }
                servers
            },
            around_ns: &|rows| self.of(rows).map_or(0, |of| of.around) + drafting(rows),
            alone_ns: &|rows| {
                let alone = self.of(rows).map_or(0, |of| of.alone);
                alone + if rows > 1 { drafting(rows) } else { 0 }
            },
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::planner) fn timing(stage: u32, busy_us: u64) -> StageTiming {
        StageTiming {
            stage,
            began_us: 0,
            waited_us: 0,
            busy_us,
        }
    }

    fn asked(n_alike: u32, n_batches: u32) -> CostsOf {
        CostsOf {
            max_rows: 4,
            context: 0,
            cells: 0,
            n_alike,
            n_batches,
        }
    }

    fn near(ns: u64, us: f64) -> bool {
        (ns as f64 / 1e3 - us).abs() < 0.02 * us
    }

    #[test]
    fn what_steps_took_beats_the_typical_curve() {
        let mut times = StepTimes::new(None, 2);
        for _ in 0..100 {
            let took = [timing(0, 100), timing(1, 200)];
            times.observe(
                Work::decode(1, 0),
                &took,
                Some(Duration::from_micros(400)),
                false,
            );
        }
        let costs = times.costs(&asked(1, 1));
        let one = costs.of(1).cloned().unwrap_or_default();
        assert!(
            near(one.servers[0], 100.0) && near(one.servers[1], 200.0),
            "{one:?}"
        );
        assert!(near(one.around, 400.0) && near(one.alone, 400.0), "{one:?}");
        // Four rows were never seen: as the curve says, from what one row takes.
        let four = costs.of(4).cloned().unwrap_or_default();
        assert!(near(four.servers[1], 200.0 * 12.4 / 11.2), "{four:?}");
        for _ in 0..100 {
            let took = [timing(0, 400), timing(1, 800)];
            times.observe(
                Work::decode(4, 0),
                &took,
                Some(Duration::from_micros(1300)),
                false,
            );
        }
        let costs = times.costs(&asked(1, 1));
        let alone = costs.of(4).map_or(0, |of| of.alone);
        assert!((1_200_000..1_400_000).contains(&alone), "{alone}");
    }

    #[test]
    fn stages_that_compute_together_may_take_longer() {
        let mut times = StepTimes::new(None, 2);
        for _ in 0..100 {
            let took = [timing(0, 100), timing(1, 100)];
            times.observe(
                Work::decode(1, 0),
                &took,
                Some(Duration::from_micros(200)),
                false,
            );
            times.observe(
                Work::decode(1, 0),
                &[timing(0, 150), timing(1, 150)],
                None,
                false,
            );
        }
        let costs = times.costs(&asked(1, 1));
        let one = costs.of(1).cloned().unwrap_or_default();
        assert!(near(one.alone, 200.0) && near(one.around, 300.0), "{one:?}");
        assert!(near(one.servers[0], 150.0), "{one:?}");
    }

    #[test]
    fn streams_that_share_a_step_or_fill_the_pipeline_are_counted() {
        let mut times = StepTimes::new(None, 2);
        times.observe(
            Work::decode(1, 0),
            &[timing(0, 100), timing(1, 100)],
            None,
            false,
        );
        let servers = |asked: &CostsOf, rows| times.costs(asked).of(rows).cloned();
        let alone = servers(&asked(1, 1), 4).unwrap_or_default();
        let shared = servers(&asked(4, 1), 1).unwrap_or_default();
        assert_eq!(alone.servers, shared.servers);
        let full = servers(&asked(1, 3), 1).unwrap_or_default();
        assert_eq!(full.alone, full.servers[0] * 3);
    }

    #[test]
    fn heads_cost_what_they_add_to_the_way() {
        let mut times = StepTimes::new(None, 1);
        for (latency, has_heads) in [(130, false), (180, true)] {
            let latency = Some(Duration::from_micros(latency));
            times.observe(Work::decode(1, 0), &[timing(0, 100)], latency, has_heads);
        }
        let costs = times.costs(&asked(1, 1));
        assert!((costs.heads_ns - 50e3).abs() < 1.0);
        let draft = DraftCost {
            step_ns: costs.heads_ns,
            ..DraftCost::default()
        };
        let (plain, around) = costs.with(draft, |cost| ((cost.alone_ns)(1), (cost.around_ns)(1)));
        assert!(
            near(plain, 130.0) && near(around, 180.0),
            "{plain} {around}"
        );
    }
}
