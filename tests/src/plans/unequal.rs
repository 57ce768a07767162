//! Planning for many unequal devices: how long it takes, and what unequal chunks are worth.

use std::time::{Duration, Instant};

use anyhow::Result;
use jupiter_actors::NodeId;
use jupiter_actors::planning::chunks::{ChunkGrid, ChunkTable, PlannedChunks};
use jupiter_actors::planning::cost::{Pipeline, prefill_ns};
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Objective, Plan, PlanRequest, Workload, plan};
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use jupiter_actors::planning::typical::{self, POINTS};
use jupiter_models::gguf::KvDtype;
use jupiter_models::profile::{
    ComputeProfile, Crowding, LayerProfile, LayerShape, ModelProfile, Noise, RowCurve,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::NS_PER_MS;

/// Tokens of the longest prompt, and of the one that placements are for.
pub const PROMPT: u32 = 8192;
/// Layers of the model; widths and bytes are those of Llama-2 70B in 4.5 bits.
const N_LAYER: u64 = 80;

/// Devices, types among them, and the memory that one of them has free, give or take 40 %.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Devices.
    pub n_devices: usize,
    /// Types; devices of one type are equal.
    pub n_types: usize,
    /// Gigabytes free on a device.
    pub free_gb: f64,
}

/// How long planning took, and what came out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The placement.
    pub plan: Plan,
    /// Time for it.
    pub placement_time: Duration,
    /// The chunks of the longest prompt.
    pub chunks: PlannedChunks,
    /// Time for the table of all prompts up to it.
    pub table_time: Duration,
    /// By how much the best equal chunks are slower, in percent.
    pub equal_slower: f64,
}

/// Plans for `cluster`; the best time of `n_times`.
///
/// # Errors
/// What planning refuses.
pub fn planned(cluster: &Cluster, objective: Objective, n_times: u32) -> Result<Planned> {
    let request = PlanRequest {
        objective,
        load: Workload {
            prompt: PROMPT,
            rows: 4,
            context: PROMPT / 2,
        },
        memory: MemoryDemand {
            n_ctx: PROMPT,
            n_seq: 1,
            kv: KvDtype::F16,
        },
    };
    let (placed, placement_time) = best_time(n_times, || plan(cluster, &request));
    let placed = placed?;
    let pipeline = placed.pipeline(cluster);
    let grid = ChunkGrid::default();
    let (table, table_time) = best_time(n_times, || ChunkTable::new(&pipeline, grid));
    let chunks = table?.chunks(PROMPT)?;
    let equal_ns = best_equal_ns(&pipeline, PROMPT, grid);
    Ok(Planned {
        placement_time,
        table_time,
        equal_slower: (equal_ns as f64 / chunks.ttft_ns as f64 - 1.0) * 100.0,
        chunks,
        plan: placed,
    })
}

/// Nanoseconds to the first token with the best number of equal chunks, longer ones first: all numbers
/// are tried for which chunks have as many rows as the grid allows.
fn best_equal_ns(pipeline: &Pipeline<'_>, prompt: u32, grid: ChunkGrid) -> u64 {
    let least = prompt.div_ceil(grid.largest);
    let numbers = least..=(prompt / grid.smallest).max(least);
    let ns = |n_chunks: u32| {
        let (rows, n_longer) = (prompt / n_chunks, prompt % n_chunks);
        let chunks: Vec<u32> = (0..n_chunks)
            .map(|i| rows + u32::from(i < n_longer))
            .collect();
        prefill_ns(pipeline, &chunks)
    };
    numbers.map(ns).min().unwrap_or(u64::MAX)
}

fn best_time<T>(n_times: u32, mut run: impl FnMut() -> T) -> (T, Duration) {
    let mut timed = || {
        let start = Instant::now();
        let result = run();
        (result, start.elapsed())
    };
    let (mut result, mut least) = timed();
    for _ in 1..n_times {
        let (again, took) = timed();
        (result, least) = (again, least.min(took));
    }
    (result, least)
}

/// The line of the table for `size` and `objective`.
pub fn line(size: Size, objective: Objective, planned: &Planned) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!(
        "| {:>2} of {:>2} types, {:>2} GB | {:<10} | {:>12.1} | {:>14.1} | {:>7.1} | {:>6} | \
         {:>8.0} | {:>8.2} | {:>7.1} |",
        size.n_devices,
        size.n_types,
        size.free_gb,
        format!("{objective:?}").to_lowercase(),
        ms(planned.placement_time),
        ms(planned.table_time),
        ms(planned.placement_time + planned.table_time),
        planned.plan.placement.len(),
        planned.chunks.ttft_ns as f64 / NS_PER_MS / 1e3,
        planned.chunks.within * 100.0,
        planned.equal_slower,
    )
}

