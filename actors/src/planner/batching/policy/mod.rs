//! The rules by which micro-batches are filled: each a pure function from what wants to be computed,
//! the memory and what steps cost to rows of those that decode and rows of prompts.

pub(in crate::planner) mod auto;
pub(super) mod chunked;
pub(super) mod throttle;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planner::PlannerConfig;

/// By which rule micro-batches are filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// A budget in time: as many rows of prompts beside those that decode as their promise allows, and
    /// equal micro-batches.
    #[default]
    Auto,
    /// gLLM's throttling of tokens (arXiv 2504.14775, section 3).
    Throttle,
    /// A budget of rows, as Sarathi-Serve (arXiv 2403.02310) and vLLM have it.
    Chunked,
}

/// The rule, and what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::planner) struct Scheduling {
    pub(in crate::planner) schedule: Schedule,
    /// The time between two tokens of a stream that prompts of others leave; none for the default.
    pub(in crate::planner) tbt_target: Option<Duration>,
    /// Requests at the same time.
    pub(in crate::planner) n_parallel: usize,
}

impl Scheduling {
    pub(in crate::planner) fn of(config: &PlannerConfig) -> Self {
        Self {
            schedule: config.schedule,
            tbt_target: config.tbt_target_ms.map(Duration::from_millis),
            n_parallel: config.n_parallel as usize,
        }
    }
}
