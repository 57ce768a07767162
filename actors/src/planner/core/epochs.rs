//! Nodes that come and go, faults, and the epochs that cure them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::flight::max_steps;
use super::super::pacing::Pacing;
use super::super::placement::SplitPolicy;
use super::super::sequence::Sequence;
use super::super::step_times::StepTimes;
use super::moves::Cause;
use super::target::Target;
use super::{Phase, PlannerCore};
use crate::NodeId;
use crate::link::Address;
use crate::message::{DraftKind, Message, NodeCommand, NodeReport, StageAssignment};
use crate::request::RequestError;

/// Recoveries in a row without a single new token before the requests are given up: a fault that
/// comes back each time is not cured by replaying.
pub(super) const MAX_RECOVERIES: u32 = 10;

/// Longest time for the stages of a new epoch to load: a slice of tens of gigabytes from a slow
/// disk.
const LOAD_TIMEOUT: Duration = Duration::from_secs(900);

impl PlannerCore {
    pub(in crate::planner) fn node_up(&mut self, node: NodeId, now: Instant) {
        let returned = !self.nodes.insert(node.clone());
        self.target = None;
        self.moves.want(Cause::Nodes);
        let hosts = self.stages.iter().any(|stage| stage.node == node);
        match self.phase {
            Phase::Waiting { .. } | Phase::Failed { .. } => self.start_if_enough(now),
            _ if returned && hosts => self.recover(&format!("node {node} started anew"), now),
            _ if !self.live.is_empty() => {}
            _ => {
                if !self.is_on_target() {
                    self.new_epoch(now);
                }
            }
        }
    }

    pub(in crate::planner) fn node_down(&mut self, node: &NodeId, now: Instant) {
        self.nodes.remove(node);
        self.assigned.remove(node);
        self.target = None;
        self.moves.want(Cause::Nodes);
        if self.drafts_on(node) {
            self.drafts_down(node, DraftKind::Model, "the node is gone");
        }
        if self.stages.iter().any(|stage| stage.node == *node) {
            self.recover(&format!("node {node} is gone"), now);
        }
    }

    pub(in crate::planner) fn node_report(&mut self, report: NodeReport, now: Instant) {
        match report {
            NodeReport::StageReady {
                epoch,
                stage,
                memory,
                ..
            } if epoch == self.epoch => {
                self.ready.insert(stage, memory);
                self.run_if_loaded(now);
            }
            NodeReport::DrafterReady { epoch, .. } if epoch == self.epoch => {
                self.drafter_is_ready = true;
                self.available.model = true;
                self.run_if_loaded(now);
            }
            NodeReport::StageDown {
                epoch,
                stage,
                node,
                why,
                restarting,
            } if epoch == self.epoch => {
                let what = format!("stage {stage} on {node}: {why}");
                if restarting {
                    self.recover(&what, now);
                } else if self.plan_around(&node, stage) {
                    self.recover(&format!("{what}: planning without that memory"), now);
                } else {
                    self.cannot_load(what, now);
                }
            }
            NodeReport::DraftsDown { node, source, why } => {
                self.drafts_failed(&node, source, &why);
                self.run_if_loaded(now);
            }
            NodeReport::StepFault { epoch, node, what }
                if epoch.is_none_or(|epoch| epoch == self.epoch)
                    && self.phase == Phase::Running =>
            {
                self.recover(&format!("{node}: {what}"), now);
            }
            _ => {}
        }
    }

    /// Steps flow when all is loaded.
    fn run_if_loaded(&mut self, now: Instant) {
        let loading = matches!(self.phase, Phase::Loading { .. });
        let has_drafts = self.drafter_is_ready || self.drafter_assignment().is_none();
        if loading && self.ready.len() == self.stages.len() && has_drafts {
            self.phase = Phase::Running;
            self.has_run = true;
            self.moves.loaded(now);
            self.pump(now);
        }
    }

