//! Stages and links: servers that take steps in the order of their arrival, one at a time.
//!
//! ```text
//! Planner --latency--> stage 0 --link: bytes, then latency--> stage 1 ... --latency--> Planner
//! ```
//!
//! What a stage does with a step is what the real one does (rows that were cancelled leave it before
//! it is computed), and what it takes is what [`Costs`] say of the rows that are left. Steps keep their
//! order, so the way of a step through all stages is known when the first one begins with it: two events
//! a step, however many stages there are. When a stage hears later that rows are dead, the ways of the steps
//! that it has not begun with are found again from that stage on. So they are when a step begins beside them on
//! the same machine (`crowd`).

use std::collections::VecDeque;

use jupiter_models::LayerRange;

use super::costs::Costs;
use super::crowd::Crowd;
use super::events::{Event, Events};
use super::memory::KvMemory;
use super::step::{Passed, Step};
use crate::PlanEpoch;
use crate::message::{CancelRows, StepHeader};
use crate::planning::cost::Pipeline;
use crate::planning::profile::Cluster;
use crate::stage::LiveRows;

/// The stages of an epoch, the links between them, and the steps on their way.
pub(super) struct Servers<'a> {
    pub(super) epoch: PlanEpoch,
    cluster: &'a Cluster,
    costs: Costs<'a>,
    crowd: Option<Crowd>,
    /// By stage, what it has heard of dead rows.
    gates: Vec<LiveRows>,
    memory: KvMemory,
    /// Steps that the first stage has not begun with, and when they are there.
    waiting: VecDeque<(StepHeader, u64)>,
    /// The steps that it has begun with, in order.
    steps: VecDeque<Step>,
    /// By stage, the last step that the last stage is done with.
    gone: Vec<Passed>,
    pub(super) stats: ServerStats,
}

/// What the stages did, in all epochs.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerStats {
    /// Time that each stage computed, in nanoseconds.
    pub(super) busy_ns: Vec<u64>,
    /// Rows that the first stage computed.
    pub(super) n_rows: u64,
    /// Most cells of the KV cache that were in use.
    pub(super) most_cells: usize,
}

/// A step that the last stage is done with.
pub(super) struct Computed {
    pub(super) header: StepHeader,
    /// When it was, in nanoseconds.
    pub(super) ended_ns: u64,
}

impl<'a> Servers<'a> {
    /// Stages of an epoch, with empty caches.
    pub(super) fn new(
        cluster: &'a Cluster,
        stages: Vec<(usize, LayerRange)>,
        epoch: PlanEpoch,
        (n_cells, n_seq_max): (u32, u32),
        stats: ServerStats,
    ) -> Self {
        let costs = Costs::new(cluster, stages);
        let n_stages = costs.pipeline().n_stages();
        let mut servers = Self {
            epoch,
            cluster,
            crowd: Crowd::new(costs.pipeline()),
            gates: (0..n_stages).map(|_| LiveRows::new(n_seq_max)).collect(),
            gone: vec![Passed::default(); n_stages],
            costs,
            memory: KvMemory::new(n_cells, n_seq_max),
            waiting: VecDeque::new(),
            steps: VecDeque::new(),
            stats,
        };
        let n_stages = servers.gates.len().max(servers.stats.busy_ns.len());
        servers.stats.busy_ns.resize(n_stages, 0);
        servers
    }

