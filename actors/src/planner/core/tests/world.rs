//! A Planner, and a pipeline that exists only as its contract.

use std::collections::{HashMap, VecDeque};

use jupiter_models::engine::{EngineMemory, EngineParams, KeptStates};
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::{SequenceId, Token};

use jupiter_models::profile::{LayerShape, ModelProfile};

use super::super::super::lengths::Lengths;
use super::super::super::{DraftConfig, PlanGoal, Schedule, SplitPolicy};
use super::super::*;
pub(super) use super::asking::{Guessing, Parts};
pub(super) use super::texts::*;
use crate::message::{DraftRequest, HeadsId, NodeCommand, NodeReport, StageAssignment, StepHeader};
use crate::planning::placement::Objective;
use crate::request::SpeculationParams;
use crate::speculation::inflight::VerifierGate;
use crate::{NodeId, PlanEpoch, StepId};

pub(super) const N_CTX: u32 = 96;
pub(super) const N_SEQ: u32 = 3;
pub(super) const N_SPARE: u32 = 3;
pub(super) const N_BRANCHES: u32 = 4;
pub(super) const CHUNK: u32 = 5;
/// Of 256: how often the heads' first guess is right.
pub(super) const HEADS_LUCK: u64 = 150;
/// The same of the draft model's guesses.
pub(super) const DRAFT_LUCK: u64 = 220;
/// How far the heads guess.
pub(super) const N_HEADS: usize = 3;

/// The Planner and what it believes to be a cluster.
pub(super) struct World {
    pub(super) core: PlannerCore,
    pub(super) now: Instant,
    pub(super) epoch: PlanEpoch,
    pub(super) expected: StepId,
    /// The cells of each sequence: tokens, and which cell it is.
    pub(super) kv: HashMap<SequenceId, Vec<(Token, u64)>>,
    pub(super) n_cells: u64,
    pub(super) opened: Vec<SequenceId>,
    pub(super) gates: HashMap<SequenceId, VerifierGate>,
    /// From which generation on the rows of a sequence are computed.
    pub(super) live_from: HashMap<SequenceId, u32>,
    /// In steps before, none of its rows are.
    pub(super) live_from_step: HashMap<SequenceId, StepId>,
    /// Whether cancels come before the steps that were sent earlier, or never.
    pub(super) hears_cancels: bool,
    /// How requests guess.
    pub(super) source: Guessing,
    /// Whether parts of answers leave nothing to others.
    pub(super) parts_are_private: bool,
    /// What the draft model was asked and has not answered.
    pub(super) wishes: VecDeque<DraftRequest>,
    /// The texts that it knows.
    pub(super) told: HashMap<RequestId, Vec<Token>>,
    /// Steps that were sent and not yet answered.
    pub(super) pipeline: VecDeque<StepHeader>,
    pub(super) n_commands: usize,
    /// Whether layers have a state.
    pub(super) has_states: bool,
    /// Forks of sequences that had gone on, which a state cannot give.
    pub(super) n_torn: usize,
    /// What stages take to load, in milliseconds.
    pub(super) load_ms: u64,
}

/// How these clusters run their model.
pub(in crate::planner) fn config() -> PlannerConfig {
    PlannerConfig {
        model: "m".into(),
        model_profile: ModelProfile {
            layers: vec![
                LayerShape {
                    class: 0,
                    weight_bytes: 10,
                    kv_bytes_per_token: 1,
                    state_bytes: 0,
                };
                4
            ],
            embedding_bytes: 0,
            head_bytes: 0,
            tied_head: false,
            buffer_bytes: 0,
            n_embd: 1,
            bytes_per_value: 4.0,
            cuts: Default::default(),
        },
        head: NodeId("n0".into()),
        split: SplitPolicy::PerNode,
        goal: PlanGoal::new(Objective::Ttft, 1024, 1),
        adapts: true,
        wait_nodes: 1,
        n_parallel: N_SEQ,
        n_branches: N_BRANCHES,
        cache_cells: None,
        past: None,
        speculation: SpeculationParams::default(),
        heads: Some(HeadsId::Medusa("heads".into())),
        draft: Some(DraftConfig {
            node: NodeId("n0".into()),
            model: "d".into(),
        }),
        engine: EngineParams {
            n_ctx: N_CTX,
            n_seq_max: N_SEQ + N_BRANCHES + N_SPARE,
            n_batch: CHUNK,
            n_threads: 1,
            type_k: KvDtype::F16,
            type_v: KvDtype::F16,
            flash_attention: true,
            kernels: KernelChoice::Auto,
            n_gpu_layers: 0,
            keeps_states: KeptStates::None,
        },
        chunk: CHUNK,
        schedule: Schedule::Auto,
        tbt_target_ms: None,
        payload_dtype: HiddenDtype::F32,
        step_timeout_ms: 1000,
        node_wait_ms: 5000,
        retry_ms: 100,
    }
}

