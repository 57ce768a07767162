//! Nodes that come and go, faults, and the epochs that cure them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::batching::chunking::Chunking;
use super::super::batching::step_times::StepTimes;
use super::super::cluster::State;
use super::super::cluster::placement::SplitPolicy;
use super::super::fault;
use super::super::flight::max_steps;
use super::super::live::Live;
use super::PlannerCore;
use crate::NodeId;
use crate::link::Address;
use crate::message::{DraftKind, Message, NodeCommand, NodeReport, StageAssignment};
use crate::request::{FinishReason, RequestError};

/// Recoveries in a row without a single new token before the requests are given up: a fault that
/// comes back each time is not cured by replaying.
pub(super) const MAX_RECOVERIES: u32 = 10;

/// Longest time for the stages of a new epoch to load: a slice of tens of gigabytes from a slow
/// disk.
const LOAD_TIMEOUT: Duration = Duration::from_secs(900);

impl PlannerCore {
    pub(in crate::planner) fn node_up(&mut self, node: NodeId, now: Instant) {
        let returned = self.cluster.add(node.clone());
        match self.cluster.state {
            State::Waiting { .. } | State::Failed { .. } => {
                if self.cluster.has_enough(&self.config) {
                    self.new_epoch(now);
                }
            }
            _ if returned && self.cluster.hosts(&node) => {
                self.recover(&format!("node {node} started anew"), now);
            }
            _ if !self.live.is_empty() => {}
            _ => {
                self.cluster.aim(&self.config);
                if !self.cluster.is_on_target() {
                    self.new_epoch(now);
                }
            }
        }
    }

