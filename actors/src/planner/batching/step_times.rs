//! What steps of so many rows take, stage by stage: from the profiles where devices were
//! measured, else from a typical row curve, and corrected by what the steps really took.

mod mixed;

use std::sync::Arc;
use std::time::Duration;

use self::mixed::MixedTimes;

use crate::message::{HeadsTiming, StageTiming};
use crate::planner::cluster::fleet::MeasuredPlan;
use crate::planning::cost::{ServerTimes, Work};
use crate::planning::typical::rows_ns;
use crate::speculation::shape::StepCost;

/// Rows whose times are kept one by one; larger steps are left to the profile.
pub(super) const MAX_ROWS: usize = 64;
/// What an observation still counts after the next one.
const DECAY: f64 = 0.9;
/// What is expected counts, in observations.
const PRIOR_WEIGHT: f64 = 0.5;
/// What was seen once is not known: the first of a shape is slow.
const ONCE: f64 = 1.0;
/// What everything counts after an observation of anything: a shape that was slow once (its first step sets
/// things up) is not used any more and never seen again; so it comes to be expected as the others say.
const FADE: f64 = 0.995;

/// A mean in which what was observed earlier counts less.
#[derive(Clone, Copy, Debug, Default)]
struct FadingMean {
    sum: f64,
    weight: f64,
}

impl FadingMean {
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
        if self.weight == 0.0 {
            return prior;
        }
        (self.sum + PRIOR_WEIGHT * prior) / (self.weight + PRIOR_WEIGHT)
    }
}

/// Times of the stages of one plan.
#[derive(Clone, Debug, Default)]
pub(in crate::planner) struct StepTimes {
    plan: Option<Arc<MeasuredPlan>>,
    /// Latencies of the links between the stages, in nanoseconds.
    delays_ns: Vec<u64>,
    /// The ways to the first stage and back from the last one, in nanoseconds.
    ends_ns: u64,
    stages: Vec<StageTimes>,
    /// What a step alone in the pipeline takes beyond what computes.
    overhead: FadingMean,
    /// What guesses beside the Verifier take.
    heads: FadingMean,
    /// Steps that were reported, but for those of one stream alone.
    pub(super) n_seen: u32,
    /// Whether stages may be on one machine; of a measured plan, whether they are known to be.
    pub(super) may_share: bool,
}

/// What one stage takes.
#[derive(Clone, Debug)]
struct StageTimes {
    /// Nanoseconds by rows, while no other stage computes.
    alone: Vec<FadingMean>,
    /// Nanoseconds by rows, while others compute: they may share a memory.
    together: Vec<FadingMean>,
    /// What steps took over what is expected of them.
    scale: FadingMean,
    /// How many times as long steps of any number of rows take while others compute.
    slower_at_all: FadingMean,
    /// What `scale` and `slower_at_all` say now: they are asked for each number of rows.
    scale_now: f64,
    slower_now: f64,
    /// Most rows of a step of which there is a mean.
    most_rows: usize,
    /// Steps in which prompts are computed.
    mixed: MixedTimes,
}

impl Default for StageTimes {
    fn default() -> Self {
        Self {
            alone: vec![FadingMean::default(); MAX_ROWS + 1],
            together: vec![FadingMean::default(); MAX_ROWS + 1],
            scale: FadingMean::default(),
            slower_at_all: FadingMean::default(),
            scale_now: 1.0,
            slower_now: 1.0,
            most_rows: 0,
            mixed: MixedTimes::default(),
        }
    }
}

impl StageTimes {
    /// A step of `rows` took `ns` where `expected` was to be expected.
    fn observe(&mut self, rows: u32, ns: f64, expected: f64, is_alone: bool) {
        self.learn(rows, ns, expected, is_alone);
        self.scale_now = self.scale.get().unwrap_or(1.0);
        // Nothing is faster for others: the first step alone may have been a slow one.
        self.slower_now = self.slower_at_all.get_or(1.0).max(1.0);
    }

    fn learn(&mut self, rows: u32, ns: f64, expected: f64, is_alone: bool) {
        let at = rows as usize;
        let alone_seen = self.alone.iter_mut().take(self.most_rows + 1);
        let together_seen = self.together.iter_mut().take(self.most_rows + 1);
        alone_seen.chain(together_seen).for_each(FadingMean::fade);
        if is_alone {
            self.slower_at_all.fade();
            self.scale.add(ns / expected);
        } else if self.knows_alone(rows) {
            self.slower_at_all.add(ns / self.alone_ns(rows, expected));
        } else {
            self.scale.add(ns / self.slower_now / expected);
        }
        let means = match is_alone {
            true => &mut self.alone,
            false => &mut self.together,
        };
        if let Some(mean) = means.get_mut(at) {
            mean.add(ns);
            self.most_rows = self.most_rows.max(at);
        }
    }

