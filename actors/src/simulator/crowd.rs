//! Stages that share a machine: while two of them compute, each takes longer.

use super::step::Step;
use crate::planning::cost::Pipeline;
use crate::planning::profile::Cluster;

/// Which stages share a machine, and what they take from each other.
pub(super) struct Crowd {
    /// By stage, its device.
    devices: Vec<usize>,
    /// By stage, the others of its machine.
    others: Vec<Vec<usize>>,
}

impl Crowd {
    /// None where each stage has a machine of its own.
    pub(super) fn new(pipeline: &Pipeline<'_>, cluster: &Cluster) -> Option<Self> {
        let devices: Vec<usize> = pipeline
            .stages()
            .iter()
            .map(|&(device, _)| device)
            .collect();
        let machine = |stage: usize| cluster.devices()[devices[stage]].machine.as_str();
        let stages = 0..devices.len();
        let others = |stage: usize| {
            let same = |&other: &usize| other != stage && machine(other) == machine(stage);
            let known = !machine(stage).is_empty();
            stages
                .clone()
                .filter(|other| known && same(other))
                .collect()
        };
        let others: Vec<Vec<usize>> = stages.clone().map(others).collect();
        let is_crowded = others.iter().any(|others| !others.is_empty());
        is_crowded.then_some(Self { devices, others })
    }

    /// Lets `step` and the one `before` it, whose ways are known, take from each other what they do where they
    /// compute at the same time. The first stages at which the two take longer.
    pub(super) fn delay(
        &self,
        cluster: &Cluster,
        step: &mut Step,
        before: &mut Step,
    ) -> (Option<usize>, Option<usize>) {
        let (mut first, mut first_before) = (None, None);
        for (stage, others) in self.others.iter().enumerate() {
            for &other in others {
                let together_ns = step.passed[stage].overlap_ns(before.passed[other]);
                if together_ns == 0 {
                    continue;
                }
                let longer_ns = |stage: usize, rows: u32| {
                    let compute = &cluster.devices()[self.devices[stage]].compute;
                    (together_ns as f64 * (compute.crowding.times(rows) - 1.0)) as u64
                };
                let (own_ns, before_ns) = (
                    longer_ns(stage, step.n_rows_at(stage)),
                    longer_ns(other, before.n_rows_at(other)),
                );
                if own_ns > 0 {
                    step.take_longer(stage, own_ns);
                    first = Some(first.map_or(stage, |first: usize| first.min(stage)));
                }
                if before_ns > 0 {
                    before.take_longer(other, before_ns);
                    first_before =
                        Some(first_before.map_or(other, |first: usize| first.min(other)));
                }
            }
        }
        (first, first_before)
    }
}
