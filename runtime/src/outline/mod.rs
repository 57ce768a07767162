//! Outline-based decoding without engine, actors and clocks: what an outline is, whether a question
//! suits one, how the model is asked for it, and how the points, which are written side by side,
//! become one answer (Skeleton-of-Thought; Jupiter, section on outline-based parallel decoding).
//!
//! # Layout
//! - [`decide`] (`route`): whether a question suits an outline, by rules
//! - `default_model`: whether an answer of the default model is long enough for one
//! - [`OutlinePrompts`] (`prompts`): how a model is asked for an outline, and for one of its points
//! - [`Outline`] (`points`, `title`, `control`), [`OutlineParser`] (`parse`): an outline, and how it
//!   is read from what a model writes
//! - `thoughts`: what a reasoning model writes first, which is part of neither outline nor point
//! - [`Mender`] (`mend`), [`Joiner`] (`join`): the text of a branch, and of all branches in order

mod control;
mod default_model;
mod error;
mod join;
mod mend;
mod parse;
mod points;
mod prompts;
mod route;
mod thoughts;
mod title;

pub(crate) use default_model::{in_one_piece, is_long};
pub use error::OutlineError;
pub(crate) use error::Result;
pub(crate) use join::opening;
#[cfg(test)]
pub(crate) use join::tests as join_tests;
pub use join::{BranchEvent, Joined, Joiner};
pub use mend::{BranchEnd, Mender};
pub use parse::{NotAnOutline, OutlineParser, Progress, parse};
pub use points::{DEFAULT_MAX_POINTS, MIN_POINTS, Outline, OutlineLimits, Point};
pub use prompts::{JUDGEMENT_GRAMMAR, OutlinePrompts, RawPrompts};
pub use route::{Class, Decision, Verdict, decide};
