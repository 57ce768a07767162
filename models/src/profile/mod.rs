//! What was measured of a device, and what planning has to know of a model: the numbers behind
//! every placement.

mod curve;
mod model;

use serde::{Deserialize, Serialize};

pub use curve::{RowCurve, RowPoint, to_ns};
pub use model::{LayerShape, ModelProfile};

/// What one layer of a cost class needs on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerProfile {
    /// Time of one layer for n rows with nothing in the cache before them.
    pub rows: RowCurve,
    /// Milliseconds for each row and each token in the cache before the rows. May be 0.
    pub context_ms: f64,
}

/// How fast a device computes one model, with one quantization and number of threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeProfile {
    /// One layer of each cost class, indexed by [`LayerShape::class`].
    pub layers: Vec<LayerProfile>,
    /// Milliseconds of a step whatever its rows and layers: building the graph, waking threads.
    /// May be 0.
    #[serde(default)]
    pub step_ms: f64,
    /// Milliseconds to look up the embedding of one row. May be 0.
    #[serde(default)]
    pub embedding_ms: f64,
    /// Time of the output head (norm, logits, sampling) for n rows that want logits.
    pub head: RowCurve,
}