    pub(in crate::planner) fn node_down(&mut self, node: &NodeId, now: Instant) {
        self.cluster.remove(node);
        if self.drafts_on(node) {
            self.drafts_down(node, DraftKind::Model, false, "the node is gone");
        }
        if self.cluster.hosts(node) {
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
            } if epoch == self.cluster.epoch => {
                self.cluster.loaded(stage, memory);
                self.run_if_loaded(now);
            }
            NodeReport::DrafterReady { epoch, .. } if epoch == self.cluster.epoch => {
                self.sources.model_ready();
                self.run_if_loaded(now);
            }
            NodeReport::StageDown {
                epoch,
                stage,
                node,
                why,
                restarting,
            } if epoch == self.cluster.epoch => {
                let what = format!("stage {stage} on {node}: {why}");
                if restarting {
                    self.recover(&what, now);
                } else if self.cluster.plan_around(&self.config, &node, stage) {
                    self.recover(&format!("{what}: planning without that memory"), now);
                } else {
                    self.cannot_load(what, now);
                }
            }
            NodeReport::DraftsDown { node, source, why } => {
                self.drafts_down(&node, source, true, &why);
                self.run_if_loaded(now);
            }
            NodeReport::StepFault { epoch, node, what }
                if epoch.is_none_or(|epoch| epoch == self.cluster.epoch)
                    && self.cluster.state == State::Running =>
            {
                self.recover(&format!("{node}: {what}"), now);
            }
            _ => {}
        }
    }

    /// Steps flow when all is loaded.
    fn run_if_loaded(&mut self, now: Instant) {
        let has_drafts = self.sources.model_is_ready || self.drafter_assignment().is_none();
        if self.cluster.is_loaded() && has_drafts {
            self.cluster.run(now);
            self.pump(now);
        }
    }

    /// The passing of time: deadlines, repeated commands, closed streams.
    pub(in crate::planner) fn tick(&mut self, now: Instant) {
        let closed = |live: &&Live| live.sequence.sink.is_closed();
        let id = |live: &Live| live.sequence.id;
        while let Some(id) = self.live.values().find(closed).map(id) {
            self.retire(id);
        }
        self.give_up_wishes(now);
        self.give_up_late(now);
        match self.cluster.state {
            State::Waiting { since } => self.give_up_waiting(since, now),
            State::Loading { since, .. } if now.duration_since(since) > LOAD_TIMEOUT => {
                let missing = self.cluster.missing(LOAD_TIMEOUT);
                self.cannot_load(missing, now);
            }
            State::Loading { asked, .. } => {
                if now.duration_since(asked) >= Duration::from_millis(self.config.retry_ms) {
                    self.send_assignments(now);
                }
            }
            State::Running => self.keep_running(now),
            State::Failed { .. } => {}
        }
    }

    /// Replays when a report is overdue, and moves the stages when it is time to.
    fn keep_running(&mut self, now: Instant) {
        if let Some(waited) = self.flight.overdue(now) {
            let what = format!(
                "no report for {} ms (if the machines are slow: raise step_timeout_ms, or \
                 lower -ub)",
                waited.as_millis()
            );
            return self.recover(&what, now);
        }
        self.cluster.watch(&self.config, now);
        let n_cells = (!self.live.is_empty()).then(|| self.n_live_cells());
        let chunk = self.batching.chunking.largest();
        match self.cluster.is_time_to_move(n_cells, chunk, now) {
            true => self.new_epoch(now),
            false => self.pump(now),
        }
    }

    /// The Planner is not started again: nobody may wait for it.
    pub(in crate::planner) fn abandon(&mut self) {
        let why = RequestError::PlannerFailed;
        self.fail_live(&why);
        self.fail_waiting(&why, |_| true);
    }

    /// A Planner that was started again: what was in flight is unknown, and it may have stopped in the
    /// middle of a change.
    pub(in crate::planner) fn resume(&mut self, now: Instant) {
        let is_full = |live: &&Live| live.is_full();
        let id = |live: &Live| live.sequence.id;
        while let Some(id) = self.live.values().find(is_full).map(id) {
            self.complete(id, FinishReason::Length, None, now);
        }
        match self.cluster.state {
            State::Running | State::Loading { .. } => {
                self.recover("the planner was started again", now);
            }
            State::Waiting { .. } | State::Failed { .. } => self.rewind(),
        }
    }

    /// Starts a new epoch because the old one cannot go on.
    pub(super) fn recover(&mut self, what: &str, now: Instant) {
        let epoch = self.cluster.epoch;
        tracing::warn!(%epoch, what, n_live = self.live.len(), "recovering");
        what.clone_into(&mut self.cluster.last_fault);
        let why = RequestError::GaveUp {
            n_recoveries: MAX_RECOVERIES,
            last_fault: what.to_owned(),
        };
        let is_stalled = |live: &&Live| live.sequence.n_stalled >= MAX_RECOVERIES;
        let id = |live: &Live| live.sequence.id;
        while let Some(id) = self.live.values().find(is_stalled).map(id) {
            self.fail(id, &why);
        }
        self.new_epoch(now);
    }

    /// Places the stages on the nodes there are, and replays every live sequence on them.
    pub(super) fn new_epoch(&mut self, now: Instant) {
        let before = self.cluster.stages.clone();
        let why_not = self.cluster.begin_epoch(&self.config, now);
        fault::point();
        let n_stages = self.cluster.stages.len();
        if self.cluster.stages != before {
            self.flight.forget_speed();
        }
        self.cut();
        self.batching.times = StepTimes::new(self.cluster.plan.clone(), n_stages);
        self.sources.model_is_ready = false;
        self.look_for_drafter();
        self.rewind();
        self.flight.restart(n_stages + 1);
        if n_stages > 0 {
            self.send_assignments(now);
        } else if let Some(why) = why_not {
            self.cannot_load(why, now);
        }
    }

    /// Chunks for the stages of the new epoch. A chunk table takes its time, so one for the same plan
    /// stays: a recovery must not wait for it.
    fn cut(&mut self) {
        let (chunk, n_ctx) = (self.config.chunk, self.config.engine.n_ctx);
        let chunking = &mut self.batching.chunking;
        match (&self.cluster.plan, &self.config.split) {
            (Some(plan), SplitPolicy::Planned | SplitPolicy::Pinned(_)) => {
                if !chunking.is_of(plan) {
                    *chunking = Chunking::measured(plan, chunk, n_ctx);
                }
            }
            _ => *chunking = Chunking::equal(chunk),
        }
    }

    /// Tells each node its stages; nodes without one are told to free what they hold.
    fn send_assignments(&mut self, now: Instant) {
        if let State::Loading { asked, .. } = &mut self.cluster.state {
            *asked = now;
        }
        let n_stages = self.cluster.stages.len() as u32;
        let is_there = self.sources.available.heads.is_some();
        let heads = self.config.heads.clone().filter(|_| is_there);
        let mut by_node: BTreeMap<NodeId, Vec<StageAssignment>> = self
            .cluster
            .assigned
            .iter()
            .map(|node| (node.clone(), Vec::new()))
            .collect();
        for (stage, placed) in self.cluster.stages.iter().enumerate() {
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
                    heads: heads.clone(),
                });
        }
        let drafter = self.drafter_assignment();
        if let Some((node, _)) = &drafter {
            by_node.entry(node.clone()).or_default();
        }
        let stages = self.cluster.stages.iter();
        self.cluster.assigned = stages.map(|stage| stage.node.clone()).collect();
        for (node, stages) in by_node {
            let on_node = drafter.as_ref().filter(|(at, _)| *at == node);
            let command = NodeCommand::Assign {
                epoch: self.cluster.epoch,
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
        self.cluster.last_fault.clone_from(&why);
        if self.cluster.nodes.len() < self.config.wait_nodes as usize {
            tracing::warn!(epoch = %self.cluster.epoch, why, "the model cannot be loaded yet");
            self.cluster.state = State::Waiting { since: now };
            return;
        }
        let failed = RequestError::CannotLoad { why: why.clone() };
        self.fail_live(&failed);
        self.fail_waiting(&failed, |_| true);
        self.cluster.state = State::Failed { why };
    }

    /// Requests do not wait for nodes for ever.
    fn give_up_waiting(&mut self, since: Instant, now: Instant) {
        let limit = Duration::from_millis(self.config.node_wait_ms);
        let why = RequestError::TooFewNodes {
            n_nodes: self.cluster.nodes.len(),
            n_wanted: self.config.wait_nodes.max(1),
            waited: limit,
            last_fault: self.cluster.last_fault.clone(),
        };
        if now.duration_since(since) > limit {
            self.fail_live(&why);
            self.fail_waiting(&why, |waiting| now.duration_since(waiting.asked) > limit);
        }
    }
}
