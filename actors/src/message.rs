//! What travels between actors.
//!
//! ```text
//! Planner --Step--> Stage 0 --Step--> ... Stage N-1 --logits, in process--> Verifier
//!    ^                                                                         |
//!    +------------------------------- StepReport ------------------------------+
//! Planner --Command--> Supervisor of a node;  Supervisor or Stage --NodeReport--> Planner
//! ```

use jupiter_models::engine::{EngineMemory, EngineParams};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::{KvOp, LayerRange, Row, SequenceId, Token};
use serde::{Deserialize, Serialize};

use crate::{NodeId, PlanEpoch, StepId};

/// Anything that can be on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// To a Stage.
    Step(StepBatch),
    /// To the Planner, from the Verifier.
    Report(StepReport),
    /// To a node's Supervisor, from the Planner.
    Command(NodeCommand),
    /// To the Planner, from a node.
    Node(NodeReport),
}

/// One micro-batch on its way through the stages. A repeat is recognised by its step id and dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBatch {
    /// What to do.
    pub header: StepHeader,
    /// Hidden states (n_rows, n_embd) in `header.payload_dtype`; empty on the way to stage 0.
    pub payload: Vec<u8>,
}

/// What a stage has to do in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepHeader {
    /// The plan that this step belongs to.
    pub epoch: PlanEpoch,
    /// Counts the steps of the epoch without gaps: a stage that sees a gap reports a fault.
    pub step: StepId,
    /// The stage that the message is for.
    pub stage: u32,
    /// Applied to the KV cache before the rows.
    pub kv_ops: Vec<KvOp>,
    /// Sequences whose first logits of the epoch are wanted in this step: what the Verifier needs
    /// to sample them.
    pub opens: Vec<SequenceOpen>,
    /// The rows to compute.
    pub rows: Vec<Row>,
    /// How the payload is written.
    pub payload_dtype: HiddenDtype,
    /// Values per row of the payload; 0 when there is none.
    pub n_embd: u32,
    /// One entry per stage passed so far.
    pub timings: Vec<StageTiming>,
}

/// What the Verifier has to know of a sequence. All of it is in the Planner, so a restarted
/// Verifier goes on exactly where the lost one stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceOpen {
    /// The sequence; what was known of an earlier holder of the slot is forgotten.
    pub seq: SequenceId,
    /// How to sample.
    pub sampling: SamplingParams,
    /// Tokens of the prompt, at least the last `repeat_last_n`.
    pub prompt: Vec<Token>,
    /// Tokens accepted so far.
    pub generated: Vec<Token>,
    /// Whether end-of-generation tokens are never sampled.
    pub ignore_eos: bool,
}

/// When one stage worked on one step, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTiming {
    /// The stage.
    pub stage: u32,
    /// When the engine began, in microseconds since the UNIX epoch on the clock of its machine:
    /// clocks of different machines differ.
    pub began_us: u64,
    /// Time that the step waited at the stage before the engine began, in microseconds.
    pub waited_us: u64,
    /// Time from the start of the engine's work to its end, in microseconds.
    pub busy_us: u64,
}

/// The Verifier's answer to a step; one per step, in order. A repeat is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The plan that the step belonged to.
    pub epoch: PlanEpoch,
    /// The step.
    pub step: StepId,
    /// One entry per sequence that had logits in the step.
    pub acceptances: Vec<Acceptance>,
    /// Sequences that cannot go on; the others are not touched by it.
    pub failures: Vec<SequenceFailure>,
    /// One entry per stage.
    pub timings: Vec<StageTiming>,
}

/// What became of the drafted tokens of a sequence, and the token that follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The sequence.
    pub seq: SequenceId,
    /// Position of the first row of the sequence that had logits.
    pub pos: u32,
    /// Number of drafted tokens that were accepted.
    pub n_accepted: u32,
    /// The token after the accepted ones.
    pub next_token: Token,
    /// Whether `next_token` ends the generation.
    pub is_eog: bool,
}

/// Why a sequence cannot go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceFailure {
    /// The sequence.
    pub seq: SequenceId,
    /// The reason, in one line.
    pub why: String,
}

/// What the Planner asks of a node. Idempotent: it names the wanted state, and is repeated until
/// the node reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeCommand {
    /// Hold exactly these stages, with empty KV caches, and report each as ready.
    Assign {
        /// The new plan.
        epoch: PlanEpoch,
        /// The stages of this node; what it holds beside them is freed.
        stages: Vec<StageAssignment>,
    },
}

/// One stage as the plan wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageAssignment {
    /// Its place in the pipeline.
    pub stage: u32,
    /// Number of stages of the pipeline.
    pub n_stages: u32,
    /// Its layers.
    pub layers: LayerRange,
    /// Content hash of the model file, so that no two files are mixed.
    pub model: String,
    /// Parameters of its engine.
    pub engine: EngineParams,
    /// How it writes hidden states for the next stage.
    pub payload_dtype: HiddenDtype,
    /// Most steps that may wait at this stage; one more is a fault of the sender.
    pub credits: u32,
}

/// What a node tells the Planner. A repeat is harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeReport {
    /// A stage is loaded and its KV cache is empty.
    StageReady {
        /// The plan for which it is ready.
        epoch: PlanEpoch,
        /// The stage.
        stage: u32,
        /// Where it runs.
        node: NodeId,
        /// What it holds.
        memory: EngineMemory,
    },
    /// A stage or its Verifier failed.
    StageDown {
        /// The plan that it served.
        epoch: PlanEpoch,
        /// The stage.
        stage: u32,
        /// Where it ran.
        node: NodeId,
        /// Why, in one line.
        why: String,
        /// Whether its Supervisor starts it again.
        restarting: bool,
    },
    /// A step is missing, out of order or unreadable: the epoch cannot go on.
    StepFault {
        /// The plan that the step belonged to, as far as known.
        epoch: Option<PlanEpoch>,
        /// Where it was seen.
        node: NodeId,
        /// What was expected and what came.
        what: String,
    },
}
