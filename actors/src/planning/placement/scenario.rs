//! The numbers that a search works on: one scenario for each way to cut a prompt, one for decode.

use super::classes::{Classes, MAX_DEVICES, least_free};
use super::figures::reference_chunks;
use super::sets::Sets;
use super::{Objective, PlanRequest};
use crate::planning::cost::{self, Work};
use crate::planning::memory::StageMemory;
use crate::planning::profile::Cluster;

/// Costs are nanoseconds times this, plus one for each stage: of equal times the one with fewer
/// devices is then the smaller number, and sums stay sums.
pub(super) const SCALE: i64 = 2 * MAX_DEVICES as i64;

/// Costs of one micro-batch on devices of each class, scaled by [`SCALE`].
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// `prefix[class][j]`: layers `0..j`.
    pub(super) prefix: Vec<Vec<i64>>,
    /// Fixed time of a stage, by class.
    pub(super) step: Vec<i64>,
    /// Embedding, by class of the first stage.
    pub(super) embedding: Vec<i64>,
    /// Head, by class of the last stage.
    pub(super) head: Vec<i64>,
    /// The part of the head that counts for the slowest server: all of it or nothing.
    pub(super) paced_head: Vec<i64>,
    /// `occupied[from][to]`: time of a link for the bytes.
    pub(super) occupied: Vec<Vec<i64>>,
    /// `latency[from][to]`: of a link.
    pub(super) latency: Vec<Vec<i64>>,
    /// The ways from and to the Planner, if it is not simply beside the first stage.
    pub(super) planner: Option<PlannerWays>,
    /// What is minimised.
    pub(super) goal: Goal,
}

/// The Planner's place: latencies, by class of the stage at the other end.
#[derive(Clone, Debug)]
pub(super) struct PlannerWays {
    /// To the first stage.
    pub(super) entry: Vec<i64>,
    /// From the last stage.
    pub(super) back: Vec<i64>,
}

/// What is minimised, over the sum and the slowest server of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// `sum + times * slowest`.
    SumAndPace {
        /// How often the slowest server counts besides its part of the sum.
        times: u32,
    },
    /// The slowest server; among equals the sum.
    Pace,
}

/// Builds all scenarios of a request; the best placement of the best one is the plan.
pub(super) fn scenarios(
    cluster: &Cluster,
    classes: &Classes,
    request: &PlanRequest,
) -> Vec<Scenario> {
    let decode = Work::decode(request.load.rows, request.load.context);
    let build = |work, goal| Scenario::new(cluster, classes, work, goal);
    match request.objective {
        Objective::Ttft => reference_chunks(request.load.prompt)
            .into_iter()
            .map(|way| {
                let times = way.n_chunks - 1;
                let mut scenario = build(way.work, Goal::SumAndPace { times });
                scenario.paced_head.fill(0);
                scenario
            })
            .collect(),
        Objective::Tbt => vec![build(decode, Goal::SumAndPace { times: 0 })],
        Objective::Throughput => vec![build(decode, Goal::Pace)],
    }
}