/// The same where `n` requests run at once, in a context for 2 or 3.
pub(super) fn crowded(n: u32) -> PlannerConfig {
    let mut config = config();
    (config.split, config.n_parallel) = (SplitPolicy::Stages(2), n);
    config.engine.n_seq_max = n + N_BRANCHES + N_SPARE;
    config
}

impl World {
    pub(super) fn new(n_nodes: u32, split: SplitPolicy) -> Self {
        Self::of(n_nodes, PlannerConfig { split, ..config() })
    }

    pub(super) fn crowded(n_nodes: u32, n: u32) -> Self {
        Self::of(n_nodes, crowded(n))
    }

    pub(super) fn of(n_nodes: u32, config: PlannerConfig) -> Self {
        let config = PlannerConfig {
            wait_nodes: n_nodes,
            ..config
        };
        let (now, has_states) = (Instant::now(), config.past == Some(0));
        let mut world = Self {
            core: PlannerCore::new(config, now),
            now,
            epoch: PlanEpoch::default(),
            expected: StepId::default(),
            kv: HashMap::new(),
            n_cells: 0,
            opened: Vec::new(),
            gates: HashMap::new(),
            live_from: HashMap::new(),
            live_from_step: HashMap::new(),
            hears_cancels: true,
            source: Guessing::None,
            parts_are_private: false,
            wishes: VecDeque::new(),
            told: HashMap::new(),
            pipeline: VecDeque::new(),
            n_commands: 0,
            has_states,
            n_torn: 0,
            load_ms: 0,
        };
        for i in 0..n_nodes {
            world.node_up(i);
        }
        world
    }

    pub(super) fn node_up(&mut self, i: u32) {
        self.core.node_up(NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    pub(super) fn node_down(&mut self, i: u32) {
        self.core.node_down(&NodeId(format!("n{i}")), self.now);
        self.settle();
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.core.tick(self.now);
        self.settle();
    }

    /// Takes what the Planner sent: loads at once, queues steps.
    pub(super) fn settle(&mut self) {
        loop {
            let outbox = self.core.take_outbox();
            self.core.tell_clients();
            if outbox.is_empty() {
                return;
            }
            for (to, message) in outbox {
                match (to, message) {
                    (
                        Address::Node(node),
                        Message::Command(NodeCommand::Assign {
                            epoch,
                            stages,
                            drafter,
                        }),
                    ) => {
                        self.n_commands += 1;
                        if drafter.is_some() {
                            let (epoch, node) = (epoch, node.clone());
                            let ready = NodeReport::DrafterReady { epoch, node };
                            self.core.node_report(ready, self.now);
                        }
                        self.load(&node, epoch, stages);
                    }
                    (Address::Stage { epoch, stage: 0 }, Message::Step(step)) => {
                        assert_eq!(epoch, step.header.epoch);
                        self.pipeline.push_back(step.header);
                    }
                    (Address::Node(_), Message::Draft(request)) => self.wishes.push_back(request),
                    (Address::Node(_), Message::Cancel(cancel)) => {
                        let live_from = self.live_from.entry(cancel.seq).or_default();
                        *live_from = cancel.live_from.max(*live_from);
                        let step = self.live_from_step.entry(cancel.seq).or_default();
                        *step = cancel.live_from_step.max(*step);
                    }
                    (to, message) => panic!("unexpected: {message:?} to {to}"),
                }
            }
        }
    }

    pub(super) fn load(&mut self, node: &NodeId, epoch: PlanEpoch, stages: Vec<StageAssignment>) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.expected = StepId::default();
            self.kv.clear();
            self.opened.clear();
            self.gates.clear();
            self.live_from.clear();
            self.live_from_step.clear();
            self.pipeline.clear();
        }
        self.now += Duration::from_millis(self.load_ms);
        for assignment in stages {
            let memory = EngineMemory {
                weights_bytes: 1,
                kv_bytes: 1,
                compute_bytes: 1,
            };
            let (stage, node) = (assignment.stage, node.clone());
            let ready = NodeReport::StageReady {
                epoch,
                stage,
                node,
                memory,
            };
            self.core.node_report(ready, self.now);
        }
    }

    /// Until nobody has anything to do, which is after so many steps at the latest.
    pub(super) fn run(&mut self) {
        let mut n_steps = 0;
        while self.step() || self.draft() {
            n_steps += 1;
            assert!(n_steps < 20_000, "it does not come to an end");
        }
    }

    /// Answers were short until now: many begin beside each other.
    pub(super) fn expects_short_answers(&mut self) {
        self.core.lengths = Lengths::new(1, 1);
    }

    /// Whether the request has a slot.
    pub(super) fn is_live(&self, id: u64) -> bool {
        self.core.live.contains_key(&RequestId(id))
    }
}
