//! Devices that need not be told apart.
//!
//! Two devices are equal if swapping their names changes nothing: same profile, same links to
//! everyone else and to the Planner, same links between each other. Placements that differ by such a
//! swap are worth the same, so the search counts devices of a class instead of naming them, which
//! loses nothing. Where that still leaves too many sets, devices of one type count as equal, each as
//! slow and small as the worst of its type, so that no bound is broken. Where even these are too many,
//! devices of a type stand side by side in the pipeline: how many of the types before were used is of
//! no matter then, so there are few sets of many devices. Between equal links the order of stages counts
//! at the ends only, so little is lost.

use std::ops::Range;

use jupiter_models::LayerRange;

use super::sets::Sets;
use crate::planning::profile::{Cluster, DeviceProfile, Head};
use crate::planning::{PlanError, Result};

/// Most that a pass of the search looks at for each layer: sets of devices, by the class of the last
/// one and of the next. Ten different devices (2^10 * 10 * 11), 64 of two types and the Planner's own
/// (2 * 33^2 * 3 * 4), 64 of eight types side by side (2^8 * 64 * 8). Keeps a plan of 80 layers at about
/// a second.
const MAX_STEPS: usize = 140_000;
/// Most devices in all; more than this small layer ranges do not pay.
pub(super) const MAX_DEVICES: usize = 128;

/// The classes, each with its devices.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    /// Devices by class, ascending.
    pub(super) members: Vec<Vec<usize>>,
    /// Whether types were merged, instead of equal devices only.
    pub(super) merged: bool,
    /// In which order devices may stand.
    pub(super) order: Order,
}

/// Which orders of devices are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// All.
    Any,
    /// Those in which devices of a class stand side by side.
    SideBySide,
}

impl Classes {
    /// Groups equal devices, or, if there are too many sets then, devices of one type, side by side if
    /// need be.
    pub(super) fn new(cluster: &Cluster) -> Result<Classes> {
        let devices = cluster.devices();
        let equal = group(devices.len(), |a, b| are_equal(cluster, a, b));
        let of_type = |a: usize, b: usize| devices[a].kind == devices[b].kind;
        let typed = group(devices.len(), of_type);
        let n_types = typed.len();
        let ways = [
            (equal, false, Order::Any),
            (typed.clone(), true, Order::Any),
            (typed, true, Order::SideBySide),
        ];
        for (members, merged, order) in ways {
            let classes = Classes {
                members,
                merged,
                order,
            };
            if devices.len() <= MAX_DEVICES && classes.n_steps() <= MAX_STEPS {
                return Ok(classes);
            }
        }
        Err(PlanError::TooManyDevices {
            n_devices: devices.len(),
            n_types,
        })
    }

    /// Number of classes.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// What a pass of the search looks at for each layer.
    fn n_steps(&self) -> usize {
        let n = self.len();
        let per_set = match self.order {
            Order::Any => n * (n + 1),
            Order::SideBySide => n,
        };
        self.sets()
            .map_or(usize::MAX, |sets| sets.number.saturating_mul(per_set))
    }

    /// The sets of devices; none where they are too many to be numbered.
    pub(super) fn sets(&self) -> Option<Sets> {
        Sets::new(self.members.iter().map(Vec::len).collect(), self.order)
    }

    /// The memory that the search may use on each device of the cluster.
    pub(super) fn free_bytes(&self, cluster: &Cluster) -> Vec<u64> {
        let mut free = vec![0; cluster.devices().len()];
        for members in &self.members {
            let least = least_free(cluster, members);
            for &device in members {
                free[device] = least;
            }
        }
        free
    }

    /// Names a device for each stage of `(class, layers)`.
    pub(super) fn assign(&self, stages: &[(usize, Range<usize>)]) -> Vec<(usize, LayerRange)> {
        let mut used = vec![0; self.len()];
        let assign = |(class, layers): &(usize, Range<usize>)| {
            let device = self.members[*class][used[*class]];
            used[*class] += 1;
            (
                device,
                LayerRange::new(layers.start as u32, layers.end as u32),
            )
        };
        stages.iter().map(assign).collect()
    }
}

/// The least memory free on one of `members`.
pub(super) fn least_free(cluster: &Cluster, members: &[usize]) -> u64 {
    let free = |&device: &usize| cluster.devices()[device].free_memory_bytes;
    members.iter().map(free).min().unwrap_or(0)
}

/// Groups `0..n` so that a device is `alike` all others of its group.
fn group(n: usize, alike: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for device in 0..n {
        match groups
            .iter_mut()
            .find(|group| group.iter().all(|&other| alike(other, device)))
        {
            Some(group) => group.push(device),
            None => groups.push(vec![device]),
        }
    }
    groups
}

