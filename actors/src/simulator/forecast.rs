//! What a run will take this program, and whether its steps are in time: known before it starts.

use std::time::Duration;

use super::error::SimulationError;
use super::world::Simulation;
use crate::planner::offline::OfflinePlanner;
use crate::planning::cost::Work;
use crate::show_duration;

/// A step that takes longer than the Planner waits for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LateStep {
    /// Its rows.
    pub n_rows: u32,
    /// What it takes once around.
    pub takes: Duration,
    /// How long the Planner waits (`step_timeout_ms`).
    pub timeout: Duration,
}

impl Simulation<'_> {
    /// About how many times the Planner will look at its deadlines while somebody waits: most of what a
    /// run takes where steps are slow.
    pub fn n_ticks(&self) -> u64 {
        let longest = self.scenario.requests.iter().map(|asked| asked.n_prompt);
        let context = longest.max().unwrap_or(0);
        let pass_ns = self.servers.costs().pass_ns(Work::decode(1, context));
        // So many answers are on their way side by side.
        let n_parallel = u64::from(self.scenario.planner.n_parallel);
        let n_side_by_side = n_parallel.min(self.stages().len() as u64 + 1).max(1);
        let n_passes = self.n_steps().div_ceil(n_side_by_side);
        n_passes.saturating_mul(pass_ns) / OfflinePlanner::TICK_NS
    }

    /// Steps of all requests, if each had its own: about as many as there will be, at most. What a run takes
    /// grows with them, and with the stages.
    pub fn n_steps(&self) -> u64 {
        let chunk = u64::from(self.scenario.planner.chunk.max(1));
        let steps = self.scenario.requests.iter().map(|request| {
            let points = request.points.map_or(0, |points| {
                u64::from(points.n_points) * u64::from(points.n_predict + 1)
            });
            u64::from(request.n_prompt).div_ceil(chunk) + u64::from(request.n_predict) + points
        });
        steps.sum()
    }

    /// The largest step of the prompts, where the Planner would give up waiting for it.
    pub fn late_step(&self) -> Option<LateStep> {
        let planner = &self.scenario.planner;
        let prompts = self.scenario.requests.iter().map(|asked| asked.n_prompt);
        let longest = prompts.filter(|&n| n < planner.engine.n_ctx).max()?;
        let n_rows = longest.min(planner.chunk);
        self.late(Work::last_chunk(n_rows, longest - n_rows))
    }

    /// # Errors
    /// [`SimulationError::TooSlow`] when the Planner would give up waiting for every step.
    pub(super) fn check_patience(&self) -> Result<(), SimulationError> {
        self.late(Work::decode(1, 0))
            .map_or(Ok(()), |late| Err(SimulationError::TooSlow(late)))
    }

    fn late(&self, work: Work) -> Option<LateStep> {
        let late = LateStep {
            n_rows: work.rows,
            takes: Duration::from_nanos(self.servers.costs().pass_ns(work)),
            timeout: Duration::from_millis(self.scenario.planner.step_timeout_ms),
        };
        (late.takes > late.timeout).then_some(late)
    }
}

impl std::fmt::Display for LateStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = if self.n_rows == 1 { "row" } else { "rows" };
        write!(
            f,
            "a step of {} {rows} takes {} on these stages, and step_timeout_ms lets it take {}",
            self.n_rows,
            show_duration(self.takes),
            show_duration(self.timeout)
        )
    }
}
