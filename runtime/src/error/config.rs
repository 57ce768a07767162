//! What can be wrong with a configuration.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::outline::OutlineError;

/// Why a configuration cannot be used; each message names the key, the flag or the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that people write cannot be read, or says what it may not.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// Which kind of file.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong in it, by name.
        why: String,
    },
    /// The file, the environment or the flags have a value of the wrong type or form; the message
    /// names its key and where it stands.
    #[error("{0}")]
    Value(String),
    /// The file has a key that does not exist.
    #[error("{}: unknown key `{key}`: did you mean `{}`?", path.display(), nearest.join("`, `"))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Those that look most like it.
        nearest: Vec<String>,
    },
    /// A number is below what it can be.
    #[error("{key} is {value}: it must be at least {min}")]
    TooSmall {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// The least that it can be.
        min: String,
    },
    /// A number is above what it can be.
    #[error("{key} is {value}: it can be at most {max}")]
    TooLarge {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// The most that it can be.
        max: String,
    },
    /// A size, a rate or a time that is not written as one.
    #[error("{text:?} is not a {what}: write it as {example}")]
    Unit {
        /// What is written.
        text: String,
        /// What it should be.
        what: &'static str,
        /// How it is written.
        example: &'static str,
    },
    /// A name that cannot be one chunk of a key expression.
    #[error("{what} name {name:?}: use 1 to {max_bytes} letters, digits, `.`, `_` or `-`")]
    Name {
        /// Whose name it is.
        what: String,
        /// The name.
        name: String,
        /// Most bytes of a name.
        max_bytes: usize,
    },
    /// No endpoint of zenoh.
    #[error("endpoint {endpoint:?}: {why}; write it as tcp/192.168.1.2:7447")]
    Endpoint {
        /// What is written.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// A worker that is told of no head.
    #[error(
        "a worker has to reach its head: say where that listens (--connect tcp/192.168.1.2:7447)"
    )]
    NoHead,
    /// A head without nodes that compute.
    #[error(
        "no node would compute: let the head host stages, or say how many workers to wait for \
         (--workers)"
    )]
    NoNodes,
    /// A plan beside another way of saying how the model is cut.
    #[error("plan is given together with stages or split: a plan says both")]
    PlanAndSplit,
    /// A plan without a word.
    #[error("plan: say auto, even, or a file")]
    EmptyPlan,
    /// Two ways of saying how the model is cut.
    #[error("stages and split are both given: say how many stages, or how many layers each")]
    StagesAndSplit,
    /// A stage without layers.
    #[error("split: give the number of layers of each stage, at least 1, as 4,12")]
    EmptyStage,
    /// More stages than layers.
    #[error("{n_stages} stages for {n_layer} layers: take 1 to {n_layer} stages (--stages)")]
    TooManyStages {
        /// Stages that were asked for.
        n_stages: u32,
        /// Layers of the model.
        n_layer: u32,
    },
    /// A split that does not cover the model.
    #[error(
        "split {} covers {} layers, the model has {n_layer}: give the number of layers of each \
         stage (--split)",
        list(layers),
        sum(layers)
    )]
    SplitMismatch {
        /// Layers of each stage.
        layers: Vec<u32>,
        /// Layers of the model.
        n_layer: u32,
    },
    /// A chunk whose hidden states are larger than a message can be.
    #[error(
        "the hidden states of {chunk} rows of {n_embd} values do not fit one message: lower -ub, \
         or send smaller ones (--hidden-type f16)"
    )]
    ChunkTooLarge {
        /// Rows of a chunk.
        chunk: usize,
        /// Values of a row.
        n_embd: usize,
    },
    /// A chat template that is none.
    #[error("chat_template: {0}")]
    ChatTemplate(String),
    /// A template of outlines that cannot be used.
    #[error("outline_prompts: {0}")]
    OutlinePrompts(#[from] OutlineError),
}

impl ConfigError {
    /// The value of `key` is below `min`.
    pub(crate) fn too_small(key: &'static str, value: &impl Display, min: &impl Display) -> Self {
        let (value, min) = (value.to_string(), min.to_string());
        Self::TooSmall { key, value, min }
    }

    /// The value of `key` is above `max`.
    pub(crate) fn too_large(key: &'static str, value: &impl Display, max: &impl Display) -> Self {
        let (value, max) = (value.to_string(), max.to_string());
        Self::TooLarge { key, value, max }
    }
}

impl ConfigError {
    /// The file at `path`, of the kind `what`, cannot be used.
    pub fn file(what: &'static str, path: &Path, why: impl Display) -> Self {
        Self::File {
            what,
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

fn list(layers: &[u32]) -> String {
    let layers: Vec<_> = layers.iter().map(u32::to_string).collect();
    layers.join(",")
}

fn sum(layers: &[u32]) -> String {
    let sum = layers.iter().try_fold(0_u32, |sum, &n| sum.checked_add(n));
    sum.map_or("too many".to_owned(), |sum| sum.to_string())
}
