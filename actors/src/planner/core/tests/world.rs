//! A Planner, and a pipeline that exists only as its contract.

use std::collections::{HashMap, VecDeque};

use jupiter_models::engine::{EngineMemory, EngineParams};
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::{SequenceId, Token};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use jupiter_models::profile::{LayerShape, ModelProfile};

use super::super::super::{DraftConfig, PlanGoal, SplitPolicy};
use super::super::*;
pub(super) use super::texts::*;
use crate::message::{DraftRequest, NodeCommand, NodeReport, StageAssignment, StepHeader};
use crate::planning::placement::Objective;
use crate::request::{
    Branch, Deadline, DraftChoice, ForkRequest, GenerateRequest, Oracle, SpeculationParams,
};
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
    /// Whether branches ask to hold their cells.
    pub(super) branches_hold: bool,
    /// What the draft model was asked and has not answered.
    pub(super) wishes: VecDeque<DraftRequest>,
    /// The texts that it knows.
    pub(super) told: HashMap<RequestId, Vec<Token>>,
    /// Steps that were sent and not yet answered.
    pub(super) pipeline: VecDeque<StepHeader>,
    pub(super) n_commands: usize,
    /// What stages take to load, in milliseconds.
    pub(super) load_ms: u64,
}

/// What comes of several branches.
pub(super) struct Forked {
    pub(super) whole: UnboundedReceiver<StreamEvent>,
    /// Prompts and events.
    pub(super) branches: Vec<(Vec<Token>, UnboundedReceiver<StreamEvent>)>,
}

/// How requests guess.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Guessing {
    None,
    /// An oracle that is right so often.
    Oracle(f64),
    /// Heads, a draft model, and what stood in the text before.
    Auto,
    /// The draft model alone.
    Model,
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
                };
                4
            ],
            embedding_bytes: 0,
            head_bytes: 0,
            tied_head: false,
            buffer_bytes: 0,
            n_embd: 1,
            bytes_per_value: 4.0,
        },
        head: NodeId("n0".into()),
        split: SplitPolicy::PerNode,
        goal: PlanGoal::new(Objective::Ttft, 1024, 1),
        adapts: true,
        wait_nodes: 1,
        n_parallel: N_SEQ,
        n_branches: N_BRANCHES,
        speculation: SpeculationParams::default(),
        medusa: Some("heads".into()),
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
            keeps_states: false,
        },
        chunk: CHUNK,
        payload_dtype: HiddenDtype::F32,
        step_timeout_ms: 1000,
        node_wait_ms: 5000,
        retry_ms: 100,
    }
}

impl World {
    pub(super) fn new(n_nodes: u32, split: SplitPolicy) -> Self {
        let config = PlannerConfig {
            split,
            wait_nodes: n_nodes,
            ..config()
        };
        let now = Instant::now();
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
            branches_hold: false,
            wishes: VecDeque::new(),
            told: HashMap::new(),
            pipeline: VecDeque::new(),
            n_commands: 0,
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

    pub(super) fn ask(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, Some(n));
        self.submit(request)
    }

    pub(super) fn request(&self, id: u64, prompt: &[Token], n: Option<u32>) -> GenerateRequest {
        GenerateRequest {
            n_predict: n,
            speculation: Some(self.speculation(id, prompt)),
            ..GenerateRequest::new(RequestId(id), prompt.to_vec())
        }
    }

    pub(super) fn submit(&mut self, request: GenerateRequest) -> UnboundedReceiver<StreamEvent> {
        let (sink, events) = unbounded_channel();
        self.core.generate(request, sink, self.now);
        self.settle();
        events
    }

    /// Asks for as many tokens as fit.
    pub(super) fn ask_for_all(
        &mut self,
        id: u64,
        prompt: &[Token],
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, None);
        self.submit(request)
    }

    /// Asks without leave to keep the cells, but for a request that follows.
    pub(super) fn ask_holding(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            holds: true,
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for what follows request `follows`.
    pub(super) fn follow(
        &mut self,
        id: u64,
        follows: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            follows: Some(RequestId(follows)),
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for a branch after each of `suffixes`, behind `shared`; the branches have the ids after
    /// `id`.
    pub(super) fn fork(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: u32,
    ) -> Forked {
        self.fork_within(id, shared, suffixes, Some(n), None)
    }

    /// The same for as many tokens as fit.
    pub(super) fn fork_for_all(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
    ) -> Forked {
        self.fork_within(id, shared, suffixes, None, None)
    }

    /// The same with these bounds.
    pub(super) fn fork_within(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: Option<u32>,
        deadline: Option<Deadline>,
    ) -> Forked {
        let (sink, whole) = unbounded_channel();
        let mut branches = Vec::new();
        let mut asked = Vec::new();
        for (suffix, id) in suffixes.iter().zip(id + 1..) {
            let (sink, events) = unbounded_channel();
            let prompt = [shared, suffix].concat();
            let request = GenerateRequest {
                holds: self.branches_hold,
                ..self.request(id, &prompt, n)
            };
            branches.push(Branch { request, sink });
            asked.push((prompt, events));
        }
        let request = ForkRequest {
            deadline,
            ..ForkRequest::new(RequestId(id), shared.len(), branches)
        };
        self.core.fork(request, sink, self.now);
        self.settle();
        Forked {
            whole,
            branches: asked,
        }
    }

    pub(super) fn speculation(&self, seed: u64, prompt: &[Token]) -> SpeculationParams {
        let source = match self.source {
            Guessing::None => DraftChoice::None,
            Guessing::Auto => DraftChoice::Auto,
            Guessing::Model => DraftChoice::Model,
            Guessing::Oracle(acceptance) => DraftChoice::Oracle(Oracle {
                truth: [prompt, &expected(prompt, N_CTX)].concat().into(),
                n_vocab: 1000,
                acceptance,
                seed,
            }),
        };
        SpeculationParams {
            source,
            ..SpeculationParams::default()
        }
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

    pub(super) fn run(&mut self) {
        while self.step() || self.draft() {}
    }
}