impl Scenario {
    fn new(cluster: &Cluster, classes: &Classes, work: Work, goal: Goal) -> Scenario {
        let devices = cluster.devices();
        let n_device_classes = classes.len();
        // The slowest of the class; without merged types all are equal.
        let slowest = |class: usize, ns: &dyn Fn(usize) -> u64| {
            let all = classes.members[class].iter().map(|&device| ns(device));
            scaled(all.max().unwrap_or(0))
        };
        let each = |ns: &dyn Fn(usize) -> u64| {
            let classes = 0..n_device_classes;
            classes.map(|class| slowest(class, ns)).collect::<Vec<_>>()
        };
        let shapes = &cluster.model().layers;
        let n_kinds = shapes
            .iter()
            .map(|shape| shape.class + 1)
            .max()
            .unwrap_or(0);
        let prefix = |class| {
            let kinds: Vec<i64> = (0..n_kinds)
                .map(|kind| {
                    slowest(class, &|d| {
                        cost::layer_ns(&devices[d].compute.layers[kind], work)
                    })
                })
                .collect();
            let mut sum = 0;
            let ends = shapes.iter().map(|shape| {
                sum += kinds[shape.class];
                sum
            });
            std::iter::once(0).chain(ends).collect()
        };
        let pairs = |ns: &dyn Fn(usize, usize) -> u64| {
            let to_all = |from| {
                let one = |to| slowest_pair(classes, from, to, ns);
                (0..n_device_classes).map(one).collect()
            };
            (0..n_device_classes).map(to_all).collect::<Vec<Vec<i64>>>()
        };
        let head = each(&|device| cost::head_ns(&devices[device], work));
        Scenario {
            prefix: (0..n_device_classes).map(prefix).collect(),
            step: each(&|device| cost::step_ns(&devices[device])),
            embedding: each(&|device| cost::embedding_ns(&devices[device], work)),
            paced_head: head.clone(),
            head,
            occupied: pairs(&|from, to| cost::transfer_ns(cluster, from, to, work.rows)),
            latency: pairs(&|from, to| cost::latency_ns(cluster, from, to)),
            planner: cluster.head().map(|head| PlannerWays {
                entry: each(&|device| head.to_ns[device]),
                back: each(&|device| head.from_ns[device]),
            }),
            goal,
        }
    }

    pub(super) fn n_layer(&self) -> usize {
        self.prefix[0].len() - 1
    }

    /// From the Planner to a first stage of `class`.
    pub(super) fn entry(&self, class: usize) -> i64 {
        self.planner.as_ref().map_or(0, |ways| ways.entry[class])
    }

    /// Time of a stage, the head as `head` says.
    pub(super) fn stage(&self, class: usize, start: usize, end: usize, head: &[i64]) -> i64 {
        let mut time = self.step[class] + self.prefix[class][end] - self.prefix[class][start];
        if start == 0 {
            time += self.embedding[class];
        }
        if end == self.n_layer() {
            time += head[class];
        }
        time
    }
}

fn slowest_pair(
    classes: &Classes,
    from: usize,
    to: usize,
    ns: &dyn Fn(usize, usize) -> u64,
) -> i64 {
    let pairs = classes.members[from]
        .iter()
        .flat_map(|&a| classes.members[to].iter().map(move |&b| (a, b)));
    let all = pairs.filter(|(a, b)| a != b).map(|(a, b)| ns(a, b));
    scaled(all.max().unwrap_or(0))
}

/// Profiles are checked to stay below 1000 s a layer, so that this cannot overflow.
fn scaled(ns: u64) -> i64 {
    ns as i64 * SCALE
}

/// What fits where, and how devices are counted; the same in all scenarios of a request.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// The sets of devices.
    pub(super) sets: Sets,
    /// `first_fits[class][j]`: layers `0..j` fit, with the embedding, and the head if all, and may be
    /// a stage.
    pub(super) first_fits: Vec<Vec<bool>>,
    /// `first_start[class][j]`: the least `i > 0` such that `i..j` fits; `j` if none. Ascends.
    pub(super) first_start: Vec<Vec<usize>>,
    /// Which layers may be a stage.
    pub(super) memory: StageMemory,
}

impl Space {
    pub(super) fn new(cluster: &Cluster, classes: &Classes, memory: &StageMemory) -> Option<Space> {
        let n_layer = memory.n_layer();
        let free = |class: usize| least_free(cluster, &classes.members[class]);
        let fits = |class: usize| {
            let end = |j| j > 0 && memory.allows(0, j) && memory.range_bytes(0, j) <= free(class);
            (0..=n_layer).map(end).collect()
        };
        let starts = |class: usize| {
            let mut start = 1;
            let mut least = |j| {
                while start < j && memory.range_bytes(start, j) > free(class) {
                    start += 1;
                }
                start.min(j)
            };
            (0..=n_layer).map(&mut least).collect()
        };
        Some(Space {
            sets: classes.sets()?,
            first_fits: (0..classes.len()).map(fits).collect(),
            first_start: (0..classes.len()).map(starts).collect(),
            memory: memory.clone(),
        })
    }
}
