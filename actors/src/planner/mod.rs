//! The Planner: one per cluster, on the head.
//!
//! Spawned by the head's [Supervisor](crate::supervisor). It admits requests, holds every
//! sequence's accepted tokens, places layers on nodes, forms micro-batches and keeps at most
//! `n_stages + 1` of them in flight. The actor is a shell: [`core`] is the state machine, and
//! lives on when the actor fails.
//!
//! In: requests from clients, nodes from the membership, reports from stages and the Verifier.
//! Out: steps to stage 0, commands to nodes, events to clients.

mod batching;
mod cluster;
mod core;
#[cfg(test)]
mod dice;
mod drafting;
mod fault;
mod flight;
mod kv;
mod lengths;
mod live;
pub(crate) mod offline;
mod pace;
mod queue;
mod sequence;
mod stats;
mod trace;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jupiter_models::LayerRange;
use jupiter_models::engine::{EngineMemory, EngineParams};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::profile::ModelProfile;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};

pub use self::batching::chunking::grid;
pub use self::batching::policy::Schedule;
pub use self::cluster::fleet::{MeasuredPlan, NodeProfile, PlanGoal};
pub use self::cluster::placement::{PlacedStage, SplitPolicy, place, split_evenly};
use self::core::PlannerCore;
pub use self::flight::StepStats;
pub use self::trace::StepTrace;
use crate::link::{Link, send_message};
use crate::message::{DraftReply, HeadsId, NodeReport, StepReport};
use crate::planning::memory::MemoryDemand;
use crate::request::{ClientId, Deadline, EventSink, GenerateRequest, Priority, SpeculationParams};
use crate::{NodeId, PlanEpoch, RequestId, clock};

/// How often deadlines are looked at. Short against every deadline, long against a step's cost.
const TICK: Duration = Duration::from_millis(50);

/// How a cluster runs its model.
#[derive(Clone, Debug)]
pub struct PlannerConfig {
    /// Content hash of the model file.
    pub model: String,
    /// What placing needs to know of it.
    pub model_profile: ModelProfile,
    /// The node of this Planner.
    pub head: NodeId,
    /// How it is cut.
    pub split: SplitPolicy,
    /// What a plan has to be good at, where nodes are measured.
    pub goal: PlanGoal,
    /// Whether a plan follows devices that have become faster or slower.
    pub adapts: bool,
    /// Nodes to wait for before the first epoch.
    pub wait_nodes: u32,
    /// Requests at the same time; those that are parts of one answer count once.
    pub n_parallel: u32,
    /// Parts of answers at the same time, beside the first of each.
    pub n_branches: u32,
    /// Parameters of every stage's engine; `n_seq_max` sequences share `n_ctx` KV cells. Those
    /// beyond requests and branches are for trees of guesses.
    pub engine: EngineParams,
    /// Most KV cells of what complete sequences left; without it, all that nobody needs.
    pub cache_cells: Option<u32>,
    /// Positions before the end of a sequence that the model still has, where that is not all: those of a
    /// sliding window, or none where layers are recurrent.
    pub past: Option<u32>,
    /// How tokens are guessed ahead, for requests that do not say.
    pub speculation: SpeculationParams,
    /// What guesses beside the Verifier, if anything.
    pub heads: Option<HeadsId>,
    /// The draft model, if there is one.
    pub draft: Option<DraftConfig>,
    /// Most rows of a micro-batch, and of a chunk of a prompt.
    pub chunk: u32,
    /// By which rule micro-batches are filled.
    pub schedule: Schedule,
    /// The time between two tokens of a stream that prompts of others are to leave, in milliseconds;
    /// none for what follows from the plan.
    pub tbt_target_ms: Option<u64>,
    /// How hidden states travel.
    pub payload_dtype: HiddenDtype,
    /// Longest wait for a step's report, in milliseconds; shorter once the speed is known.
    pub step_timeout_ms: u64,
    /// Longest that a request waits for nodes, in milliseconds.
    pub node_wait_ms: u64,
    /// How often a command that is not answered is repeated, in milliseconds.
    pub retry_ms: u64,
}

