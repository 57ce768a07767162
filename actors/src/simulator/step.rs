//! A step on its way: its rows at each stage, and when it is there.

use super::costs::Costs;
use crate::message::{StageTiming, StepHeader};
use crate::planning::cost::Work;
use crate::stage::LiveRows;

/// A step and its way through the stages.
#[derive(Default)]
pub(super) struct Step {
    /// What is left of it, from the stage on at which rows were left out; mostly one.
    states: Vec<State>,
    /// When it is at the first stage.
    arrives_ns: u64,
    /// By stage.
    pub(super) passed: Vec<Passed>,
    /// By stage, what it takes longer there beside others; empty where it does not.
    longer_ns: Vec<u64>,
}

/// A step at a stage and on the link behind that, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    arrived_ns: u64,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    /// When the link is free again.
    sent_ns: u64,
}

impl Passed {
    /// How long both computed.
    pub(super) fn overlap_ns(self, other: Passed) -> u64 {
        let ended_ns = self.ended_ns.min(other.ended_ns);
        ended_ns.saturating_sub(self.began_ns.max(other.began_ns))
    }
}

struct State {
    /// The first stage where this holds.
    stage: usize,
    header: StepHeader,
    /// For each row, the tokens that were in its sequence's cache before the step.
    contexts: Vec<u32>,
    work: Work,
}

impl Step {
    /// A step that the first stage begins with, in a cache of which `n_cells` are in use.
    pub(super) fn new(
        header: StepHeader,
        contexts: Vec<u32>,
        n_cells: u32,
        arrives_ns: u64,
    ) -> Self {
        let work = work_of(&header, &contexts, n_cells);
        let state = State {
            stage: 0,
            header,
            contexts,
            work,
        };
        Self {
            states: vec![state],
            arrives_ns,
            passed: Vec::new(),
            longer_ns: Vec::new(),
        }
    }

    /// What a stage computes of it.
    pub(super) fn work_at(&self, stage: usize) -> Work {
        let state = self.states.iter().rfind(|state| state.stage <= stage);
        state.map_or(Work::default(), |state| state.work)
    }

    /// It takes so much longer at a stage from its next [`Step::pass`] on.
    pub(super) fn take_longer(&mut self, stage: usize, ns: u64) {
        let n_stages = self.longer_ns.len().max(stage + 1);
        self.longer_ns.resize(n_stages, 0);
        self.longer_ns[stage] += ns;
    }

    /// Its way from a stage on behind the step before it; what stages had begun with by `now_ns` keeps its rows.
    /// Whether the way is another than it was.
    pub(super) fn pass(
        &mut self,
        (from, now_ns): (usize, u64),
        before: &[Passed],
        gates: &[LiveRows],
        costs: &mut Costs<'_>,
    ) -> bool {
        let old = self.passed.split_off(from);
        let n_begun = old.partition_point(|passed| passed.began_ns <= now_ns);
        self.states
            .retain(|state| state.stage == 0 || state.stage < from + n_begun);
        self.passed.reserve_exact(gates.len() - from);
        for (stage, gate) in gates.iter().enumerate().skip(from) {
            if stage > 0 && stage >= from + n_begun && self.has_dead_rows(stage, gate) {
                self.leave_out_dead_rows(stage, gate);
            }
            let arrived_ns = match stage {
                0 => self.arrives_ns,
                _ => self.passed[stage - 1].sent_ns + costs.delay_ns(stage - 1),
            };
            let work = self.work_at(stage);
            let began_ns = arrived_ns.max(before[stage].ended_ns);
            let longer_ns = self.longer_ns.get(stage).copied().unwrap_or(0);
            let ended_ns = began_ns + costs.stage_ns(stage, work) + longer_ns;
            let sent_ns = before[stage].sent_ns.max(ended_ns) + costs.link_ns(stage, work);
            self.passed.push(Passed {
                arrived_ns,
                began_ns,
                ended_ns,
                sent_ns,
            });
        }
        self.passed[from..] != old
    }

    /// The last stage.
    pub(super) fn last(&self) -> Passed {
        self.passed.last().copied().unwrap_or_default()
    }

    /// Whether a stage has heard of rows that would come to it.
    pub(super) fn has_dead_rows(&self, stage: usize, gate: &LiveRows) -> bool {
        let state = self
            .states
            .iter()
            .rfind(|state| state.stage == 0 || state.stage < stage);
        state.is_some_and(|state| !gate.are_live(&state.header))
    }

    fn leave_out_dead_rows(&mut self, stage: usize, gate: &LiveRows) {
        let Some(state) = self.states.last() else {
            return;
        };
        let mut header = state.header.clone();
        if let Some(kept) = gate.retain(&mut header) {
            let contexts: Vec<u32> = kept.iter().map(|&row| state.contexts[row]).collect();
            let work = work_of(&header, &contexts, state.work.cells);
            self.states.push(State {
                stage,
                header,
                contexts,
                work,
            });
        }
    }

    /// What the last stage was given, with what the stages took; and its way.
    pub(super) fn into_parts(mut self) -> (StepHeader, Vec<Passed>) {
        let mut header = self
            .states
            .pop()
            .map_or_else(StepHeader::default, |state| state.header);
        let timing = |(stage, passed): (u32, &Passed)| StageTiming {
            stage,
            began_us: passed.began_ns / 1000,
            waited_us: (passed.began_ns - passed.arrived_ns) / 1000,
            busy_us: passed.ended_ns / 1000 - passed.began_ns / 1000,
        };
        header.timings = (0..).zip(&self.passed).map(timing).collect();
        (header, self.passed)
    }
}

fn work_of(header: &StepHeader, contexts: &[u32], cells: u32) -> Work {
    Work {
        rows: header.rows.len() as u32,
        row_context: contexts.iter().map(|&context| u64::from(context)).sum(),
        cells,
        logits: header.rows.iter().filter(|row| row.wants_logits).count() as u32,
    }
}