/// The head of the table of [`line()`]s.
pub const HEAD: &str = "\
| devices               | objective  | placement ms | chunk table ms | both ms | stages | prompt s | within % | equal % |
|-----------------------|------------|-------------:|---------------:|--------:|-------:|---------:|---------:|--------:|";

/// A random cluster of devices that are one to five times as slow as [`POINTS`], with links of
/// 100 to 1000 Mbit/s that differ by direction.
///
/// # Errors
/// None: the values pass the checks.
pub fn cluster(seed: u64, size: Size) -> Result<Cluster> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut devices: Vec<DeviceProfile> = Vec::new();
    for i in 0..size.n_devices {
        let node = NodeId(format!("n{i}"));
        if i >= size.n_types {
            let twin = devices[i % size.n_types].clone();
            devices.push(DeviceProfile { node, ..twin });
            continue;
        }
        let times = random.random_range(1.0..5.0);
        let layer = |random: &mut ChaCha8Rng, share: f64| LayerProfile {
            rows: curve(random, times * share),
            context_ms: 4e-5 * times,
            tile_context_ms: 2e-5 * times,
        };
        devices.push(DeviceProfile {
            node,
            kind: format!("type{i}"),
            machine: String::new(),
            compute: ComputeProfile {
                layers: vec![layer(random, 1.0), layer(random, 1.2)],
                step_ms: 0.5 * times,
                embedding_ms: 0.002,
                head: curve(random, times * 2.0),
                crowding: Crowding::default(),
                noise: Noise::default(),
            },
            free_memory_bytes: (random.random_range(0.6..1.4) * size.free_gb * 1e9) as u64,
        });
    }
    let n_pairs = size.n_types * size.n_types;
    let between_types: Vec<(f64, f64)> = (0..n_pairs)
        .map(|_| {
            (
                random.random_range(0.2..6.0),
                random.random_range(12_500.0..125_000.0),
            )
        })
        .collect();
    let mut links = Vec::new();
    for from in 0..size.n_devices {
        for to in (0..size.n_devices).filter(|&to| to != from) {
            let pair = from % size.n_types * size.n_types + to % size.n_types;
            let (latency_ms, bytes_per_ms) = between_types[pair];
            links.push(LinkProfile {
                from: NodeId(format!("n{from}")),
                to: NodeId(format!("n{to}")),
                latency_ms,
                bytes_per_ms,
            });
        }
    }
    Ok(Cluster::new(model(), devices, &links, None)?)
}

fn model() -> ModelProfile {
    let layer = |i: u64| LayerShape {
        class: usize::from(i % 4 == 3),
        weight_bytes: 460_000_000 + (i % 4) * 20_000_000,
        kv_bytes_per_token: 4096,
        state_bytes: 0,
    };
    ModelProfile {
        layers: (0..N_LAYER).map(layer).collect(),
        embedding_bytes: 600_000_000,
        head_bytes: 860_000_000,
        tied_head: false,
        buffer_bytes: 300_000_000,
        n_embd: 8192,
        bytes_per_value: 2.0,
        cuts: Default::default(),
    }
}

/// The measured curve, slower by `times`, each point a little off.
fn curve(random: &mut ChaCha8Rng, times: f64) -> RowCurve {
    let points = POINTS.map(|(rows, ms)| {
        let noise = random.random_range(0.95..1.05);
        (rows, ms / f64::from(typical::N_LAYER) * times * noise)
    });
    RowCurve::new(&points)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn unequal_chunks_are_never_worse_than_the_best_equal_ones() {
        let size = Size {
            n_devices: 3,
            n_types: 3,
            free_gb: 60.0,
        };
        let cluster = cluster(0, size).unwrap();
        let planned = planned(&cluster, Objective::Ttft, 1).unwrap();
        assert!(planned.equal_slower >= 0.0, "{}", planned.equal_slower);
        assert_eq!(planned.chunks.rows.iter().sum::<u32>(), PROMPT);
        assert!(
            line(size, Objective::Ttft, &planned).starts_with("|  3 of  3 types, 60 GB | ttft")
        );
    }
}
