//! What travels between actors.
//!
//! ```text
//! Planner --Step--> Stage 0 --Step--> ... Stage N-1 --logits, in process--> Verifier
//!    ^                                                                         |
//!    +------------------------------- StepReport ------------------------------+
//! Planner --Command--> Supervisor of a node;  Supervisor or Stage --NodeReport--> Planner
//! Planner --Draft--> Drafter --Drafted--> Planner;  Planner --Cancel--> Stages
//! ```

use std::fmt;

use jupiter_models::engine::{EngineMemory, EngineParams, KeptStates};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::{KvOp, LayerRange, Row, SequenceId, Token};
use serde::{Deserialize, Serialize};

use crate::speculation::accept::AcceptanceRule;
use crate::{NodeId, PlanEpoch, RequestId, StepId};

/// Anything that can be on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// To a Stage.
    Step(StepBatch),
    /// To the Planner, from the Verifier.
    Report(StepReport),
    /// To the stages of a node, from the Planner; it overtakes steps.
    Cancel(CancelRows),
    /// To the Drafter, from the Planner.
    Draft(DraftRequest),
    /// To the Planner, from the Drafter.
    Drafted(DraftReply),
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// The rows to compute. A stage leaves out those that were cancelled.
    pub rows: Vec<Row>,
    /// Which of the rows the Verifier judges: one entry for each sequence that has any. All rows
    /// that want logits are in one.
    pub drafts: Vec<DraftRows>,
    /// How the payload is written.
    pub payload_dtype: HiddenDtype,
    /// Values per row of the payload; 0 when there is none.
    pub n_embd: u32,
    /// One entry per stage passed so far.
    pub timings: Vec<StageTiming>,
}

/// Rows of one sequence that are judged together: a root, whose token is committed or a guess that
/// the step before judges, and guesses behind it (a line, or a tree whose branches are sequences).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftRows {
    /// The sequence; branches of a tree are further ones in the rows themselves.
    pub seq: SequenceId,
    /// Which continuation of the sequence the rows belong to: those of older ones are dead.
    pub generation: u32,
    /// Index of the root's row; the guesses follow it.
    pub first_row: u32,
    /// For each guess, parents first, which row it follows, counted from the root's 0.
    pub parents: Vec<u16>,
    /// At how many places behind the next token what is beside the Verifier, where there is something, is to
    /// guess; Medusa heads guess at all of theirs, or at none.
    pub n_places: u8,
}

impl DraftRows {
    /// Indices of its rows in the step.
    pub fn rows(&self) -> std::ops::Range<usize> {
        let first = self.first_row as usize;
        first..first.saturating_add(self.parents.len() + 1)
    }
}

/// Rows that need not be computed any more. Late and repeated ones change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRows {
    /// The plan that the rows belong to.
    pub epoch: PlanEpoch,
    /// The sequence.
    pub seq: SequenceId,
    /// [`DraftRows`] of generations below are dead.
    pub live_from: u32,
    /// In steps before this one, all rows of the sequence are dead, those of its prompt, too.
    pub live_from_step: StepId,
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
    /// What makes a guess right.
    pub rule: AcceptanceRule,
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
    /// What guesses beside the Verifier took.
    pub heads: HeadsTiming,
}

/// What guesses beside the Verifier took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsTiming {
    /// To read what is before the texts' ends: prompts.
    pub told_us: u64,
    /// To guess, for all sequences of the step together; 0 where nothing was guessed.
    pub guessed_us: u64,
}

/// What became of the drafted tokens of a sequence, and the token that follows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The sequence.
    pub seq: SequenceId,
    /// Position of the root's row.
    pub pos: u32,
    /// The last accepted row of its [`DraftRows`], counted from the root's 0.
    pub last: u16,
    /// The token after the accepted ones.
    pub next_token: Token,
    /// Whether `next_token` ends the generation.
    pub is_eog: bool,
    /// What was guessed beside the Verifier at after `next_token`: for each place some tokens, the
    /// likeliest first.
    pub guesses: Vec<Vec<HeadGuess>>,
}

/// A guess at one place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadGuess {
    /// The token.
    pub token: Token,
    /// Its probability by what guessed, 0 to 1.
    pub probability: f32,
}

/// What the draft model is to guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftRequest {
    /// Whose text it is.
    pub request: RequestId,
    /// Counts what is asked for a text, so that late replies are known.
    pub wish: u32,
    /// How many of the tokens that were told of the text are still right.
    pub from: u32,
    /// What follows them.
    pub tokens: Vec<Token>,
    /// Most guesses after each other; 0 to take the text and guess nothing.
    pub depth: u32,
    /// Most guesses at the same token.
    pub width: u32,
}

/// What the draft model guesses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftReply {
    /// Whose text it is.
    pub request: RequestId,
    /// That of the request.
    pub wish: u32,
    /// How many tokens of the text the Drafter knows now; less than it was told when it has
    /// forgotten the beginning.
    pub n_known: u32,
    /// The guesses, parents first.
    pub guesses: Vec<DraftGuess>,
    /// What they took, in microseconds.
    pub busy_us: u64,
}

/// A guess of a draft model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftGuess {
    /// Index of the guess before it; none: the text.
    pub parent: Option<u16>,
    /// The token.
    pub token: Token,
    /// Its probability by the draft model, 0 to 1.
    pub probability: f32,
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
        /// The draft model of this node, if it has one.
        drafter: Option<DrafterAssignment>,
    },
}

/// A draft model as the plan wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrafterAssignment {
    /// Content hash of the draft model's file.
    pub draft: String,
    /// Parameters of its engine.
    pub engine: EngineParams,
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
    /// What guesses beside the Verifier of the last stage, if anything.
    pub heads: Option<HeadsId>,
}

/// What guesses beside the Verifier, from the states that enter the output head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadsId {
    /// Medusa heads, by the content hash of their file.
    Medusa(String),
    /// The model's own block for multi-token prediction.
    Mtp,
}

impl HeadsId {
    /// The states that they guess from.
    pub fn states(&self) -> KeptStates {
        match self {
            Self::Medusa(_) => KeptStates::WithLogits,
            Self::Mtp => KeptStates::All,
        }
    }

    /// As a source of guesses.
    pub fn kind(&self) -> DraftKind {
        match self {
            Self::Medusa(_) => DraftKind::Medusa,
            Self::Mtp => DraftKind::Mtp,
        }
    }
}

/// A source of guesses that computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DraftKind {
    /// Medusa heads beside the Verifier.
    Medusa,
    /// A draft model.
    Model,
    /// The model's block for multi-token prediction, beside the Verifier.
    Mtp,
}

impl fmt::Display for DraftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Medusa => "Medusa heads",
            Self::Mtp => "the block for multi-token prediction",
            Self::Model => "the draft model",
        })
    }
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
    /// The draft model is loaded.
    DrafterReady {
        /// The plan for which it is ready.
        epoch: PlanEpoch,
        /// Where it runs.
        node: NodeId,
    },
    /// A source of guesses cannot be used on a node: answers go on without it.
    DraftsDown {
        /// Where it should run.
        node: NodeId,
        /// What it is.
        source: DraftKind,
        /// Why, in one line.
        why: String,
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
