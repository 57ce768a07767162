//! Devices files: machines that are not there, to plan for (configs/devices-*.toml).
//!
//! A file describes the model, the network, and devices by their kind:
//!
//! ```toml
//! head = "robot"              # where the Planner sits; without it beside the first stage
//!
//! [model]                     # bytes of tensors; layers in runs of equal ones
//! layers = [{ count = 32, weight_bytes = 113_836_032, kv_bytes_per_token = 16_384 }]
//! # ...
//!
//! [network]                   # every pair of nodes, both directions
//! latency_ms = 0.3
//! mbps = 1000
//!
//! [[link]]                    # what is different between two of them
//! between = ["robot", "gateway"]
//! mbps = 50
//!
//! [[kind]]                    # how fast a type of device is: [rows, milliseconds]
//! name = "xavier-nx"
//! free_memory_bytes = 6_000_000_000
//! head = [[1, 9.6], [512, 286.1]]
//! layers = [{ rows = [[1, 14.78], [512, 440.2]], context_ms = 3.4e-5 }]
//! watts = { idle = 5, busy = 15 }   # what it draws, where that is known
//!
//! [[device]]
//! node = "robot"
//! kind = "xavier-nx"
//! ```

use jupiter_models::profile::{
    ComputeProfile, Crowding, LayerProfile, LayerShape, ModelProfile, Noise, RowCurve, RowPoint,
};
use serde::Deserialize;

use crate::NodeId;
use crate::planning::figure::Figure;
use crate::planning::profile::{Cluster, DeviceProfile, LinkProfile, MAX_LAYERS};
use crate::planning::{PlanError, Result};

/// Bytes that a link of one Mbit/s takes in a millisecond.
const BYTES_PER_MS_AND_MBPS: f64 = 125.0;
/// More devices than are ever planned for; every pair of them becomes a link.
const MAX_DEVICES: usize = 256;
/// More watts than any device draws.
const MAX_WATTS: f64 = 1e6;

/// A devices file, as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesFile {
    /// The Planner's node, a device or not; without it the Planner is beside the first stage.
    pub head: Option<NodeId>,
    /// The model.
    pub model: ModelEntry,
    /// All links.
    pub network: NetworkEntry,
    /// Links that are different; of several for one link the last one counts.
    #[serde(default, rename = "link")]
    pub links: Vec<LinkEntry>,
    /// Types of devices.
    #[serde(rename = "kind")]
    pub kinds: Vec<KindEntry>,
    /// The devices.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceEntry>,
}

/// The model: [`ModelProfile`] with its layers in runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Runs of equal layers, in order.
    pub layers: Vec<LayerRun>,
    /// Bytes of the embedding table.
    pub embedding_bytes: u64,
    /// Bytes of the output head.
    pub head_bytes: u64,
    /// Whether both are one tensor.
    #[serde(default)]
    pub tied_head: bool,
    /// Compute buffers of one stage.
    pub buffer_bytes: u64,
    /// Width of the hidden states.
    pub n_embd: u32,
    /// Bytes of one of their values on a link.
    pub bytes_per_value: f64,
}

/// Equal layers, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRun {
    /// How many.
    pub count: usize,
    /// Their cost class: place in [`KindEntry::layers`].
    #[serde(default)]
    pub class: usize,
    /// Bytes of one layer's tensors.
    pub weight_bytes: u64,
    /// KV cache of one layer in f16 for one token of one sequence.
    pub kv_bytes_per_token: u64,
}

/// Every link that no [`LinkEntry`] names.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkEntry {
    /// Delay of a message: half the round trip.
    pub latency_ms: f64,
    /// Megabits (10^6) in a second.
    pub mbps: f64,
}

/// The links between two nodes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEntry {
    /// The nodes.
    pub between: [NodeId; 2],
    /// Whether only the way from the first to the second is meant.
    #[serde(default)]
    pub one_way: bool,
    /// Delay of a message; without it the network's.
    pub latency_ms: Option<f64>,
    /// Megabits (10^6) in a second; without it the network's.
    pub mbps: Option<f64>,
}

/// A type of device: [`ComputeProfile`] with curves as `[rows, milliseconds]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindEntry {
    /// What devices call it.
    pub name: String,
    /// Memory that is free for weights, KV cache and compute buffers.
    pub free_memory_bytes: u64,
    /// One layer of each cost class.
    pub layers: Vec<LayerEntry>,
    /// The output head, over rows that want logits.
    pub head: Vec<(u32, f64)>,
    /// Milliseconds of the embedding of one row.
    #[serde(default)]
    pub embedding_ms: f64,
    /// Milliseconds of a step, whatever is in it.
    #[serde(default)]
    pub step_ms: f64,
    /// What it draws, where that is known.
    pub watts: Option<Watts>,
}

/// What a device draws, in watts.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watts {
    /// While it waits.
    pub idle: f64,
    /// While it computes.
    pub busy: f64,
}

/// One layer of a cost class on a device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerEntry {
    /// `[rows, milliseconds]`, ascending in rows from 1.
    pub rows: Vec<(u32, f64)>,
    /// Milliseconds for a row and a token in the cache before it.
    #[serde(default)]
    pub context_ms: f64,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// Its name.
    pub node: NodeId,
    /// Its type.
    pub kind: String,
    /// Free memory, where it is not that of its type.
    pub free_memory_bytes: Option<u64>,
}

impl DevicesFile {
    /// What a node draws, where its kind says it.
    pub fn watts(&self, node: &NodeId) -> Option<Watts> {
        let device = self.devices.iter().find(|device| device.node == *node)?;
        let kind = self.kinds.iter().find(|kind| kind.name == device.kind)?;
        kind.watts
    }