    /// The passing of time: deadlines, repeated commands, closed streams.
    pub(in crate::planner) fn tick(&mut self, now: Instant) {
        let closed = |s: &Sequence| s.sink.is_closed();
        while let Some(at) = self.live.iter().position(closed) {
            self.retire(at);
        }
        self.release(|held| held.until <= now);
        self.give_up_wishes(now);
        match self.phase.clone() {
            Phase::Waiting { since } => self.give_up_waiting(since, now),
            Phase::Loading { since, .. } if now.duration_since(since) > LOAD_TIMEOUT => {
                let missing: Vec<String> = (0..self.stages.len())
                    .filter(|&i| !self.ready.contains_key(&(i as u32)))
                    .map(|i| format!("stage {i} on {}", self.stages[i].node))
                    .collect();
                let what = format!("{} not loaded in {LOAD_TIMEOUT:?}", missing.join(", "));
                self.cannot_load(what, now);
            }
            Phase::Loading { asked, .. } => {
                if now.duration_since(asked) >= Duration::from_millis(self.config.retry_ms) {
                    self.send_assignments(now);
                }
            }
            Phase::Running => match self.flight.overdue(now) {
                Some(waited) => {
                    let what = format!(
                        "no report for {} ms (if the machines are slow: raise step_timeout_ms, or \
                         lower -ub)",
                        waited.as_millis()
                    );
                    self.recover(&what, now);
                }
                None if self.is_time_to_move(now) => self.new_epoch(now),
                None => self.pump(now),
            },
            Phase::Failed { .. } => {}
        }
    }

    /// The Planner is not started again: nobody may wait for it.
    pub(in crate::planner) fn abandon(&mut self) {
        let why = "the planner failed too often";
        self.fail_live(why);
        self.fail_waiting(why, |_| true);
    }

