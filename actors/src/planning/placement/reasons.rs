//! Why devices were left out, and what one machine alone would do.

use std::fmt;

use jupiter_models::LayerRange;
use serde::Serialize;

use super::PlanRequest;
use super::classes::Classes;
use super::figures::{self, Figures, Value, ms};
use super::optimum;
use super::scenario::{Goal, Scenario, Space};
use super::search::{AtLeast, Found};
use crate::NodeId;
use crate::planning::cost::Pipeline;
use crate::planning::memory::{StageMemory, show};
use crate::planning::profile::Cluster;

/// A device without layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Excluded {
    /// Which.
    pub node: NodeId,
    /// Why.
    pub reason: Reason,
}

/// Why a device is left out. All comparisons are with the best placement that has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It cannot hold even the smallest stage.
    TooLittleMemory {
        /// What that stage needs.
        needs_bytes: u64,
        /// What is free.
        has_bytes: u64,
    },
    /// No placement has room for it, as with more devices than layers.
    NoPlace,
    /// With it the plan is slower.
    Slower {
        /// The objective's time with it.
        with_ms: f64,
        /// The objective's time without it.
        without_ms: f64,
        /// Network time that it adds to the objective (negative: saves).
        network_ms: f64,
        /// Compute time that it adds to the objective (negative: saves).
        compute_ms: f64,
    },
    /// With it the plan is just as fast.
    NoFaster {
        /// The objective's time with and without it.
        ms: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::TooLittleMemory {
                needs_bytes,
                has_bytes,
            } => write!(
                f,
                "too little memory: the smallest stage needs {}, and {has_bytes} bytes are free",
                show(needs_bytes)
            ),
            Reason::NoPlace => f.write_str("no placement has room for one more device"),
            Reason::NoFaster { ms } => write!(f, "no faster with it ({ms:.2} ms)"),
            Reason::Slower {
                with_ms,
                without_ms,
                network_ms,
                compute_ms,
            } => {
                let delta = |ms: f64, what: &str| {
                    let verb = if ms < 0.0 { "less" } else { "more" };
                    format!("{:.2} ms {verb} {what}", ms.abs())
                };
                write!(
                    f,
                    "{with_ms:.2} ms with it, {without_ms:.2} ms without: {} for {}",
                    delta(network_ms, "network"),
                    delta(compute_ms, "compute")
                )
            }
        }
    }
}

/// The best device alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alone {
    /// Which.
    pub node: NodeId,
    /// What it would need.
    pub predicted: Figures,
}

/// The best single device for the objective, if the model fits on one.
pub(super) fn alone(
    cluster: &Cluster,
    memory: &StageMemory,
    request: &PlanRequest,
) -> Option<Alone> {
    let all = LayerRange::new(0, cluster.n_layer() as u32);
    let mut best: Option<(Value, Alone)> = None;
    for (device, profile) in cluster.devices().iter().enumerate() {
        if memory.bytes(all) > profile.free_memory_bytes {
            continue;
        }
        let pipeline = Pipeline::new(cluster, vec![(device, all)]);
        let value = figures::value(&pipeline, request.objective, &request.load);
        if best.as_ref().is_none_or(|(least, _)| value < *least) {
            let alone = Alone {
                node: profile.node.clone(),
                predicted: figures::figures(&pipeline, &request.load),
            };
            best = Some((value, alone));
        }
    }
    best.map(|(_, alone)| alone)
}

/// What the plan was found in.
pub(super) struct Context<'a> {
    pub(super) classes: &'a Classes,
    pub(super) space: &'a Space,
    pub(super) scenario: &'a Scenario,
    pub(super) memory: &'a StageMemory,
}

/// The devices that are not in `stages`, each with its reason.
pub(super) fn excluded(
    cluster: &Cluster,
    context: &Context<'_>,
    best: &Found,
    stages: &[(usize, LayerRange)],
) -> Vec<Excluded> {
    let mut excluded = Vec::new();
    for (class, members) in context.classes.members.iter().enumerate() {
        let spare = |&device: &usize| stages.iter().all(|&(used, _)| used != device);
        let spares: Vec<usize> = members.iter().copied().filter(spare).collect();
        let needs_bytes = context.memory.smallest_bytes();
        let mut of_class = None;
        for &device in &spares {
            let profile = &cluster.devices()[device];
            let has_bytes = profile.free_memory_bytes;
            let reason = if has_bytes < needs_bytes {
                Reason::TooLittleMemory {
                    needs_bytes,
                    has_bytes,
                }
            } else {
                let count = members.len() - spares.len() + 1;
                of_class
                    .get_or_insert_with(|| compare(context, AtLeast { class, count }, best))
                    .clone()
            };
            let node = profile.node.clone();
            excluded.push((device, Excluded { node, reason }));
        }
    }
    excluded.sort_by_key(|&(device, _)| device);
    excluded.into_iter().map(|(_, excluded)| excluded).collect()
}

/// Compares the plan with the best placement that has one more device of a class.
fn compare(context: &Context<'_>, at_least: AtLeast, best: &Found) -> Reason {
    let scenario = context.scenario;
    let Some(with) = optimum::best_in(context.space, scenario, Some(at_least), None) else {
        return Reason::NoPlace;
    };
    let (with, without) = (Shares::of(scenario, &with), Shares::of(scenario, best));
    let to_ms = |scaled: i128| ms(1) * scaled as f64;
    if with.total() <= without.total() {
        return Reason::NoFaster {
            ms: to_ms(without.total()),
        };
    }
    Reason::Slower {
        with_ms: to_ms(with.total()),
        without_ms: to_ms(without.total()),
        network_ms: to_ms(with.network - without.network),
        compute_ms: to_ms(with.compute - without.compute),
    }
}

/// The objective's nanoseconds, split by what they are spent on.
struct Shares {
    network: i128,
    compute: i128,
}

impl Shares {
    fn of(scenario: &Scenario, found: &Found) -> Shares {
        let stage_times = found.stages.iter().map(|(class, layers)| {
            scenario.stage(*class, layers.start, layers.end, &scenario.paced_head)
        });
        let is_link = stage_times.clone().all(|time| time < found.slowest);
        let heads = found.stages.iter().map(|(class, layers)| {
            scenario.stage(*class, layers.start, layers.end, &scenario.head)
        });
        let compute_sum: i64 = heads.sum();
        let network_sum = found.sum - super::search::n_stages(found.sum) - compute_sum;
        let (times, sums) = match scenario.goal {
            Goal::SumAndPace { times } => (i128::from(times), 1),
            Goal::Pace => (1, 0),
        };
        let pace = times * i128::from(found.slowest);
        let (link_pace, stage_pace) = if is_link { (pace, 0) } else { (0, pace) };
        let unscaled = |sum: i64, pace: i128| {
            (sums * i128::from(sum) + pace) / i128::from(super::scenario::SCALE)
        };
        Shares {
            network: unscaled(network_sum, link_pace),
            compute: unscaled(compute_sum, stage_pace),
        }
    }

    fn total(&self) -> i128 {
        self.network + self.compute
    }
}
