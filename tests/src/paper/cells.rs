//! The devices of a cell.

use std::path::Path;

use anyhow::{Context, Result};
use jupiter_actors::planning::cost::{Pipeline, Work, prefill_ns};
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use jupiter_actors::planning::typical::POINTS;
use jupiter_models::LayerRange;
use jupiter_models::profile::{RowCurve, RowPoint};

use super::published::{self, Model};
use super::{GENERATED, PROMPT};

/// Latency of a hop at 1000 Mbps and what it has more at 100, in milliseconds, as in the devices
/// files; between them it is taken to fall as the time of a byte does.
const LATENCY_MS: (f64, f64) = (0.3, 5.2);
/// Width and layers of 13B over those of 7B.
const WIDER: (u64, u64) = (5120, 4096);
const LAYERS_13B: usize = 40;
/// Bytes that a link of one Mbit/s takes in a millisecond.
const BYTES_PER_MS_AND_MBPS: f64 = 125.0;

/// The devices of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Four Xavier NX.
    A,
    /// A Nano, two TX2 and a Xavier NX.
    B,
}

/// What rows between the calibrated points of a device's row curve take: one row, and 260.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A straight line.
    Line,
    /// A part of what one row takes is there for any number of rows ([`FIXED`]); beside it weights are read
    /// once, while the device computes: as long as one row, until they take as long as they do among 260.
    Launched,
    /// As our own kernels on a processor, whose curve was measured: a roofline with a round knee.
    Kernels,
    /// Without all that: the reading or the computing, whichever takes longer.
    Roofline,
}

impl Rows {
    /// All, the slowest first.
    pub const ALL: [Rows; 4] = [Rows::Line, Rows::Launched, Rows::Kernels, Rows::Roofline];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Rows::Line => "line",
            Rows::Launched => "launched",
            Rows::Kernels => "kernels",
            Rows::Roofline => "roofline",
        }
    }
}

/// Share of what a layer of 7B takes with one row that does not grow with the layer. From the published
/// seconds: at 1000 Mbps in A a plain pipeline takes 38.6 s with 7B and 63.1 s with 13B, of which prefill
/// takes 7.4 s and 1.8 times that (26.4 over 14.7 ms a token, as Jupiter's). So a token takes 1.6 times as
/// long, and a layer 1.28 times, where it has 1.56 times the weights. What is read in 14.8 ms is eight
/// times a layer's 4-bit weights, so it was never the reading alone.
const FIXED: f64 = 0.5;
/// The same layer's time in 13B over that in 7B.
const LAYER_13B: f64 = 1.28;

/// A model on devices with links of a rate.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Devices and links, the Planner beside the first device.
    pub cluster: Cluster,
    /// Layers of each device in a plain pipeline: equal shares of equal devices, of unequal ones by
    /// their speed in prefill (the cut was not published).
    pub plain: Vec<(usize, LayerRange)>,
    /// Published seconds of the other systems.
    pub published: [Option<f64>; 5],
    /// Published seconds of Jupiter.
    pub jupiter: f64,
    /// Times of a layer over those of the devices file.
    pub factor: f64,
    model: Model,
    environment: Environment,
    mbps: u32,
}

impl Cell {
    /// Reads the devices of an environment, and calibrates what a layer takes so that a plain
    /// pipeline takes EdgeShard's seconds at 1000 Mbps.
    ///
    /// # Errors
    /// When the devices file cannot be read.
    pub fn new(configs: &Path, model: Model, environment: Environment, mbps: u32) -> Result<Cell> {
        let file = match environment {
            Environment::A => "devices-jetson-nx-1000mbps.toml",
            Environment::B => "devices-jetson-mixed-1000mbps.toml",
        };
        let path = configs.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let file: DevicesFile = toml::from_str(&text)?;
        let described = file.into_cluster()?;
        let plain = plain_stages(model, environment);
        let (calibrated_at, _) = published::seconds(model, environment, 1000);
        let target_s = calibrated_at[4].context("EdgeShard is published everywhere")?;
        // Bytes and latency are there already, so what is left is proportional to the factor.
        let at = |factor| {
            let cluster = changed(&described, model, 1000, factor)?;
            Ok::<f64, anyhow::Error>(plain_seconds(&cluster, &plain))
        };
        let (none, one) = (at(1e-6)?, at(1.0)?);
        let factor = (target_s - none) / (one - none);
        let (published, jupiter) = published::seconds(model, environment, mbps);
        Ok(Cell {
            cluster: changed(&described, model, mbps, factor)?,
            plain,
            published,
            jupiter,
            factor,
            model,
            environment,
            mbps,
        })
    }

    /// The same devices with other times between the calibrated points.
    ///
    /// # Errors
    /// None: the values pass the checks.
    pub fn with_rows(&self, rows: Rows) -> Result<Cell> {
        let mut devices = self.cluster.devices().to_vec();
        for compute in devices.iter_mut().map(|device| &mut device.compute) {
            let layers = compute.layers.iter_mut().map(|layer| &mut layer.rows);
            for curve in layers.chain([&mut compute.head]) {
                match rows {
                    Rows::Line => {}
                    Rows::Launched => bend(curve, self.fixed()),
                    Rows::Kernels => round(curve),
                    Rows::Roofline => bend(curve, 0.0),
                }
            }
        }
        let pairs = (0..devices.len()).flat_map(|a| (0..devices.len()).map(move |b| (a, b)));
        let links: Vec<_> = pairs
            .filter_map(|(a, b)| self.cluster.link_between(a, b))
            .collect();
        let cluster = Cluster::new(self.cluster.model().clone(), devices, &links, None)?;
        Ok(Cell {
            cluster: cluster.with_head_on(0),
            ..self.clone()
        })
    }

