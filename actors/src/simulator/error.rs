//! Why there is nothing to simulate.

use super::forecast::LateStep;

/// Why there is nothing to simulate, or a simulation cannot go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SimulationError {
    /// A value that cannot be.
    #[error("{field} is {got}, expected {expected}")]
    BadValue {
        /// The setting that is wrong.
        field: &'static str,
        /// What it is.
        got: String,
        /// What it may be.
        expected: String,
    },
    /// A trace that cannot have been.
    #[error("line {line}: {problem}")]
    Trace {
        /// The first line that is wrong, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The cluster cannot run the model; the Planner's own words.
    #[error("{0}")]
    Cluster(String),
    /// The Planner gives up waiting for any step.
    #[error("{0}: no request would be answered; raise step_timeout_ms, or take faster machines")]
    TooSlow(LateStep),
    /// The Planner and its stages wait for each other.
    #[error("the scheduler stands still after {seconds:.0} s: please report it with this command")]
    StandsStill {
        /// Seconds of the virtual clock.
        seconds: f64,
    },
}