    /// A Planner that was started again: what was in flight is unknown.
    pub(in crate::planner) fn resume(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Running | Phase::Loading { .. }) {
            self.recover("the planner was started again", now);
        }
    }

    /// Starts a new epoch because the old one cannot go on.
    pub(super) fn recover(&mut self, what: &str, now: Instant) {
        tracing::warn!(epoch = %self.epoch, what, n_live = self.live.len(), "recovering");
        what.clone_into(&mut self.last_fault);
        let why = format!(
            "gave up after {MAX_RECOVERIES} recoveries without a new token; the last fault: {what}"
        );
        while let Some(at) = self.live.iter().position(|s| s.n_stalled >= MAX_RECOVERIES) {
            self.fail(at, &RequestError::Cluster(why.clone()));
        }
        self.new_epoch(now);
    }

    /// Places the stages on the nodes there are, and replays every live sequence on them.
    pub(super) fn new_epoch(&mut self, now: Instant) {
        self.epoch = self.epoch.next();
        let Target {
            stages,
            plan,
            why_not,
            ..
        } = self.target().clone();
        if stages != self.stages {
            self.flight.forget_speed();
            self.moves.begin(now);
        }
        self.stages = stages;
        self.plan = plan;
        self.fleet.begin_plan();
        self.pace();
        self.ready.clear();
        self.drafter_is_ready = false;
        self.look_for_drafter();
        self.kv_ops.clear();
        self.free.extend(self.cache.clear());
        self.forget_held();
        self.forget_generations();
        for sequence in &mut self.live {
            sequence.rewind();
        }
        self.times = StepTimes::new(self.plan.clone(), self.stages.len());
        self.flight.restart(self.stages.len() + 1);
        if self.stages.is_empty() {
            self.phase = Phase::Waiting { since: now };
            if let Some(why) = why_not {
                self.cannot_load(why, now);
            }
        } else {
            self.phase = Phase::Loading {
                since: now,
                asked: now,
            };
            self.send_assignments(now);
        }
    }

    fn start_if_enough(&mut self, now: Instant) {
        let enough = if self.has_run {
            1
        } else {
            self.config.wait_nodes.max(1)
        };
        if self.nodes.len() >= enough as usize {
            self.new_epoch(now);
        }
    }

    /// Chunks and micro-batches for the stages of the new epoch. A chunk table takes its time, so one
    /// for the same plan stays: a recovery must not wait for it.
    fn pace(&mut self) {
        let engine = &self.config.engine;
        match (&self.plan, &self.config.split) {
            (Some(plan), SplitPolicy::Planned | SplitPolicy::Pinned(_)) => {
                if !self.pacing.is_of(plan) {
                    self.pacing = Pacing::measured(plan, self.config.chunk, engine.n_ctx);
                }
            }
            _ => self.pacing = Pacing::equal(self.config.chunk),
        }
    }

    /// After a load that failed for good: whether there may be another plan that needs less of the
    /// node.
    fn plan_around(&mut self, node: &NodeId, stage: u32) -> bool {
        let Some(placed) = self.stages.get(stage as usize) else {
            return false;
        };
        if self.plan.is_none() || self.config.split != SplitPolicy::Planned {
            return false;
        }
        self.fleet.shrink(node, placed.layers);
        self.target = None;
        true
    }

    /// Tells each node its stages; nodes without one are told to free what they hold.
    fn send_assignments(&mut self, now: Instant) {
        if let Phase::Loading { asked, .. } = &mut self.phase {
            *asked = now;
        }
        let n_stages = self.stages.len() as u32;
        let mut by_node: BTreeMap<NodeId, Vec<StageAssignment>> = self
            .assigned
            .iter()
            .map(|node| (node.clone(), Vec::new()))
            .collect();
        for (stage, placed) in self.stages.iter().enumerate() {
            by_node
                .entry(placed.node.clone())
                .or_default()
                .push(StageAssignment {
                    stage: stage as u32,
                    n_stages,
                    layers: placed.layers,
                    model: self.config.model.clone(),
                    engine: self.config.engine.clone(),
                    payload_dtype: self.config.payload_dtype,
                    credits: max_steps(n_stages as usize + 1) as u32,
                    medusa: self.config.medusa.clone(),
                });
        }
        let drafter = self.drafter_assignment();
        if let Some((node, _)) = &drafter {
            by_node.entry(node.clone()).or_default();
        }
        self.assigned = self.stages.iter().map(|stage| stage.node.clone()).collect();
        for (node, stages) in by_node {
            let on_node = drafter.as_ref().filter(|(at, _)| *at == node);
            let command = NodeCommand::Assign {
                epoch: self.epoch,
                stages,
                drafter: on_node.map(|(_, assignment)| assignment.clone()),
            };
            self.outbox
                .push((Address::Node(node), Message::Command(command)));
        }
    }

    /// A stage cannot be loaded where it was placed: wait for more nodes if some are missing, else
    /// it is final until the nodes change.
    fn cannot_load(&mut self, why: String, now: Instant) {
        self.last_fault.clone_from(&why);
        if self.nodes.len() < self.config.wait_nodes as usize {
            tracing::warn!(epoch = %self.epoch, why, "the model cannot be loaded yet");
            self.phase = Phase::Waiting { since: now };
            return;
        }
        self.fail_live(&why);
        self.fail_waiting(&why, |_| true);
        self.phase = Phase::Failed { why };
    }

    /// Requests do not wait for nodes for ever.
    fn give_up_waiting(&mut self, since: Instant, now: Instant) {
        let limit = Duration::from_millis(self.config.node_wait_ms);
        let why = format!(
            "{} of {} nodes are there, waited {:.0} s: start `jupiter worker` on another machine{}",
            self.nodes.len(),
            self.config.wait_nodes.max(1),
            limit.as_secs_f64(),
            if self.last_fault.is_empty() {
                String::new()
            } else {
                format!(" ({})", self.last_fault)
            },
        );
        if now.duration_since(since) > limit {
            self.fail_live(&why);
            self.fail_waiting(&why, |waiting| now.duration_since(waiting.since) > limit);
        }
    }
}
