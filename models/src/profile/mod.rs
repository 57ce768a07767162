//! What was measured of a device, and what planning has to know of a model: the numbers behind
//! every placement.

mod cache;
mod crowding;
mod curve;
mod device;
mod measure;
mod model;
mod noise;
mod watch;

use serde::{Deserialize, Serialize};

pub use cache::measure_cached;
pub use crowding::{CrowdedStep, Crowding};
pub use curve::{RowCurve, RowPoint, to_ns};
pub use device::device_kind;
pub use measure::measure;
pub use model::{LayerShape, ModelProfile};
pub use noise::Noise;
pub use watch::watched;

/// What one layer of a cost class needs on a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerProfile {
    /// Time of one layer for n rows with nothing in the cache before them.
    pub rows: RowCurve,
    /// Milliseconds for each row and each token in the cache before the rows, in steps of fewer than
    /// [`TILE_ROWS`] rows. May be 0.
    pub context_ms: f64,
    /// The same in larger steps. May be 0.
    pub tile_context_ms: f64,
}

/// From so many rows on llama.cpp's fused attention works in tiles, in which a row is several times
/// cheaper (`GGML_FA_TILE_Q`, ggml-cpu/common.h).
pub const TILE_ROWS: u32 = 64;

impl LayerProfile {
    /// Milliseconds for each row and each token in the cache, in a step of `rows` rows.
    pub fn context_ms_of(&self, rows: u32) -> f64 {
        if rows < TILE_ROWS {
            self.context_ms
        } else {
            self.tile_context_ms
        }
    }
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
    /// Time of the output head (norm, logits) for n rows that want logits, and of what the last layer
    /// computes for such rows alone.
    pub head: RowCurve,
    /// What another stage on this device takes from it.
    #[serde(default)]
    pub crowding: Crowding,
    /// How much the measurement was disturbed.
    #[serde(default)]
    pub noise: Noise,
}

impl ComputeProfile {
    /// Makes everything take `factor` times as long.
    pub fn scale(&mut self, factor: f64) {
        let layers = self.layers.iter_mut().flat_map(|layer| {
            let rows = layer.rows.points.iter_mut().map(|point| &mut point.ms);
            rows.chain([&mut layer.context_ms, &mut layer.tile_context_ms])
        });
        let head = self.head.points.iter_mut().map(|point| &mut point.ms);
        let others = [&mut self.step_ms, &mut self.embedding_ms];
        for ms in layers.chain(head).chain(others) {
            *ms *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_device_takes_longer_for_everything_alike() {
        let profile = |times: f64| ComputeProfile {
            layers: vec![LayerProfile {
                rows: RowCurve::new(&[(1, 2.0 * times), (4, 3.0 * times)]),
                context_ms: 5.0 * times,
                tile_context_ms: 7.0 * times,
            }],
            step_ms: 11.0 * times,
            embedding_ms: 13.0 * times,
            head: RowCurve::new(&[(1, 17.0 * times)]),
            crowding: Crowding::default(),
            noise: Noise::default(),
        };
        let mut slower = profile(1.0);
        slower.scale(4.0);
        assert_eq!(slower, profile(4.0));
    }
}
