//! Which memory is missing, on which device, by how much, and the nearest setting that fits.

use std::fmt;

use jupiter_models::gguf::KvDtype;

use super::{MemoryDemand, StageMemory};
use crate::NodeId;
use crate::planning::profile::Cluster;
use crate::planning::{PlanError, Result};

/// A model that fits nowhere. All figures are exact: one byte or token more or less decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Weights, embedding and head.
    pub weight_bytes: u64,
    /// KV cache of all layers.
    pub kv_bytes: u64,
    /// Compute buffers of one stage.
    pub buffer_bytes: u64,
    /// Free memory of all devices.
    pub free_bytes: u64,
    /// The device that lacks least.
    pub node: NodeId,
    /// What it lacks: with so much more memory on it alone, the model fits.
    pub missing_bytes: u64,
    /// What was asked.
    pub demand: MemoryDemand,
    /// The longest context that fits; none if not even one token does.
    pub n_ctx: Option<u32>,
    /// The longest context that fits with a KV cache of [`KvDtype::Q8_0`], at most the one asked
    /// for; none if it is that already, or not even one token fits.
    pub n_ctx_q8_0: Option<u32>,
    /// Memory of one more device with which the model fits.
    pub extra_device_bytes: u64,
}

/// Checks that the model fits on devices of `free_bytes`, one for each device of the cluster.
///
/// # Errors
/// [`PlanError::DoesNotFit`] with the exact shortage otherwise.
pub(crate) fn check_fit(
    cluster: &Cluster,
    demand: &MemoryDemand,
    free_bytes: &[u64],
) -> Result<()> {
    match of(cluster, demand).fits(free_bytes) {
        true => Ok(()),
        false => Err(PlanError::DoesNotFit(Box::new(shortage(
            cluster, demand, free_bytes,
        )?))),
    }
}

fn of(cluster: &Cluster, demand: &MemoryDemand) -> StageMemory {
    StageMemory::new(cluster.model(), demand)
}

/// What is missing of a model that does not fit.
fn shortage(cluster: &Cluster, demand: &MemoryDemand, free_bytes: &[u64]) -> Result<Shortage> {
    let memory = |n_ctx, kv| {
        let demand = MemoryDemand {
            n_ctx,
            kv,
            ..*demand
        };
        of(cluster, &demand)
    };
    let asked = of(cluster, demand);
    let all_bytes = asked.range_bytes(0, asked.n_layer());
    let lacks = |i: usize| {
        least(all_bytes, |extra| {
            let mut more = free_bytes.to_vec();
            more[i] = more[i].saturating_add(extra);
            asked.fits(&more)
        })
    };
    // Of devices that lack the same the first is named.
    let (missing_bytes, index) = (0..free_bytes.len())
        .map(|i| (lacks(i), i))
        .min()
        .ok_or(PlanError::NoDevice)?;
    let longest = |kv| {
        let n_too_long = least(u64::from(demand.n_ctx) + 1, |n_ctx| {
            !memory(n_ctx as u32, kv).fits(free_bytes)
        });
        n_too_long.checked_sub(1).filter(|&n_ctx| n_ctx > 0)
    };
    let model = cluster.model();
    let without_kv = memory(0, demand.kv).range_bytes(0, asked.n_layer());
    Ok(Shortage {
        weight_bytes: without_kv - model.buffer_bytes,
        kv_bytes: model
            .layers
            .iter()
            .map(|layer| demand.kv_bytes(layer))
            .fold(0, u64::saturating_add),
        buffer_bytes: model.buffer_bytes,
        free_bytes: free_bytes.iter().sum(),
        node: cluster.devices()[index].node.clone(),
        missing_bytes,
        demand: *demand,
        n_ctx: longest(demand.kv).map(|n_ctx| n_ctx as u32),
        n_ctx_q8_0: match demand.kv {
            KvDtype::F16 => longest(KvDtype::Q8_0).map(|n_ctx| n_ctx as u32),
            KvDtype::Q8_0 => None,
        },
        extra_device_bytes: least(all_bytes, |bytes| {
            let mut more = free_bytes.to_vec();
            more.push(bytes);
            asked.fits(&more)
        }),
    })
}

/// The smallest number below `most` for which `holds`, which stays true once it is; else `most`.
fn least(most: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryDemand { n_ctx, n_seq, .. } = self.demand;
        let sequences = match n_seq {
            1 => String::new(),
            _ => format!(" for {n_seq} sequences"),
        };
        write!(
            f,
            "the model does not fit: it needs {} for weights, {} for the KV cache of {n_ctx} \
             tokens{sequences} and {} of buffers on each device, while {} are free in all; {} \
             lacks {}. It would fit with ",
            show(self.weight_bytes),
            show(self.kv_bytes),
            show(self.buffer_bytes),
            show(self.free_bytes),
            self.node,
            show(self.missing_bytes),
        )?;
        if let Some(n_ctx) = self.n_ctx {
            write!(f, "n_ctx {n_ctx}, or ")?;
        }
        match self.n_ctx_q8_0 {
            Some(longest) if longest == n_ctx => write!(f, "a q8_0 KV cache, or ")?,
            Some(longest) => write!(f, "a q8_0 KV cache and n_ctx {longest}, or ")?,
            None => {}
        }
        write!(
            f,
            "one more device with {} free",
            show(self.extra_device_bytes)
        )
    }
}

/// Bytes for people, rounded up so that what is said suffices.
pub(crate) fn show(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        0..MIB => format!("{bytes} bytes"),
        MIB..GIB => format!("{} MiB", bytes.div_ceil(MIB)),
        _ => format!(
            "{:.2} GiB",
            (bytes as f64 / GIB as f64 * 100.0).ceil() / 100.0
        ),
    }
}
