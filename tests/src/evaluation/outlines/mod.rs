//! What writing point by point brings to the default model, and what it costs.
//!
//! - [`questions`]: held-out questions, and which of them are answered by an outline
//! - [`answer`]: one answer, plain or point by point, and when its words came
//! - [`everyday`]: everyday questions, for any model
//! - [`quality`]: the facts of both texts; points that are missing or doubled
//! - [`speed`]: times of many answers, at equal length
//! - [`processes`]: the model in two processes of one thread each
//! - [`report`], [`picture`]: what was measured, as a table and as a picture

pub mod answer;
pub mod everyday;
pub mod picture;
pub mod processes;
pub mod quality;
pub mod questions;
pub mod report;
pub mod speed;
