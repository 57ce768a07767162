//! What exactly is trained: shapes, steps and rates of the files under models/default.

use serde::{Deserialize, Serialize};

use crate::trainer::Pace;
use crate::transformer::Shape;

/// Entries of the vocabulary.
pub(crate) const N_VOCAB: usize = 4096;
/// Examples that the tokenizer learns from.
pub(crate) const N_TOKENIZER_EXAMPLES: u64 = 40_000;
/// How often each word of the answers counts beside what it counts in the examples: words that are one
/// token cannot be misspelt.
pub(crate) const WORD_WEIGHT: usize = 400;
/// Medusa heads.
pub(crate) const N_HEADS: usize = 4;
/// Seed of the text and of fresh weights.
const SEED: u64 = 1;

/// What a run trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subset {
    /// The model.
    Model,
    /// The small model that drafts for it.
    Draft,
    /// The heads on the frozen model.
    Medusa,
}

/// Everything that makes a run what it is; saved with its checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) part: Subset,
    /// Of the trained model, or of the one that the heads sit on.
    pub(crate) shape: Shape,
    pub(crate) pace: Pace,
}

impl Subset {
    /// Name of the run's folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Draft => "draft",
            Self::Medusa => "medusa",
        }
    }

    /// The settings of the committed files.
    pub(crate) fn settings(self) -> Settings {
        let model = Shape {
            n_vocab: N_VOCAB,
            n_embd: 192,
            n_layer: 6,
            n_head: 6,
            n_head_kv: 2,
            n_ff: 512,
        };
        let draft = Shape {
            n_vocab: N_VOCAB,
            n_embd: 64,
            n_layer: 3,
            n_head: 2,
            n_head_kv: 1,
            n_ff: 160,
        };
        let (shape, n_steps, step_tokens, peak_rate) = match self {
            Self::Model => (model, 31_500, 2048, 3e-3),
            Self::Draft => (draft, 10_000, 1536, 5e-3),
            Self::Medusa => (model, 2000, 1536, 2e-3),
        };
        let pace = Pace {
            n_steps,
            step_tokens,
            n_workers: 2,
            peak_rate,
            seed: SEED,
        };
        Settings {
            part: self,
            shape,
            pace,
        }
    }
}
