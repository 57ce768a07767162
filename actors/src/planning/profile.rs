//! What was measured of devices and links.
//!
//! The structs here are what workers send and files hold. [`Cluster::new`] checks them, once, and
//! everything else takes a [`Cluster`].

mod check;

use serde::{Deserialize, Serialize};

pub use check::Cluster;
pub(crate) use check::{Head, MAX_LAYERS};

use jupiter_models::profile::ComputeProfile;

use crate::NodeId;

/// One device, measured for one model, quantization and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Its name.
    pub node: NodeId,
    /// Devices of one type are taken for interchangeable when there are too many to tell apart.
    pub kind: String,
    /// The machine that it is on, which devices may share; empty where that is not known.
    #[serde(default)]
    pub machine: String,
    /// How fast it computes.
    pub compute: ComputeProfile,
    /// Memory that is free now, for weights, KV cache and compute buffers.
    pub free_memory_bytes: u64,
}

/// The way from one device to another. Both directions are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkProfile {
    /// Sender.
    pub from: NodeId,
    /// Receiver.
    pub to: NodeId,
    /// Delay of a message after its last byte was sent (half the round trip). It occupies nothing.
    pub latency_ms: f64,
    /// Bandwidth: what one message occupies the link for.
    pub bytes_per_ms: f64,
}