    /// What can be planned for.
    ///
    /// # Errors
    /// [`PlanError::DevicesFile`] for a kind or node that is not described or described twice, for
    /// more than 1024 layers or 256 devices, and for a bandwidth that cannot be; all that
    /// [`Cluster::new`] refuses.
    pub fn into_cluster(self) -> Result<Cluster> {
        let model = self.model.into_profile()?;
        if self.devices.len() > MAX_DEVICES {
            return refuse(format!(
                "{} devices, expected at most {MAX_DEVICES}",
                self.devices.len()
            ));
        }
        for (i, kind) in self.kinds.iter().enumerate() {
            if self.kinds[..i].iter().any(|other| other.name == kind.name) {
                return refuse(format!("kind {} is described twice", kind.name));
            }
            if let Some(Watts { idle, busy }) = kind.watts
                && !(0.0 <= idle && idle <= busy && busy <= MAX_WATTS)
            {
                return refuse(format!(
                    "watts of kind {} are {} idle and {} busy, expected 0 <= idle <= busy <= \
                     {MAX_WATTS}",
                    kind.name,
                    Figure(idle),
                    Figure(busy)
                ));
            }
        }
        let devices = self
            .devices
            .iter()
            .map(|device| device.profile(&self.kinds))
            .collect::<Result<Vec<_>>>()?;
        let mut nodes: Vec<&NodeId> = devices.iter().map(|device| &device.node).collect();
        if let Some(head) = self.head.as_ref().filter(|head| !nodes.contains(head)) {
            nodes.push(head);
        }
        let links = all_links(&nodes, self.network, &self.links)?;
        Cluster::new(model, devices, &links, self.head)
    }
}

fn refuse<T>(problem: String) -> Result<T> {
    Err(PlanError::DevicesFile(problem))
}

impl ModelEntry {
    fn into_profile(self) -> Result<ModelProfile> {
        let counts = self.layers.iter().map(|run| run.count);
        if counts.fold(0, usize::saturating_add) > MAX_LAYERS {
            return refuse(format!("more than {MAX_LAYERS} layers: check their counts"));
        }
        let of_run = |run: &LayerRun| {
            let layer = LayerShape {
                class: run.class,
                weight_bytes: run.weight_bytes,
                kv_bytes_per_token: run.kv_bytes_per_token,
                state_bytes: 0,
            };
            std::iter::repeat_n(layer, run.count)
        };
        Ok(ModelProfile {
            layers: self.layers.iter().flat_map(of_run).collect(),
            embedding_bytes: self.embedding_bytes,
            head_bytes: self.head_bytes,
            tied_head: self.tied_head,
            buffer_bytes: self.buffer_bytes,
            n_embd: self.n_embd,
            bytes_per_value: self.bytes_per_value,
            cuts: Default::default(),
        })
    }
}

impl DeviceEntry {
    fn profile(&self, kinds: &[KindEntry]) -> Result<DeviceProfile> {
        let Some(kind) = kinds.iter().find(|kind| kind.name == self.kind) else {
            return refuse(format!(
                "kind {} of device {} is not described: add a [[kind]] of that name",
                self.kind, self.node
            ));
        };
        let layer = |layer: &LayerEntry| LayerProfile {
            rows: curve(&layer.rows),
            context_ms: layer.context_ms,
            tile_context_ms: layer.context_ms,
        };
        Ok(DeviceProfile {
            node: self.node.clone(),
            kind: self.kind.clone(),
            machine: String::new(),
            compute: ComputeProfile {
                layers: kind.layers.iter().map(layer).collect(),
                step_ms: kind.step_ms,
                embedding_ms: kind.embedding_ms,
                head: curve(&kind.head),
                crowding: Crowding::default(),
                noise: Noise::default(),
            },
            free_memory_bytes: self.free_memory_bytes.unwrap_or(kind.free_memory_bytes),
        })
    }
}

fn curve(points: &[(u32, f64)]) -> RowCurve {
    let point = |&(rows, ms)| RowPoint { rows, ms };
    RowCurve {
        points: points.iter().map(point).collect(),
    }
}

/// Both directions of every pair of `nodes`.
fn all_links(
    nodes: &[&NodeId],
    network: NetworkEntry,
    entries: &[LinkEntry],
) -> Result<Vec<LinkProfile>> {
    for entry in entries {
        let unknown = entry.between.iter().find(|node| !nodes.contains(node));
        if let Some(node) = unknown {
            return refuse(format!(
                "a [[link]] names {node}, which is neither a device nor the head"
            ));
        }
    }
    let rates = entries.iter().filter_map(|entry| entry.mbps);
    for mbps in rates.chain([network.mbps]) {
        if !(mbps > 0.0 && mbps.is_finite()) {
            let got = Figure(mbps);
            return refuse(format!("mbps is {got}, expected more than 0"));
        }
    }
    let mut links = Vec::with_capacity(nodes.len() * nodes.len());
    for &from in nodes {
        for &to in nodes.iter().filter(|&&to| to != from) {
            let meant = entries.iter().rev().filter(|entry| entry.is_of(from, to));
            let latency_ms = meant.clone().find_map(|entry| entry.latency_ms);
            let mbps = meant.clone().find_map(|entry| entry.mbps);
            links.push(LinkProfile {
                from: from.clone(),
                to: to.clone(),
                latency_ms: latency_ms.unwrap_or(network.latency_ms),
                bytes_per_ms: mbps.unwrap_or(network.mbps) * BYTES_PER_MS_AND_MBPS,
            });
        }
    }
    Ok(links)
}

impl LinkEntry {
    fn is_of(&self, from: &NodeId, to: &NodeId) -> bool {
        let [a, b] = &self.between;
        (a == from && b == to) || (!self.one_way && a == to && b == from)
    }
}
