//! Outline-based decoding without engine, actors and clocks: what an outline is, whether a question
//! suits one, how the model is asked for it, and how the points, which are written side by side,
//! become one answer (Skeleton-of-Thought; Jupiter, section on outline-based parallel decoding).
//!
//! # Layout
//! - [`decide`] (`route`): whether a question suits an outline, by rules
//! - `default_model`: whether an answer of the default model is long enough for one
//! - [`OutlinePrompts`] (`prompts`): how a model is asked for an outline, and for one of its points
//! - [`Outline`] (`points`), [`OutlineReader`] (`lines`): an outline, the grammar that it is sampled
//!   under, and how it is read as it is written
//! - [`Mender`] (`mend`, `sentences`), [`Joiner`] (`join`): the text of a branch, and of all branches
//!   in order
//! - `form`: whether the points of an answer are whole

mod default_model;
mod error;
mod form;
mod join;
mod lines;
mod mend;
mod points;
mod prompts;
mod route;
mod sentences;

pub(crate) use default_model::{in_one_piece, is_long};
pub use error::OutlineError;
pub(crate) use error::Result;
pub(crate) use form::whole_share;
pub(crate) use join::opening;
#[cfg(test)]
pub(crate) use join::tests as join_tests;
pub use join::{BranchEvent, Joined, Joiner};
pub use lines::{NotAnOutline, OutlineReader, Progress};
pub use mend::{BranchEnd, Mender};
pub use points::{DEFAULT_MAX_POINTS, MIN_POINTS, Outline, OutlineLimits, Point};
pub use prompts::{Asked, Begin, OutlinePrompts, RawPrompts};
pub use route::{Class, Decision, Verdict, decide};
