//! Parts of what the program uses that others look at while they are checked.

use std::path::PathBuf;

use jupiter_actors::NodeId;
use jupiter_models::engine::Emulation;

use crate::net::emulation::LinkLimits;
use crate::net::session::Endpoints;

/// Cluster when nothing is said.
pub const DEFAULT_CLUSTER: &str = "default";

/// A slower machine and network than there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmulationConfig {
    /// The device.
    pub compute: Emulation,
    /// What the node sends.
    pub link: LinkLimits,
}

/// A node's place among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Nodes of other clusters are not seen.
    pub cluster: String,
    /// This node; unique in the cluster.
    pub node: NodeId,
    /// Where it listens and connects to.
    pub endpoints: Endpoints,
}

/// What is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelConfig {
    /// The GGUF file; none for the default model.
    pub path: Option<PathBuf>,
    /// Whether models are cut that no test has shown to be cut right.
    pub allow_unproven: bool,
    /// The chat template: a name that llama.cpp knows, a file of Jinja, or Jinja itself; none for
    /// the model's own.
    pub chat_template: Option<String>,
}

impl ModelConfig {
    /// Whether no file is named, so that the default model is used.
    pub fn is_default(&self) -> bool {
        self.path.is_none()
    }
}

/// How a model is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// One stage per node.
    #[default]
    PerNode,
    /// So many stages of about equal size.
    Stages(u32),
    /// Stages of so many layers, in order.
    Layers(Vec<u32>),
    /// The best for what was measured of the nodes.
    Planned,
    /// The plan in this file.
    File(PathBuf),
}