impl PlannerConfig {
    /// What stages have to remember.
    pub fn memory_demand(&self) -> MemoryDemand {
        let engine = &self.engine;
        MemoryDemand::of_cells(engine.n_cells(), engine.type_k, engine.type_v)
    }
}

/// A draft model and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftConfig {
    /// The node.
    pub node: NodeId,
    /// Content hash of the model file.
    pub model: String,
}

/// What the Planner is told.
pub enum PlannerMessage {
    /// From a client: answer this; the events go to the sink.
    Generate(GenerateRequest, EventSink),
    /// From a client: nobody reads the answer any more; or, for one that requests are parts of, nothing
    /// goes on from what they left. A repeat is harmless.
    Cancel(RequestId),
    /// From a client: the answer is long enough; `Done` is its last event. A repeat is harmless.
    Finish(RequestId),
    /// From the membership: what was measured of a node, before it is up. A repeat replaces it.
    Measured(Box<NodeProfile>),
    /// From the membership: a node can take stages. A repeat means that it was started anew.
    NodeUp(NodeId),
    /// From the membership: a node is gone. A repeat is harmless.
    NodeDown(NodeId),
    /// From the Verifier. A repeat is dropped.
    Report(StepReport),
    /// From the Drafter. A repeat is dropped.
    Drafted(DraftReply),
    /// From a node. A repeat is harmless.
    Node(NodeReport),
    /// From anyone: how is it going?
    Status(RpcReplyPort<ClusterStatus>),
    /// From anyone: what became of the steps that were kept so far? A repeat finds none of them.
    Trace {
        /// Whether the steps reported from now on are kept. Nothing is, until this is asked.
        keep: bool,
        /// The steps in the order of their reports.
        reply: RpcReplyPort<Vec<StepTrace>>,
    },
    /// From its own clock.
    Tick,
}

/// How a cluster is doing.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// The plan in force.
    pub epoch: PlanEpoch,
    /// What it is busy with.
    pub phase: ClusterPhase,
    /// The nodes that are there.
    pub nodes: Vec<NodeId>,
    /// The plan.
    pub stages: Vec<StageStatus>,
    /// Requests being computed; those that are parts of one answer count once.
    pub n_live: usize,
    /// Requests waiting for room.
    pub n_waiting: usize,
    /// How often a sequence gave up its cells to others.
    pub n_preempted: u64,
    /// What the steps took so far.
    pub steps: StepStats,
    /// The plan with its predictions, where all nodes of the stages were measured.
    pub plan: Option<Arc<MeasuredPlan>>,
    /// What it computes and has computed.
    pub load: Load,
}

/// What a cluster computes and has computed.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Cells of the KV cache that hold something.
    pub n_cells: usize,
    /// Cells of the KV cache that there are.
    pub n_ctx: u32,
    /// Rows of prompts computed so far.
    pub n_prompt_rows: u64,
    /// Tokens of answers so far.
    pub n_answer_tokens: u64,
    /// What runs, then what waits, each in their order; the first ones of many.
    pub requests: Vec<RequestStatus>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct RequestStatus {
    /// Its number.
    pub id: RequestId,
    /// Whose it is.
    pub client: ClientId,
    /// How urgent it is.
    pub priority: Priority,
    /// Until when it is of use.
    pub deadline: Option<Deadline>,
    /// When it came.
    pub asked: Instant,
    /// What it is at.
    pub state: RequestState,
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// Of these, the ones that are computed or under way.
    pub n_computed: u32,
    /// Tokens of the answer so far.
    pub n_answer: u32,
}

/// What a request is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// It waits for room.
    Waiting,
    /// Its prompt is computed.
    Prompt,
    /// Its answer is written.
    Answer,
}