    /// Whether steps of `rows` rows had the stages to themselves of late.
    fn knows_alone(&self, rows: u32) -> bool {
        let seen = self.alone.get(rows as usize);
        seen.is_some_and(|seen| seen.weight > ONCE)
    }

    fn alone_ns(&self, rows: u32, expected: f64) -> f64 {
        let scaled = expected * self.scale_now;
        if rows as usize > self.most_rows {
            return scaled;
        }
        let of = |means: &[FadingMean]| means.get(rows as usize).copied().unwrap_or_default();
        let seen = of(&self.together);
        let together = seen.get_or(scaled * self.slower_now);
        let alone = of(&self.alone).get_or(together / self.slower_now);
        let is_seen = seen.weight > PRIOR_WEIGHT;
        alone.min(if is_seen { together } else { f64::INFINITY })
    }

    fn together_ns(&self, rows: u32, alone_ns: f64) -> f64 {
        let expected = alone_ns * self.slower_now;
        if rows as usize > self.most_rows {
            return expected;
        }
        let seen = self.together.get(rows as usize).copied();
        seen.unwrap_or_default().get_or(expected)
    }
}

impl StepTimes {
    /// For a pipeline of `n_stages`, of which nothing was observed.
    pub(in crate::planner) fn new(plan: Option<Arc<MeasuredPlan>>, n_stages: usize) -> Self {
        let pipeline = plan.as_ref().map(|plan| plan.pipeline());
        let delays_ns = pipeline.as_ref().map_or_else(Vec::new, |pipeline| {
            let links = (1..pipeline.n_servers()).step_by(2);
            links.map(|link| pipeline.delay_ns(link)).collect()
        });
        let neighbours = pipeline.as_ref().map(|pipeline| pipeline.neighbours());
        let share = neighbours.is_none_or(|of| of.iter().any(|others| !others.is_empty()));
        let ends_ns = pipeline.map_or(0, |pipeline| pipeline.entry_ns() + pipeline.return_ns());
        Self {
            plan,
            delays_ns,
            ends_ns,
            stages: vec![StageTimes::default(); n_stages],
            overhead: FadingMean::default(),
            heads: FadingMean::default(),
            n_seen: 0,
            may_share: share && n_stages > 1,
        }
    }

    pub(in crate::planner) fn n_stages(&self) -> usize {
        self.stages.len()
    }

    /// Whether decode steps of `rows` rows had the stages to themselves of late.
    pub(super) fn knows_alone(&self, rows: u32) -> bool {
        self.stages.iter().all(|stage| stage.knows_alone(rows))
    }

    /// A decode step of `work` was reported; `alone_for` is its time from end to end, if it had
    /// the stages to itself; `heads` is what guesses beside the Verifier took.
    pub(in crate::planner) fn observe(
        &mut self,
        work: Work,
        timings: &[StageTiming],
        alone_for: Option<Duration>,
        heads: HeadsTiming,
    ) {
        let is_one_stream = work.rows == 1 && alone_for.is_some();
        self.n_seen = self.n_seen.wrapping_add(u32::from(!is_one_stream));
        let expected = ExpectedTimes::of(self.plan.as_deref(), work);
        for timing in timings {
            let stage = timing.stage as usize;
            if let Some(times) = self.stages.get_mut(stage) {
                let ns = timing.busy_us as f64 * 1e3;
                times.observe(work.rows, ns, expected.stage_ns(stage), alone_for.is_some());
            }
        }
        if let Some(latency) = alone_for {
            let stages = timings.iter().map(|timing| timing.busy_us);
            let busy_us: u64 = stages.chain([heads.told_us, heads.guessed_us]).sum();
            let overhead_ns = latency.as_nanos() as f64 - busy_us as f64 * 1e3;
            self.overhead.add(overhead_ns.max(0.0));
        }
        if heads.guessed_us > 0 {
            self.heads.add(heads.guessed_us as f64 * 1e3);
        }
    }

    /// What steps cost.
    pub(in crate::planner) fn costs(&self, asked: &CostsOf) -> StepCosts {
        let of = |rows| self.costs_of(rows, asked);
        StepCosts {
            rows: (0..=asked.max_rows.max(1)).map(of).collect(),
            heads_ns: self.heads.get().unwrap_or(0.0),
        }
    }

