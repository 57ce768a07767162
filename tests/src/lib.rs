//! The test kit: generated models, and a cluster in one process whose link misbehaves on purpose.
//!
//! - [`model`]: tiny generated models, made once per test run
//! - [`network`]: an in-memory [`Link`](jupiter_actors::Link) with faults from a seed
//! - [`cluster`]: Supervisors, Planner, Stages and Verifier on that link
//! - [`guesses`]: sources of guesses that are right as often as asked, or never
//! - [`one_stream`]: guesses of one stream on stages that are not there, for the formulas of shapes
//! - [`plans`]: times planning; the program `plans` prints it
//! - [`paper`]: Jupiter's table, published and simulated; the program `paper` prints and draws it
//! - [`evaluation`]: judges the default model; the program `evaluation` prints all of it

pub mod cluster;
pub mod evaluation;
pub mod guesses;
pub mod model;
pub mod network;
pub mod one_stream;
pub mod paper;
pub mod plans;
