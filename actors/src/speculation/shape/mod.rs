//! The shape of the next draft: most accepted tokens per time, by what was measured.
//!
//! - [`rates`]: how often guesses are right, by depth and rank.
//! - [`calibration`]: what a source's own probabilities are worth.
//! - [`grow`]: the tree of n nodes from which most is accepted; exact.
//! - [`pipeline`]: what several steps in flight bring.
//! - [`choose`]: the best of all of them, or none.

pub mod calibration;
pub mod choose;
pub mod grow;
pub mod pipeline;
pub mod rates;

/// What steps cost, in nanoseconds. Neither function need be monotone in the rows.
#[derive(Clone, Copy)]
pub struct StepCost<'a> {
    /// Times of all stages and links for a step of so many rows, in their order. Steps can follow
    /// each other as fast as the slowest; the others say what is computed in vain.
    pub servers_ns: &'a dyn Fn(u32) -> Vec<u64>,
    /// Time from sending a step of so many rows to its verdict: all stages and links, the ways to
    /// and from the Planner, and what the source needs for the next draft when nothing hides it.
    pub around_ns: &'a dyn Fn(u32) -> u64,
    /// The same for a step that has the stages to itself: stages that compute at the same time may
    /// slow each other down, on one machine's memory say.
    pub alone_ns: &'a dyn Fn(u32) -> u64,
}

impl StepCost<'_> {
    /// Times of stages and links, none below 1: a free step would make every ratio infinite.
    fn servers(&self, rows: u32) -> Vec<f64> {
        let servers = (self.servers_ns)(rows);
        servers.into_iter().map(|ns| ns.max(1) as f64).collect()
    }

    /// Time around, never below that of the slowest stage.
    fn around(&self, rows: u32) -> f64 {
        let slowest = self.servers(rows).into_iter().fold(1.0, f64::max);
        ((self.around_ns)(rows) as f64).max(slowest)
    }

    /// Time around with nothing else under way; a free step would make every ratio infinite.
    fn alone(&self, rows: u32) -> f64 {
        (self.alone_ns)(rows).max(1) as f64
    }
}
