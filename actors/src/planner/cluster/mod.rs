//! The cluster: which nodes are there, where the stages are, and where they should be.

mod drift;
pub(super) mod fleet;
mod moves;
pub(super) mod placement;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jupiter_models::engine::EngineMemory;

use self::fleet::{Fleet, MeasuredPlan, NodeProfile};
pub(super) use self::moves::{Cause, Moves};
use self::placement::PlacedStage;
use self::target::Target;
use super::{PlannerConfig, SplitPolicy, StageStatus};
use crate::message::StageTiming;
use crate::planning::cost::Work;
use crate::{NodeId, PlanEpoch};

/// Nodes and stages.
pub(super) struct Cluster {
    pub(super) epoch: PlanEpoch,
    pub(super) state: State,
    pub(super) nodes: BTreeSet<NodeId>,
    /// Nodes that were given stages, until they are told to free them.
    pub(super) assigned: BTreeSet<NodeId>,
    pub(super) stages: Vec<PlacedStage>,
    /// What the stages hold that are loaded.
    pub(super) ready: BTreeMap<u32, EngineMemory>,
    /// The plan in force by what was measured, where that is known.
    pub(super) plan: Option<Arc<MeasuredPlan>>,
    /// Whether a model has run: after that, any number of nodes is enough to go on.
    pub(super) has_run: bool,
    pub(super) last_fault: String,
    /// When the stages go where they should be.
    pub(super) moves: Moves,
    /// What was measured of the nodes.
    fleet: Fleet,
    /// Where the stages should be, until nodes or measurements change.
    target: Option<Target>,
}

/// What a cluster is busy with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Too few nodes.
    Waiting { since: Instant },
    /// Stages load or clear.
    Loading { since: Instant, asked: Instant },
    /// Steps flow.
    Running,
    /// The model cannot run on the nodes there are.
    Failed { why: String },
}

impl Cluster {
    pub(super) fn new(config: &PlannerConfig, now: Instant) -> Self {
        Self {
            epoch: PlanEpoch::default(),
            state: State::Waiting { since: now },
            nodes: BTreeSet::new(),
            assigned: BTreeSet::new(),
            stages: Vec::new(),
            ready: BTreeMap::new(),
            plan: None,
            has_run: false,
            last_fault: String::new(),
            moves: Moves::default(),
            fleet: Fleet::new(config),
            target: None,
        }
    }

    /// A node is there; whether it was already.
    pub(super) fn add(&mut self, node: NodeId) -> bool {
        self.target = None;
        self.moves.want(Cause::Nodes);
        !self.nodes.insert(node)
    }

    /// A node is gone.
    pub(super) fn remove(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        self.assigned.remove(node);
        self.target = None;
        self.moves.want(Cause::Nodes);
    }

    /// Whether a node has a stage.
    pub(super) fn hosts(&self, node: &NodeId) -> bool {
        self.stages.iter().any(|stage| stage.node == *node)
    }

    /// What was measured of a node.
    pub(super) fn measured(&mut self, profile: NodeProfile) {
        self.fleet.learn(profile);
        self.target = None;
    }

    /// Compares what a step took with what was predicted: a device may have become slow or fast.
    pub(super) fn observe(&mut self, work: Work, timings: &[StageTiming]) {
        let Some(plan) = &self.plan else {
            return;
        };
        if self.fleet.observe(plan, work, timings) {
            self.target = None;
            self.moves.want(Cause::Speed);
        }
    }

    /// Whether there are nodes enough to begin.
    pub(super) fn has_enough(&self, config: &PlannerConfig) -> bool {
        let n_wanted = match self.has_run {
            true => 1,
            false => config.wait_nodes.max(1),
        };
        self.nodes.len() >= n_wanted as usize
    }

    /// A new epoch on the nodes that are there. What speaks against one, where there is no place for the
    /// stages.
    pub(super) fn begin_epoch(&mut self, config: &PlannerConfig, now: Instant) -> Option<String> {
        self.epoch = self.epoch.next();
        let target = self.target(config).clone();
        if target.stages != self.stages {
            self.moves.begin(now);
        }
        (self.stages, self.plan) = (target.stages, target.plan);
        self.fleet.begin_plan();
        self.ready.clear();
        let (since, asked) = (now, now);
        self.state = match self.stages.is_empty() {
            true => State::Waiting { since },
            false => State::Loading { since, asked },
        };
        target.why_not
    }

    /// A stage is loaded.
    pub(super) fn loaded(&mut self, stage: u32, memory: EngineMemory) {
        self.ready.insert(stage, memory);
    }

    /// Steps flow when all stages are loaded.
    pub(super) fn run(&mut self, now: Instant) {
        self.state = State::Running;
        self.has_run = true;
        self.moves.loaded(now);
    }

    pub(super) fn is_loaded(&self) -> bool {
        matches!(self.state, State::Loading { .. }) && self.ready.len() == self.stages.len()
    }

    /// The stages that are not loaded after so long, in a line.
    pub(super) fn missing(&self, limit: Duration) -> String {
        let stages = self.stages.iter().zip(0..);
        let missing = stages.filter(|(_, i)| !self.ready.contains_key(i));
        let names = missing.map(|(stage, i)| format!("stage {i} on {}", stage.node));
        let names: Vec<String> = names.collect();
        format!("{} not loaded in {limit:?}", names.join(", "))
    }

    /// After a load that failed for good: whether there may be another plan that needs less of the
    /// node.
    pub(super) fn plan_around(
        &mut self,
        config: &PlannerConfig,
        node: &NodeId,
        stage: u32,
    ) -> bool {
        let Some(placed) = self.stages.get(stage as usize) else {
            return false;
        };
        if self.plan.is_none() || config.split != SplitPolicy::Planned {
            return false;
        }
        self.fleet.shrink(node, placed.layers);
        self.target = None;
        true
    }

    pub(super) fn stage_status(&self) -> Vec<StageStatus> {
        let stages = self.stages.iter().zip(0..);
        let status = stages.map(|(stage, i)| StageStatus {
            stage: i,
            node: stage.node.clone(),
            layers: stage.layers,
            memory: self.ready.get(&i).copied(),
        });
        status.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::core::tests::config;
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId(name.into())
    }

    #[test]
    fn an_epoch_begins_on_the_nodes_that_are_there() {
        let (config, now) = (config(), Instant::now());
        let mut cluster = Cluster::new(&config, now);
        assert!(!cluster.has_enough(&config));
        assert_eq!(cluster.begin_epoch(&config, now), None);
        assert_eq!(cluster.state, State::Waiting { since: now });
        assert!(!cluster.add(node("n0")) && !cluster.add(node("n1")));
        assert!(cluster.add(node("n1")), "it was there");
        assert!(!cluster.is_on_target(), "nobody has looked");
        cluster.begin_epoch(&config, now);
        assert_eq!((cluster.epoch, cluster.stages.len()), (PlanEpoch(2), 2));
        let memory = EngineMemory {
            weights_bytes: 1,
            kv_bytes: 1,
            compute_bytes: 1,
        };
        cluster.loaded(0, memory);
        assert!(!cluster.is_loaded());
        assert_eq!(
            cluster.missing(Duration::from_secs(9)),
            "stage 1 on n1 not loaded in 9s"
        );
        cluster.loaded(1, memory);
        assert!(cluster.is_loaded());
        cluster.run(now);
        assert!(cluster.is_on_target() && cluster.hosts(&node("n1")));
        cluster.remove(&node("n1"));
        cluster.aim(&config);
        assert!(!cluster.is_on_target());
    }
}
