//! Plan files: a plan as `jupiter plan --json` prints it and `serve --plan` takes it.

use jupiter_models::LayerRange;
use jupiter_models::profile::Noise;
use serde::{Deserialize, Serialize};

use crate::NodeId;
use crate::planning::chunks::ChunkTable;
use crate::planning::placement::{MAX_ROWS, Objective, Plan, PlanRequest};
use crate::planning::profile::{Cluster, DeviceProfile};
use crate::planning::{PlanError, Result};

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;
/// Digits of a content hash that errors show: enough to tell models apart.
const SHOWN_DIGITS: usize = 12;

/// A plan for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Content hash of the model's file.
    pub model: String,
    /// Its number of layers; not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<u32>,
    /// What the placement is best at.
    pub objective: Objective,
    /// Tokens of the prompt that was planned for.
    pub prompt: u32,
    /// The stages, in order.
    pub placement: Vec<StageEntry>,
    /// The devices without layers.
    pub excluded: Vec<ExcludedEntry>,
    /// Rows of each chunk of that prompt, in order.
    pub chunks: Vec<u32>,
    /// Rows of a decode step, at most: one for each stream in a micro-batch.
    pub rows: u32,
    /// Decode micro-batches that keep the slowest stage busy.
    pub micro_batches: u32,
    /// What it will need.
    pub predicted: Predicted,
    /// How sure that is; none of machines that are not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<MeasuredEntry>,
}

/// How a device was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredEntry {
    /// Which.
    pub node: NodeId,
    /// What disturbed it, as shares.
    pub noise: Noise,
    /// Whether to plan again when it is quiet.
    pub is_doubtful: bool,
}

impl MeasuredEntry {
    /// The devices of a cluster that were measured, and not described.
    pub fn all(cluster: &Cluster) -> Vec<MeasuredEntry> {
        let entry = |device: &DeviceProfile| MeasuredEntry {
            node: device.node.clone(),
            noise: device.compute.noise,
            is_doubtful: device.compute.noise.is_doubtful(),
        };
        let entries = cluster.devices().iter().map(entry);
        entries
            .filter(|entry| entry.noise != Noise::default())
            .collect()
    }
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageEntry {
    /// Its device.
    pub node: NodeId,
    /// First layer, and one past the last.
    pub layers: [u32; 2],
    /// What it will hold: weights, KV cache and buffers.
    pub memory_bytes: u64,
}

/// A device that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludedEntry {
    /// Which.
    pub node: NodeId,
    /// Why.
    pub why: String,
}

/// Predicted figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// Time to the first token of the prompt, in its chunks.
    pub ttft_ms: f64,
    /// Time of a decode step around the pipeline.
    pub tbt_ms: f64,
    /// Tokens a second of all streams, with all micro-batches under way.
    pub tps: f64,
}

impl PlanFile {
    /// Writes down a plan for `cluster` with the chunks of the prompt that was asked for. `model` is
    /// the content hash of the model's file.
    ///
    /// # Errors
    /// [`PlanError::BadRequest`] when the prompt is longer than the table.
    pub fn new(
        cluster: &Cluster,
        plan: &Plan,
        chunks: &ChunkTable,
        request: &PlanRequest,
        model: &str,
    ) -> Result<PlanFile> {
        let chunks = chunks.chunks(request.load.prompt)?;
        let placement: Vec<StageEntry> = plan
            .placement
            .iter()
            .map(|stage| StageEntry {
                node: stage.node.clone(),
                layers: [stage.layers.start, stage.layers.end],
                memory_bytes: stage.memory_bytes,
            })
            .collect();
        let excluded = plan.excluded.iter().map(|excluded| ExcludedEntry {
            node: excluded.node.clone(),
            why: excluded.reason.to_string(),
        });
        Ok(PlanFile {
            measured: MeasuredEntry::all(cluster),
            model: model.to_owned(),
            n_layer: placement.last().map(|stage| stage.layers[1]),
            objective: request.objective,
            prompt: request.load.prompt,
            placement,
            excluded: excluded.collect(),
            predicted: Predicted {
                ttft_ms: chunks.ttft_ns as f64 / NS_PER_MS,
                tbt_ms: plan.predicted.tbt_ms,
                tps: plan.predicted.tps,
            },
            chunks: chunks.rows,
            rows: request.load.rows,
            micro_batches: plan.predicted.micro_batches,
        })
    }

    /// Checks that this is a plan for the model of content hash `model` with `n_layer` layers, and
    /// gives its stages.
    ///
    /// # Errors
    /// [`PlanError::PlanFile`] for another model, layers that are missing or there twice, a device
    /// twice, and chunks that do not make up the prompt.
    pub fn check(&self, model: &str, n_layer: u32) -> Result<Vec<(NodeId, LayerRange)>> {
        if self.model != model {
            return refuse(format!(
                "it is for the model {}, not for {}: name that model's file, or plan again with \
                 `jupiter plan -m FILE --json`",
                digits(&self.model),
                digits(model)
            ));
        }
        if let Some(planned) = self.n_layer.filter(|&planned| planned != n_layer) {
            return refuse(format!(
                "n_layer is {planned}, the model has {n_layer} layers: plan again"
            ));
        }
        self.check_steps()?;
        self.stages(n_layer)
    }

    fn check_steps(&self) -> Result<()> {
        let in_chunks: u64 = self.chunks.iter().map(|&rows| u64::from(rows)).sum();
        if in_chunks != u64::from(self.prompt) || self.prompt == 0 || self.chunks.contains(&0) {
            return refuse(format!(
                "its chunks hold {in_chunks} tokens for a prompt of {}: they must add up, none of \
                 them empty",
                self.prompt
            ));
        }
        for (field, got) in [("rows", self.rows), ("micro_batches", self.micro_batches)] {
            if !(1..=MAX_ROWS).contains(&got) {
                return refuse(format!("{field} is {got}, expected 1 to {MAX_ROWS}"));
            }
        }
        Ok(())
    }

    fn stages(&self, n_layer: u32) -> Result<Vec<(NodeId, LayerRange)>> {
        let mut behind = 0;
        let mut stages: Vec<(NodeId, LayerRange)> = Vec::with_capacity(self.placement.len());
        for StageEntry { node, layers, .. } in &self.placement {
            let [start, end] = *layers;
            if start >= end {
                return refuse(format!(
                    "{node} has no layers ({start}..{end}): remove it from the placement"
                ));
            }
            if start > behind {
                return refuse(format!(
                    "no stage holds the layers {behind}..{start}: give them to {node} or the one \
                     before it"
                ));
            }
            if start < behind {
                return refuse(format!(
                    "{node} begins at layer {start}, which the stage before it holds, too: let \
                     it begin at {behind}"
                ));
            }
            if stages.iter().any(|(other, _)| other == node) {
                return refuse(format!(
                    "{node} is there twice: a device holds one range of layers"
                ));
            }
            stages.push((node.clone(), LayerRange::new(start, end)));
            behind = end;
        }
        if behind != n_layer {
            return refuse(format!(
                "its stages end at layer {behind}, the model's layers at {n_layer}: change the \
                 last stage, or plan again"
            ));
        }
        Ok(stages)
    }
}

fn refuse<T>(problem: String) -> Result<T> {
    Err(PlanError::PlanFile(problem))
}

fn digits(hash: &str) -> String {
    hash.chars().take(SHOWN_DIGITS).collect()
}