/// What a cluster is busy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterPhase {
    /// Too few nodes.
    Waiting,
    /// Stages load or clear.
    Loading,
    /// Steps flow.
    Running,
    /// The model cannot run on the nodes there are; why, in one line.
    Failed(String),
}

/// One stage of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct StageStatus {
    /// Its number in the pipeline, from 0.
    pub stage: u32,
    /// The node on which it runs.
    pub node: NodeId,
    /// Its layers.
    pub layers: LayerRange,
    /// What it holds, once it is loaded.
    pub memory: Option<EngineMemory>,
}

/// What a Planner is made of. Clones share the ledger of requests, which survives the actor.
#[derive(Clone)]
pub struct PlannerArgs {
    core: Arc<Mutex<PlannerCore>>,
    link: Arc<dyn Link>,
    enter: Arc<Enter>,
}

/// Says who the living Planner is, so that messages find it; called before it sends anything.
type Enter = dyn Fn(ActorRef<PlannerMessage>) + Send + Sync;

impl PlannerArgs {
    pub(crate) fn new(config: PlannerConfig, link: Arc<dyn Link>, enter: Arc<Enter>) -> Self {
        let core = Arc::new(Mutex::new(PlannerCore::new(config, Instant::now())));
        Self { core, link, enter }
    }
}

/// The actor; its state is [`PlannerArgs`].
pub struct Planner;

impl Actor for Planner {
    type Msg = PlannerMessage;
    type State = PlannerArgs;
    type Arguments = PlannerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<PlannerMessage>,
        args: PlannerArgs,
    ) -> Result<PlannerArgs, ActorProcessingErr> {
        (args.enter)(myself.clone());
        args.run(|core, now| core.resume(now));
        myself.send_interval(TICK, || PlannerMessage::Tick);
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<PlannerMessage>,
        message: PlannerMessage,
        state: &mut PlannerArgs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlannerMessage::Generate(request, sink) => {
                state.run(|core, now| core.generate(request, sink, now));
            }
            PlannerMessage::Cancel(request) => state.run(|core, now| core.cancel(request, now)),
            PlannerMessage::Finish(request) => state.run(|core, now| core.finish(request, now)),
            PlannerMessage::Measured(profile) => state.run(|core, _| core.measured(*profile)),
            PlannerMessage::NodeUp(node) => state.run(|core, now| core.node_up(node, now)),
            PlannerMessage::NodeDown(node) => state.run(|core, now| core.node_down(&node, now)),
            PlannerMessage::Report(report) => state.run(|core, now| core.report(report, now)),
            PlannerMessage::Drafted(reply) => state.run(|core, now| core.drafted(&reply, now)),
            PlannerMessage::Node(report) => state.run(|core, now| core.node_report(report, now)),
            PlannerMessage::Tick => state.run(|core, now| core.tick(now)),
            PlannerMessage::Trace { keep, reply } => {
                let mut steps = Vec::new();
                state.run(|core, now| steps = core.take_trace(keep.then(clock::unix_us), now));
                // Who asked may have gone.
                let _ = reply.send(steps);
            }
            PlannerMessage::Status(reply) => {
                let mut status = None;
                state.run(|core, _| status = Some(core.status()));
                if let Some(status) = status {
                    // Who asked may have gone.
                    let _ = reply.send(status);
                }
            }
        }
        Ok(())
    }
}

impl PlannerArgs {
    /// Ends every request with an error: the actor does not come back.
    pub(crate) fn abandon(&self) {
        self.run(|core, _| core.abandon());
    }

    /// Feeds an event to the state machine and sends what comes out.
    fn run(&self, event: impl FnOnce(&mut PlannerCore, Instant)) {
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        event(&mut core, Instant::now());
        for (to, message) in core.take_outbox() {
            // A receiver that hears nothing stays silent: the deadline recovers.
            if let Err(error) = send_message(self.link.as_ref(), &to, &message) {
                tracing::warn!(%error, %to, "could not send");
            }
        }
        core.tell_clients();
    }
}
