//! The words that every part of the project shares.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token id of the model's vocabulary (`llama_token`).
pub type Token = i32;

/// Most cells of a KV cache; far above the contexts of today, and positions stay below it.
pub const MAX_CELLS: u32 = 1 << 22;

/// A sequence of the KV cache (`llama_seq_id`), below the context's `n_seq_max`.
///
/// Sequences are slots: the Planner gives a finished one to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SequenceId(pub u32);

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Layers `start..end` of a model, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LayerRange {
    /// First layer of the range.
    pub start: u32,
    /// First layer after the range.
    pub end: u32,
}

impl LayerRange {
    /// The range `start..end`.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// Number of layers.
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no layer.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether layer `il` is in the range.
    pub const fn contains(self, il: u32) -> bool {
        il >= self.start && il < self.end
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// One row of a step: a token at a position of one or more sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The sequences that this row belongs to; never empty. More than one where branches share it.
    pub seq_ids: Vec<SequenceId>,
    /// Position in the sequence.
    pub pos: u32,
    /// The token; the first stage embeds it, the others carry it along.
    pub token: Token,
    /// Whether the last stage computes logits for this row.
    pub wants_logits: bool,
}

/// An operation on the KV cache, applied before the rows of the step that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvOp {
    /// Forget the cells of `seq` at positions `pos` and above.
    Truncate {
        /// The sequence to shorten.
        seq: SequenceId,
        /// First position to forget.
        pos: u32,
    },
    /// Make `dst` share the cells of `src` below position `len`; what `dst` held is forgotten.
    Fork {
        /// The sequence to share from.
        src: SequenceId,
        /// The sequence to create.
        dst: SequenceId,
        /// Number of positions to share.
        len: u32,
    },
    /// Forget all cells of `seq`.
    Drop {
        /// The sequence to forget.
        seq: SequenceId,
    },
}