    /// What a step of `rows` rows costs; of none, as of one.
    pub(in crate::planner) fn costs_of(&self, rows: u32, asked: &CostsOf) -> RowCosts {
        let rows = rows.max(1) * asked.decode_batch_size.max(1);
        let work = Work::decode(rows, asked.context).among(asked.cells.max(asked.context));
        let expected = ExpectedTimes::of(self.plan.as_deref(), work);
        let mut servers = Vec::with_capacity(2 * self.stages.len());
        let (mut alone_ns, mut around_ns) = (0.0, 0.0);
        for (at, times) in self.stages.iter().enumerate() {
            let alone = times.alone_ns(rows, expected.stage_ns(at));
            let together = times.together_ns(rows, alone);
            (alone_ns, around_ns) = (alone_ns + alone, around_ns + together);
            servers.push(together as u64);
        }
        let overhead = self
            .overhead
            .get()
            .unwrap_or_else(|| self.ways_ns(&expected));
        let links = 0..self.delays_ns.len();
        servers.extend(links.map(|link| expected.link_ns(link)));
        // Streams that fill the pipeline take turns at the slowest server.
        let slowest = servers.iter().copied().max().unwrap_or(0) as f64;
        let turn = match asked.n_batches {
            0 | 1 => 0.0,
            n => slowest * f64::from(n),
        };
        RowCosts {
            servers,
            around: (around_ns + overhead).max(turn) as u64,
            alone: (alone_ns + overhead).max(turn) as u64,
        }
    }

    /// What the ways between the stages, and to and from them, should take, in nanoseconds.
    fn ways_ns(&self, expected: &ExpectedTimes<'_>) -> f64 {
        let links = self.delays_ns.iter().enumerate();
        let links = links.map(|(link, delay_ns)| expected.link_ns(link) + delay_ns);
        (links.sum::<u64>() + self.ends_ns) as f64
    }
}

/// What stages and links should take for a step, before anything of them was seen.
enum ExpectedTimes<'a> {
    Measured(ServerTimes<'a>),
    /// Nanoseconds of each stage; nothing is known of the links.
    Typical(u64),
}

impl<'a> ExpectedTimes<'a> {
    /// By the plan's profiles, or by a typical curve where there are none.
    fn of(plan: Option<&'a MeasuredPlan>, work: Work) -> Self {
        match plan {
            Some(plan) => Self::Measured(plan.times(work)),
            None => Self::Typical(rows_ns(work.rows)),
        }
    }

    fn stage_ns(&self, stage: usize) -> f64 {
        let ns = match self {
            ExpectedTimes::Measured(times) => times.ns(2 * stage),
            ExpectedTimes::Typical(ns) => *ns,
        };
        ns.max(1) as f64
    }

    /// How long the link behind a stage is busy, in nanoseconds.
    fn link_ns(&self, stage: usize) -> u64 {
        match self {
            ExpectedTimes::Measured(times) => times.ns(2 * stage + 1),
            ExpectedTimes::Typical(_) => 0,
        }
    }
}

/// Which steps' costs are asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct CostsOf {
    /// Most rows.
    pub(in crate::planner) max_rows: u32,
    /// Tokens in the cache before them.
    pub(in crate::planner) context: u32,
    /// Cells of the KV cache that all sequences use.
    pub(in crate::planner) cells: u32,
    /// Streams that share a step and all guess alike: each row stands for so many.
    pub(in crate::planner) decode_batch_size: u32,
    /// Steps of such groups of streams that are under way together.
    pub(in crate::planner) n_batches: u32,
}

/// What steps of 0, 1, 2, ... rows cost.
#[derive(Clone, Debug, Default)]
pub(in crate::planner) struct StepCosts {
    rows: Vec<RowCosts>,
    /// What heads beside the Verifier take beside a step.
    pub(in crate::planner) heads_ns: f64,
}

/// What a source of guesses takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::planner) struct DraftCost {
    /// For each guess, before the step can go.
    pub(in crate::planner) guess_ns: f64,
    /// For the guesses of a step together, before it can go: the way to a draft model and back.
    pub(in crate::planner) request_ns: f64,
    /// For each step, after it.
    pub(in crate::planner) step_ns: f64,
}

/// What a step of one number of rows costs, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(in crate::planner) struct RowCosts {
    /// Stages and links, where others compute too.
    pub(in crate::planner) servers: Vec<u64>,
    /// Once around, where others compute too.
    pub(in crate::planner) around: u64,
    /// Once around alone.
    pub(in crate::planner) alone: u64,
}

impl StepCosts {
    /// Those of `rows` rows, or of the most that were asked for.
    pub(in crate::planner) fn of(&self, rows: u32) -> Option<&RowCosts> {
        self.rows.get(rows as usize).or(self.rows.last())
    }

    /// Calls `choose` with the costs as functions. What the source takes is no part of plain
    /// decoding: one row alone.
    pub(in crate::planner) fn with<T>(
        &self,
        draft: DraftCost,
        choose: impl FnOnce(&StepCost<'_>) -> T,
    ) -> T {
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
pub(super) mod tests;
