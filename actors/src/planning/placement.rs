//! Which devices take part, in which order, with which layers. Exact; how very many devices are searched
//! stands in `classes`.
//!
//! The plan is the best of all subsets, orders and layer ranges by the closed formulas of
//! [`figures`], under the memory of each device; of equally good ones it is the one with the
//! fewest devices. As in PipeEdge (arXiv 2110.14895) devices may be left out, unequal links count,
//! and equal devices are not told apart; unlike there, embedding and head are items of their own,
//! and time to first token and time per token are objectives besides throughput.

mod classes;
pub mod figures;
mod optimum;
mod reasons;
mod scenario;
mod search;
mod sets;

use serde::{Deserialize, Serialize};

pub use figures::Figures;
pub use reasons::{Alone, Excluded, Reason};

use jupiter_models::LayerRange;

use crate::NodeId;
use crate::planning::cost::Pipeline;
use crate::planning::memory::{MemoryDemand, StageMemory, check_fit};
use crate::planning::profile::Cluster;
use crate::planning::{PlanError, Result};
use classes::{Classes, Order};
use scenario::Space;

/// Longest prompt and context that are planned for.
const MAX_TOKENS: u32 = 1 << 20;
/// Most rows of a step that are planned for.
pub(crate) const MAX_ROWS: u32 = 4096;

/// What a placement is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Time to the first token of a prompt.
    Ttft,
    /// Time between tokens of one stream.
    Tbt,
    /// Rows a second, many streams together.
    Throughput,
}

/// The work that times are predicted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Tokens of a prompt, for [`Objective::Ttft`].
    pub prompt: u32,
    /// Rows of a decode step, for the two others.
    pub rows: u32,
    /// Tokens in the cache before each row of a decode step.
    pub context: u32,
}

/// What to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// What counts.
    pub objective: Objective,
    /// For which work.
    pub load: Workload,
    /// What has to fit into memory.
    pub memory: MemoryDemand,
}

/// One stage of a placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlacedStage {
    /// Index of the device in the cluster.
    pub device: usize,
    /// Its name.
    pub node: NodeId,
    /// Its layers.
    pub layers: LayerRange,
    /// What it will hold: weights, KV cache and buffers.
    pub memory_bytes: u64,
    /// What it has free.
    pub free_memory_bytes: u64,
}

/// The best placement, and how it compares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The stages, in order.
    pub placement: Vec<PlacedStage>,
    /// What it will need for the load asked for.
    pub predicted: Figures,
    /// Every device without layers, with the reason.
    pub excluded: Vec<Excluded>,
    /// The device that would be best alone, if the model fits on one.
    pub alone: Option<Alone>,
    /// Whether devices of one type were taken for equal, each for the slowest and smallest of
    /// them, because there are too many to tell apart. The plan is exact for devices so equal.
    pub types_merged: bool,
    /// Whether only placements were searched in which devices of one type stand side by side, because
    /// there are too many for all orders.
    pub side_by_side: bool,
}

impl Plan {
    /// Devices and layers, as the cost functions take them.
    pub fn stages(&self) -> Vec<(usize, LayerRange)> {
        self.placement
            .iter()
            .map(|s| (s.device, s.layers))
            .collect()
    }

    /// The costs of the placement.
    pub fn pipeline<'a>(&self, cluster: &'a Cluster) -> Pipeline<'a> {
        Pipeline::new(cluster, self.stages())
    }
}

/// Plans the best placement.
///
/// With `L` layers, `S` sets of devices (2^devices; fewer if devices are equal, and 2^types for each device
/// where those of a type stand side by side) and `D` different devices one search costs
/// `O(S D (D + 1) L)`, times `D` where the way back from the last stage depends on which is the first;
/// time to first token and throughput need a few dozen searches.
///
/// # Errors
/// [`PlanError::DoesNotFit`] with what is missing and what would fit; [`PlanError::TooManyDevices`];
/// [`PlanError::BadRequest`].
pub fn plan(cluster: &Cluster, request: &PlanRequest) -> Result<Plan> {
    check(request)?;
    let classes = Classes::new(cluster)?;
    check_fit(cluster, &request.memory, &classes.free_bytes(cluster))?;
    let memory = StageMemory::new(cluster.model(), &request.memory);
    let space = Space::new(cluster, &classes, &memory).ok_or(PlanError::NoDevice)?;
    let scenarios = scenario::scenarios(cluster, &classes, request);
    let (scenario, best) = optimum::best_of(&space, &scenarios).ok_or(PlanError::NoDevice)?;
    let stages = classes.assign(&best.stages);
    let excluded = reasons::excluded(
        cluster,
        &reasons::Context {
            classes: &classes,
            space: &space,
            scenario,
            memory: &memory,
        },
        &best,
        &stages,
    );
    let placed = |&(device, layers): &(usize, LayerRange)| {
        let profile = &cluster.devices()[device];
        PlacedStage {
            device,
            node: profile.node.clone(),
            layers,
            memory_bytes: memory.bytes(layers),
            free_memory_bytes: profile.free_memory_bytes,
        }
    };
    Ok(Plan {
        placement: stages.iter().map(placed).collect(),
        predicted: figures::figures(&Pipeline::new(cluster, &stages), &request.load),
        excluded,
        alone: reasons::alone(cluster, &memory, request),
        types_merged: classes.merged,
        side_by_side: classes.order == Order::SideBySide,
    })
}

fn check(request: &PlanRequest) -> Result<()> {
    let Workload {
        prompt,
        rows,
        context,
    } = request.load;
    let limits = [
        ("prompt", prompt, 1, MAX_TOKENS, "1 to 2^20 tokens"),
        ("rows", rows, 1, MAX_ROWS, "1 to 4096"),
        ("context", context, 0, MAX_TOKENS, "0 to 2^20 tokens"),
        ("n_ctx", request.memory.n_ctx, 1, u32::MAX, "at least 1"),
        ("n_seq", request.memory.n_seq, 1, u32::MAX, "at least 1"),
    ];
    for (field, got, least, most, expected) in limits {
        if got < least || got > most {
            return Err(PlanError::BadRequest {
                field,
                got: got.to_string(),
                expected,
            });
        }
    }
    Ok(())
}