    /// Whether all devices are alike.
    pub fn has_equal_devices(&self) -> bool {
        self.environment == Environment::A
    }

    fn fixed(&self) -> f64 {
        match self.model {
            Model::Llama7B => FIXED,
            Model::Llama13B => FIXED / LAYER_13B,
        }
    }

    /// Its name, as `7B, A, 100 Mbps`.
    pub fn name(&self) -> String {
        let model = match self.model {
            Model::Llama7B => "7B",
            Model::Llama13B => "13B",
        };
        format!("{model}, {:?}, {} Mbps", self.environment, self.mbps)
    }
}

/// Adds the points around the knee: where the `fixed` share of one row's time, and the reading of weights
/// beside it, end to be all that rows take. Through 260 rows it stays what it was.
fn bend(curve: &mut RowCurve, fixed: f64) {
    let [first, second, ref rest @ ..] = curve.points[..] else {
        return;
    };
    let fixed_ms = fixed * first.ms;
    let row_ms = (second.ms - fixed_ms) / f64::from(second.rows);
    let ms = |rows: u32| first.ms.max(fixed_ms + row_ms * f64::from(rows));
    let knee = ((first.ms - fixed_ms) / row_ms) as u32;
    let behind = rest.iter().map(|point| point.rows);
    let rows = [1, knee, knee + 1, second.rows].into_iter().chain(behind);
    let mut points: Vec<RowPoint> = rows
        .filter(|&rows| rows >= 1)
        .map(|rows| RowPoint { rows, ms: ms(rows) })
        .collect();
    points.dedup_by_key(|point| point.rows);
    curve.points = points;
}

/// Most rows of the measured curve that are near its knee.
const NEAR_KNEE: u32 = 32;

/// Around the knee of the roofline rows take as many times what it says as those of [`POINTS`] do.
fn round(curve: &mut RowCurve) {
    let [first, second, ..] = curve.points[..] else {
        return;
    };
    bend(curve, 0.0);
    let [(_, one_ms), .., (many, many_ms)] = POINTS;
    let row_ms = many_ms / f64::from(many);
    let wider = first.ms / (second.ms / f64::from(second.rows)) / (one_ms / row_ms);
    let measured = POINTS.iter().filter(|(rows, _)| *rows <= NEAR_KNEE);
    let near = measured.map(|&(rows, ms)| {
        let times = ms / one_ms.max(row_ms * f64::from(rows));
        let rows = (f64::from(rows) * wider) as u32;
        let ms = times
            * first
                .ms
                .max(second.ms * f64::from(rows) / f64::from(second.rows));
        RowPoint { rows, ms }
    });
    let mut points: Vec<RowPoint> = near.collect();
    points.retain(|point| (2..second.rows).contains(&point.rows));
    let last = points.last().map_or(1, |point| point.rows);
    points.extend(curve.points.iter().filter(|point| point.rows > last));
    points.insert(0, first);
    curve.points = points;
}

/// Seconds of the paper's workload on a plain pipeline: one chunk, one stream, nothing guessed.
pub fn plain_seconds(cluster: &Cluster, stages: &[(usize, LayerRange)]) -> f64 {
    let pipeline = Pipeline::new(cluster, stages);
    let decoded = (0..GENERATED).map(|i| pipeline.pass_ns(Work::decode(1, PROMPT + i)));
    (prefill_ns(&pipeline, &[PROMPT]) + decoded.sum::<u64>()) as f64 / 1e9
}

fn plain_stages(model: Model, environment: Environment) -> Vec<(usize, LayerRange)> {
    let counts: [u32; 4] = match (model, environment) {
        (Model::Llama7B, Environment::A) => [8, 8, 8, 8],
        (Model::Llama7B, Environment::B) => [3, 7, 7, 15],
        (Model::Llama13B, Environment::A) => [10, 10, 10, 10],
        (Model::Llama13B, Environment::B) => [4, 9, 9, 18],
    };
    let mut start = 0;
    let stages = counts.into_iter().enumerate().map(|(device, n)| {
        let layers = LayerRange::new(start, start + n);
        start += n;
        (device, layers)
    });
    stages.collect()
}

/// The devices of a file with another model, other links, and layers that take `factor` times as
/// long.
fn changed(described: &Cluster, model: Model, mbps: u32, factor: f64) -> Result<Cluster> {
    let mut profile = described.model().clone();
    if model == Model::Llama13B {
        let (wide, narrow) = WIDER;
        let mut layer = profile.layers[0].clone();
        layer.weight_bytes = layer.weight_bytes * wide * wide / (narrow * narrow);
        layer.kv_bytes_per_token = layer.kv_bytes_per_token * wide / narrow;
        profile.layers = vec![layer; LAYERS_13B];
        profile.embedding_bytes = profile.embedding_bytes * wide / narrow;
        profile.head_bytes = profile.head_bytes * wide / narrow;
        profile.n_embd = wide as u32;
    }
    let devices: Vec<DeviceProfile> = described.devices().to_vec();
    let devices = devices.into_iter().map(|mut device| {
        device.compute.scale(factor);
        device
    });
    let devices: Vec<DeviceProfile> = devices.collect();
    let (least, more) = LATENCY_MS;
    let latency_ms = least + more * (1000.0 / f64::from(mbps) - 1.0) / 9.0;
    let mut links = Vec::new();
    for from in &devices {
        for to in devices.iter().filter(|to| to.node != from.node) {
            links.push(LinkProfile {
                from: from.node.clone(),
                to: to.node.clone(),
                latency_ms,
                bytes_per_ms: f64::from(mbps) * BYTES_PER_MS_AND_MBPS,
            });
        }
    }
    Ok(Cluster::new(profile, devices, &links, None)?.with_head_on(0))
}
