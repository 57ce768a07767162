//! A small world, a robot and the devices around it, and the text that teaches it.
//!
//! A language model of a few million parameters can know a small world well. Answers are fixed
//! functions of the knowledge; the variety lies in how people ask. Everything is deterministic:
//! an example depends on a seed and its number only.
//!
//! # Layout
//!
//! - `knowledge`: the subjects, from the TOML files in `knowledge/`
//! - `example`: [`World::example`], the streams of [`Example`]s
//! - `held_out`: what never occurs in training
//! - `phrasing`: how people ask, in lists
//! - `short`, `long`, `outline`, `turns`, `outside`, `unknown`, `ability`: the kinds of questions
//! - `typist`: how sentences are typed
//! - [`command`]: spoken commands and their JSON
//! - [`prompts`]: the canonical prompts of an outline and its points
//! - `check`: how an answer is judged; `answer_kind`: of what sort one is
#![forbid(unsafe_code)]

mod ability;
mod answer_kind;
mod check;
pub mod command;
mod draw;
mod error;
mod example;
mod held_out;
mod knowledge;
mod long;
mod outline;
mod outside;
mod phrasing;
pub mod prompts;
mod short;
mod turns;
mod typist;
mod unknown;

#[cfg(test)]
mod tests;

pub use answer_kind::AnswerKind;
pub use check::{Check, Score};
pub use error::WorldError;
pub use example::{Example, Kind, Split, Turn};
pub use knowledge::World;
