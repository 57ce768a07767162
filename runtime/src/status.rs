//! How a cluster is doing, as its head tells whoever asks: JSON, on `jupiter/<cluster>/status`.

use std::time::Instant;

pub use jupiter_actors::planner::RequestState;
use jupiter_actors::planner::{ClusterPhase, ClusterStatus, RequestStatus, StageStatus};
use jupiter_actors::request::DeadlineKind;
use serde::{Deserialize, Serialize};

/// A picture of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Milliseconds of the head's clock since it started: rates are differences of two reports.
    pub at_ms: u64,
    /// `waiting`, `loading`, `running` or `failed`.
    pub phase: String,
    /// Why it failed.
    pub why: Option<String>,
    /// The plan in force.
    pub epoch: u64,
    /// The nodes that are there.
    pub nodes: Vec<String>,
    /// The stages in order.
    pub stages: Vec<StageReport>,
    /// Requests being computed.
    pub n_live: usize,
    /// Requests that wait.
    pub n_waiting: usize,
    /// How often a request gave up its cells to others so far.
    pub n_preempted: u64,
    /// Cells of the KV cache that hold something.
    pub n_cells: usize,
    /// All of them.
    pub n_ctx: u32,
    /// Steps so far.
    pub n_steps: u64,
    /// Rows of prompts computed so far.
    pub n_prompt_rows: u64,
    /// Tokens of answers so far.
    pub n_answer_tokens: u64,
    /// Those that run, then those that wait, in their order; the first ones of many.
    pub requests: Vec<RequestReport>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Where it runs.
    pub node: String,
    /// First layer, and the one behind the last.
    pub layers: [u32; 2],
    /// Bytes of weights, KV cache and computing, once it is loaded.
    pub memory_bytes: Option<[u64; 3]>,
    /// Microseconds that its engine worked so far.
    pub busy_us: u64,
}

/// A request, what branches share, or a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReport {
    /// Its number.
    pub id: u64,
    /// Whose it is.
    pub client: u64,
    /// 0, the most urgent, to 7.
    pub priority: u8,
    /// What it is at.
    pub state: RequestState,
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// Of these, the ones that are computed.
    pub n_computed: u32,
    /// Tokens of the answer so far.
    pub n_answer: u32,
    /// How long ago it was asked, in milliseconds.
    pub age_ms: u64,
    /// What has to be there until when, in milliseconds after it was asked.
    pub deadline: Option<(DeadlineKind, u64)>,
}

impl StatusReport {
    /// What `status` says at `now`, of a head that started at `began`.
    pub fn new(status: &ClusterStatus, began: Instant, now: Instant) -> Self {
        let (phase, why) = match &status.phase {
            ClusterPhase::Waiting => ("waiting", None),
            ClusterPhase::Loading => ("loading", None),
            ClusterPhase::Running => ("running", None),
            ClusterPhase::Failed(why) => ("failed", Some(why.clone())),
        };
        let busy = status.steps.busy_us.iter().copied();
        let busy = busy.chain(std::iter::repeat(0));
        let stages = status.stages.iter().zip(busy);
        let load = &status.load;
        Self {
            at_ms: ms(began, now),
            phase: phase.to_owned(),
            why,
            epoch: status.epoch.0,
            nodes: status.nodes.iter().map(ToString::to_string).collect(),
            stages: stages
                .map(|(stage, busy_us)| stage_report(stage, busy_us))
                .collect(),
            n_live: status.n_live,
            n_waiting: status.n_waiting,
            n_preempted: status.n_preempted,
            n_cells: load.n_cells,
            n_ctx: load.n_ctx,
            n_steps: status.steps.n_steps,
            n_prompt_rows: load.n_prompt_rows,
            n_answer_tokens: load.n_answer_tokens,
            requests: load
                .requests
                .iter()
                .map(|request| request_report(request, now))
                .collect(),
        }
    }
}

fn stage_report(stage: &StageStatus, busy_us: u64) -> StageReport {
    let memory = stage.memory.as_ref();
    StageReport {
        node: stage.node.to_string(),
        layers: [stage.layers.start, stage.layers.end],
        memory_bytes: memory.map(|m| [m.weights_bytes, m.kv_bytes, m.compute_bytes]),
        busy_us,
    }
}

fn request_report(request: &RequestStatus, now: Instant) -> RequestReport {
    let deadline = request.deadline;
    RequestReport {
        id: request.id.0,
        client: request.client.0,
        priority: request.priority.level(),
        state: request.state,
        n_prompt: request.n_prompt,
        n_computed: request.n_computed,
        n_answer: request.n_answer,
        age_ms: ms(request.asked, now),
        deadline: deadline.map(|deadline| (deadline.kind, deadline.within.as_millis() as u64)),
    }
}

fn ms(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}
