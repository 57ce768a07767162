//! Single parts of a configuration, completed and checked.

use jupiter_actors::NodeId;
use jupiter_models::engine::Emulation;

use super::groups::{CutSettings, EmulationSettings, NetworkSettings};
use super::parts::{DEFAULT_CLUSTER, EmulationConfig, NetworkConfig, Split};
use super::units;
use crate::error::{ConfigError, Result};
use crate::net::emulation::LinkLimits;
use crate::net::keys::{Keys, check_name};
use crate::net::session::{Endpoints, parse_endpoint};

/// A node's place, its name made up where none is said.
pub(super) fn network(place: NetworkSettings) -> Result<NetworkConfig> {
    let cluster = place.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
    let node = place.node.unwrap_or_else(default_node);
    Keys::new(&cluster)?;
    check_name("node", &node)?;
    let parse = |endpoints: &[String]| -> Result<Vec<String>, ConfigError> {
        endpoints
            .iter()
            .map(|endpoint| parse_endpoint(endpoint))
            .collect()
    };
    let endpoints = Endpoints {
        listen: parse(&place.listen)?,
        connect: parse(&place.connect)?,
    };
    Ok(NetworkConfig {
        cluster,
        node: NodeId(node),
        endpoints,
    })
}

/// The machine's name and the process, so that several workers on one machine differ.
fn default_node() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .take(48)
        .collect();
    let host = if host.is_empty() {
        "node".to_owned()
    } else {
        host
    };
    format!("{host}-{}", std::process::id())
}

/// A device and a link that are slower or smaller than those of this machine.
pub(super) fn emulation(s: &EmulationSettings) -> Result<EmulationConfig> {
    let (memory, rate, latency) = (&s.memory_limit, &s.link_rate, &s.link_latency);
    let compute = Emulation {
        slowdown: s.slowdown.unwrap_or(1.0),
        memory_limit_bytes: memory.as_deref().map(units::bytes).transpose()?,
    };
    compute.check()?;
    let latency = latency.as_deref().map(units::duration).transpose()?;
    let link = LinkLimits {
        bytes_per_s: rate.as_deref().map(units::bytes_per_s).transpose()?,
        latency: latency.unwrap_or_default(),
    };
    Ok(EmulationConfig { compute, link })
}

/// Without a word, nodes of a cluster are measured, and what runs in one process is not split.
pub(super) fn split(
    cut: CutSettings,
    plan: Option<String>,
    is_cluster: bool,
) -> Result<Split, ConfigError> {
    match (plan.as_deref(), cut.stages, cut.split) {
        (Some("auto"), None, None) => Ok(Split::Planned),
        (Some("even"), None, None) => Ok(Split::PerNode),
        (Some(""), None, None) => Err(ConfigError::EmptyPlan),
        (Some(file), None, None) => Ok(Split::File(file.into())),
        (Some(_), _, _) => Err(ConfigError::PlanAndSplit),
        (None, None, None) if is_cluster => Ok(Split::Planned),
        (None, None, None) => Ok(Split::PerNode),
        (None, Some(n), None) => Ok(Split::Stages(within("stages", n, 1, u32::MAX)?)),
        (None, None, Some(layers)) if layers.is_empty() || layers.contains(&0) => {
            Err(ConfigError::EmptyStage)
        }
        (None, None, Some(layers)) => Ok(Split::Layers(layers)),
        (None, Some(_), Some(_)) => Err(ConfigError::StagesAndSplit),
    }
}

/// Bytes for so many MiB; none for -1: there is no bound.
pub(super) fn cache_bytes(mib: Option<i64>) -> Result<Option<u64>, ConfigError> {
    let mib = within("cache_ram", mib.unwrap_or(-1), -1, 1 << 40)?;
    Ok(u64::try_from(mib).ok().map(|mib| mib << 20))
}

/// `value`, if it lies in `min..=max`.
pub(super) fn within<T>(key: &'static str, value: T, min: T, max: T) -> Result<T, ConfigError>
where
    T: PartialOrd + std::fmt::Display,
{
    if value < min {
        return Err(ConfigError::too_small(key, &value, &min));
    }
    if value > max {
        return Err(ConfigError::too_large(key, &value, &max));
    }
    Ok(value)
}