    pub(super) fn costs(&self) -> &Pipeline<'a> {
        self.costs.pipeline()
    }

    /// Takes a step from the Planner: it is at the first stage after the way there.
    pub(super) fn send(&mut self, header: StepHeader, now_ns: u64, events: &mut Events) {
        let arrives_ns = now_ns + self.costs().entry_ns();
        self.waiting.push_back((header, arrives_ns));
        if self.waiting.len() == 1 {
            self.decide_beginning(events);
        }
    }

    /// The first stage begins with the oldest step when both are there.
    fn decide_beginning(&self, events: &mut Events) {
        let before = self.steps.back().map_or(&self.gone, |step| &step.passed);
        if let (Some(&(_, arrives_ns)), Some(before)) = (self.waiting.front(), before.first()) {
            let epoch = self.epoch;
            events.at(arrives_ns.max(before.ended_ns), Event::Begun { epoch });
        }
    }

    /// The first stage begins with the step that waits longest.
    pub(super) fn begin(&mut self, now_ns: u64, events: &mut Events) {
        let Some((mut header, arrived_ns)) = self.waiting.pop_front() else {
            return;
        };
        self.gates[0].retain(&mut header);
        let (contexts, n_cells) = self.remember(&header);
        let mut step = Step::new(header, contexts, n_cells, arrived_ns);
        let before = self.steps.back().map_or(&self.gone, |step| &step.passed);
        step.pass((0, now_ns), before, &self.gates, &mut self.costs);
        self.crowd(&mut step, now_ns, events);
        self.decide_end(&step, events);
        self.steps.push_back(step);
        self.decide_beginning(events);
    }

    /// Lets the new `step` and those under way take longer where they compute at the same time on one machine:
    /// their ways go on later from there.
    fn crowd(&mut self, step: &mut Step, now_ns: u64, events: &mut Events) {
        let Some(crowd) = &self.crowd else {
            return;
        };
        let (mut is_longer, mut changed) = (false, None);
        for (at, before) in self.steps.iter_mut().enumerate() {
            let (own, first) = crowd.delay(self.cluster, step, before);
            is_longer |= own;
            if let Some(first) = first {
                let (_, stage) = changed.get_or_insert((at, first));
                *stage = first.min(*stage);
            }
        }
        if let Some((from, stage)) = changed {
            for at in from..self.steps.len() {
                self.pass_again(at, (stage, now_ns), events);
            }
        }
        if is_longer || changed.is_some() {
            let before = self.steps.back().map_or(&self.gone, |step| &step.passed);
            step.pass((0, now_ns), before, &self.gates, &mut self.costs);
        }
    }

    /// Finds the way of a step again from a stage on. Whether it is another than it was.
    fn pass_again(&mut self, at: usize, from: (usize, u64), events: &mut Events) -> bool {
        let mut step = std::mem::take(&mut self.steps[at]);
        let ends_ns = step.last().ended_ns;
        let before = match at {
            0 => &self.gone,
            _ => &self.steps[at - 1].passed,
        };
        let is_changed = step.pass(from, before, &self.gates, &mut self.costs);
        if step.last().ended_ns != ends_ns {
            self.decide_end(&step, events);
        }
        self.steps[at] = step;
        is_changed
    }

    fn decide_end(&self, step: &Step, events: &mut Events) {
        let epoch = self.epoch;
        events.at(step.last().ended_ns, Event::Computed { epoch });
    }

    /// The next step that the last stage is done with.
    pub(super) fn take_computed(&mut self, now_ns: u64) -> Option<Computed> {
        if self.steps.front()?.last().ended_ns > now_ns {
            return None;
        }
        let step = self.steps.pop_front()?;
        let ended_ns = step.last().ended_ns;
        let (header, passed) = step.into_parts();
        let gone = std::mem::replace(&mut self.gone, passed);
        self.count(&gone, now_ns);
        Some(Computed { header, ended_ns })
    }

    /// Counts what stages computed of a step until now: what is foreseen may never be.
    fn count(&mut self, passed: &[Passed], now_ns: u64) {
        for (sum, passed) in self.stats.busy_ns.iter_mut().zip(passed) {
            *sum += passed.ended_ns.min(now_ns).saturating_sub(passed.began_ns);
        }
    }

    /// What the stages did, where nothing follows.
    pub(super) fn take_stats(&mut self, now_ns: u64) -> ServerStats {
        let gone = std::mem::take(&mut self.gone);
        self.count(&gone, now_ns);
        for step in std::mem::take(&mut self.steps) {
            self.count(&step.passed, now_ns);
        }
        std::mem::take(&mut self.stats)
    }

    /// A stage hears that rows are dead.
    pub(super) fn cancel(
        &mut self,
        stage: usize,
        cancel: CancelRows,
        now_ns: u64,
        events: &mut Events,
    ) {
        let Some(gates) = self.gates.get(stage) else {
            return;
        };
        gates.cancel(cancel);
        // A step meets the gates of the first stage when that begins with it.
        if stage == 0 {
            return;
        }
        let is_late = |step: &Step| step.passed[stage].began_ns <= now_ns;
        let mut is_changed = false;
        for at in self.steps.partition_point(is_late)..self.steps.len() {
            if is_changed || self.steps[at].has_dead_rows(stage, &self.gates[stage]) {
                is_changed = self.pass_again(at, (stage, now_ns), events);
            }
        }
    }

    /// Applies what a step does to the KV cache. For each row, the tokens that were in its sequence's cache
    /// before; and the cells that were in use.
    fn remember(&mut self, header: &StepHeader) -> (Vec<u32>, u32) {
        let memory = &mut self.memory;
        for &op in &header.kv_ops {
            memory.apply(op);
        }
        let n_cells = memory.n_used() as u32;
        let rows = &header.rows;
        let contexts = rows.iter().map(|row| memory.len(row.seq_ids[0]) as u32);
        let contexts = contexts.collect();
        for row in rows {
            memory.compute(&row.seq_ids, row.pos);
        }
        self.stats.n_rows += rows.len() as u64;
        self.stats.most_cells = self.stats.most_cells.max(memory.n_used());
        (contexts, n_cells)
    }
}

/// Lets all steps pass that are under way. When each is back at the Planner, in nanoseconds.
pub(super) fn drain(servers: &mut Servers<'_>, events: &mut Events) -> Vec<u64> {
    let mut back_ns = Vec::new();
    while let Some((now_ns, event)) = events.next() {
        match event {
            Event::Begun { .. } => servers.begin(now_ns, events),
            _ => {
                while let Some(computed) = servers.take_computed(now_ns) {
                    back_ns.push(computed.ended_ns + servers.costs().return_ns());
                }
            }
        }
    }
    back_ns
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