fn are_equal(cluster: &Cluster, a: usize, b: usize) -> bool {
    let devices = cluster.devices();
    let renamed = DeviceProfile {
        node: devices[a].node.clone(),
        ..devices[b].clone()
    };
    let same_links = |other: usize| {
        cluster.link(a, other) == cluster.link(b, other)
            && cluster.link(other, a) == cluster.link(other, b)
    };
    let head = cluster.head();
    let same_ways =
        |head: &Head| head.to_ns[a] == head.to_ns[b] && head.from_ns[a] == head.from_ns[b];
    devices[a] == renamed
        && head.is_none_or(same_ways)
        && cluster.link(a, b) == cluster.link(b, a)
        && (0..devices.len())
            .filter(|&other| other != a && other != b)
            .all(same_links)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::NodeId;
    use crate::planning::profile::LinkProfile;
    use jupiter_models::profile::{
        ComputeProfile, Crowding, LayerProfile, LayerShape, ModelProfile, Noise, RowCurve,
    };

    /// Devices `a`, `b`, `c`, equal but for what `change` does; links all alike.
    fn check(change: impl Fn(&mut [DeviceProfile], &mut [LinkProfile]), expected: &[&[usize]]) {
        check_with_head(None, change, expected);
    }

    /// The same with the Planner on `head`.
    fn check_with_head(
        head: Option<&str>,
        change: impl Fn(&mut [DeviceProfile], &mut [LinkProfile]),
        expected: &[&[usize]],
    ) {
        let model = ModelProfile {
            layers: vec![LayerShape {
                class: 0,
                weight_bytes: 1,
                kv_bytes_per_token: 0,
                state_bytes: 0,
            }],
            embedding_bytes: 0,
            head_bytes: 0,
            tied_head: false,
            buffer_bytes: 0,
            n_embd: 1,
            bytes_per_value: 1.0,
            cuts: Default::default(),
        };
        let mut devices: Vec<_> = ["a", "b", "c"]
            .map(|node| DeviceProfile {
                node: NodeId(node.into()),
                kind: "pc".into(),
                machine: String::new(),
                compute: ComputeProfile {
                    layers: vec![LayerProfile {
                        rows: RowCurve::new(&[(1, 1.0)]),
                        context_ms: 0.0,
                        tile_context_ms: 0.0,
                    }],
                    step_ms: 0.0,
                    embedding_ms: 0.0,
                    head: RowCurve::new(&[(1, 1.0)]),
                    crowding: Crowding::default(),
                    noise: Noise::default(),
                },
                free_memory_bytes: 10,
            })
            .into();
        let pairs = [
            ("a", "b"),
            ("b", "a"),
            ("a", "c"),
            ("c", "a"),
            ("b", "c"),
            ("c", "b"),
            ("head", "a"),
            ("a", "head"),
            ("head", "b"),
            ("b", "head"),
            ("head", "c"),
            ("c", "head"),
        ];
        let mut links = pairs.map(|(from, to)| LinkProfile {
            from: NodeId(from.into()),
            to: NodeId(to.into()),
            latency_ms: 1.0,
            bytes_per_ms: 1.0,
        });
        change(&mut devices, &mut links);
        let cluster =
            Cluster::new(model, devices, &links, head.map(|node| NodeId(node.into()))).unwrap();
        assert_eq!(Classes::new(&cluster).unwrap().members, expected);
    }

    #[test]
    fn devices_are_alike_if_nothing_tells_them_apart() {
        check(|_, _| {}, &[&[0, 1, 2]]);
        check(
            |devices, _| devices[2].free_memory_bytes = 11,
            &[&[0, 1], &[2]],
        );
        check(
            |devices, _| devices[1].compute.step_ms = 0.5,
            &[&[0, 2], &[1]],
        );
        // c is farther from both; from one of them only; one direction between a and b is slow.
        let farther =
            |links: &mut [LinkProfile]| links[2..6].iter_mut().for_each(|l| l.latency_ms = 2.0);
        check(|_, links| farther(links), &[&[0, 1], &[2]]);
        check(|_, links| links[3].latency_ms = 2.0, &[&[0], &[1], &[2]]);
        check(
            |_, links| {
                farther(links);
                links[0].bytes_per_ms = 0.5;
            },
            &[&[0], &[1], &[2]],
        );
        // The Planner sits on one of them, beside none of them, or nearer to one.
        check_with_head(Some("b"), |_, _| {}, &[&[0, 2], &[1]]);
        check_with_head(Some("head"), |_, _| {}, &[&[0, 1, 2]]);
        let nearer = |_: &mut [DeviceProfile], links: &mut [LinkProfile]| links[7].latency_ms = 0.5;
        check_with_head(Some("head"), nearer, &[&[0], &[1, 2]]);
        check(nearer, &[&[0, 1, 2]]);
    }
}
