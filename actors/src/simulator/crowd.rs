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
    pub(super) fn new(pipeline: &Pipeline<'_>) -> Option<Self> {
        let others = pipeline.neighbours();
        let devices = pipeline.stages().iter().map(|&(device, _)| device);
        let is_crowded = others.iter().any(|others| !others.is_empty());
        is_crowded.then(|| Self {
            devices: devices.collect(),
            others,
        })
    }

    /// Lets `step` and one `before` it, whose ways are known, take from each other what they do where they
    /// compute at the same time. Whether the first takes longer, and the first stage at which the other does.
    pub(super) fn delay(
        &self,
        cluster: &Cluster,
        step: &mut Step,
        before: &mut Step,
    ) -> (bool, Option<usize>) {
        let longer_ns = |step: &Step, stage: usize, together_ns: u64| {
            let compute = &cluster.devices()[self.devices[stage]].compute;
            let times = compute.crowding.times(step.work_at(stage).rows);
            (together_ns as f64 * (times - 1.0)) as u64
        };
        let (mut is_longer, mut first) = (false, None);
        for (stage, others) in self.others.iter().enumerate() {
            for &other in others {
                let together_ns = step.passed[stage].overlap_ns(before.passed[other]);
                let own_ns = longer_ns(step, stage, together_ns);
                let before_ns = longer_ns(before, other, together_ns);
                step.take_longer(stage, own_ns);
                before.take_longer(other, before_ns);
                is_longer |= own_ns > 0;
                if before_ns > 0 {
                    first = Some(first.map_or(other, |first: usize| first.min(other)));
                }
            }
        }
        (is_longer, first)
    }
}
