//! Jupiter's workload on the calibrated Jetsons (configs/devices-jetson-*.toml): ours against a
//! plain pipeline, against equal chunks and against the published numbers. All of ours is simulated.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jupiter_actors::planning::chunks::equal::best_equal_chunks;
use jupiter_actors::planning::chunks::{ChunkGrid, ChunkTable};
use jupiter_actors::planning::cost::{Pipeline, prefill_ns};
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Load, Objective, Plan, Request, plan};
use jupiter_actors::planning::profile::Cluster;
use jupiter_actors::planning::simulate::{DecodeLoad, simulate_decode, simulate_prefill};
use jupiter_models::LayerRange;
use jupiter_models::gguf::KvDtype;

use super::NS_PER_MS;

/// Tokens of the papers' prompts.
const PROMPT: u32 = 260;
/// Tokens generated.
const GENERATED: u32 = 64;
/// Points of an outline that are generated at once.
const POINTS: u32 = 4;

/// Published figures of a system.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Milliseconds a token of the prompt, where given.
    pub prefill: Option<f64>,
    /// Milliseconds a generated token, where given.
    pub decode: Option<f64>,
    /// Seconds for 260 prompt tokens and 64 generated ones.
    pub end_to_end: f64,
}

/// One environment of the paper.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// Name and rate of its links.
    pub name: &'static str,
    /// Its devices file.
    pub file: &'static str,
    /// Layers of each device in a plain pipeline: equal shares of equal devices; of unequal ones by
    /// their speed in prefill (assumed, the cut was not published).
    pub plain_layers: [u32; 4],
    /// EdgeShard there, a plain pipeline.
    pub edgeshard: Published,
    /// Jupiter there.
    pub jupiter: Published,
}

const fn published(prefill: Option<f64>, decode: Option<f64>, end_to_end: f64) -> Published {
    Published {
        prefill,
        decode,
        end_to_end,
    }
}

/// The environments for which there are devices files.
pub const ENVIRONMENTS: [Environment; 4] = [
    Environment {
        name: "4 NX, 100 Mbps",
        file: "devices-jetson-nx-100mbps.toml",
        plain_layers: [8, 8, 8, 8],
        edgeshard: published(Some(30.6), Some(507.0), 42.2),
        jupiter: published(Some(15.5), Some(190.0), 16.5),
    },
    Environment {
        name: "4 NX, 1000 Mbps",
        file: "devices-jetson-nx-1000mbps.toml",
        plain_layers: [8, 8, 8, 8],
        edgeshard: published(Some(28.6), Some(484.0), 38.6),
        jupiter: published(Some(14.7), Some(177.0), 14.9),
    },
    Environment {
        name: "mixed, 100 Mbps",
        file: "devices-jetson-mixed-100mbps.toml",
        plain_layers: [3, 7, 7, 15],
        edgeshard: published(None, None, 59.3),
        jupiter: published(Some(30.5), Some(225.0), 22.4),
    },
    Environment {
        name: "mixed, 1000 Mbps",
        file: "devices-jetson-mixed-1000mbps.toml",
        plain_layers: [3, 7, 7, 15],
        edgeshard: published(None, None, 55.7),
        jupiter: published(Some(29.8), Some(212.0), 20.9),
    },
];

/// What is simulated of an environment; milliseconds a token.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Prefill: plain pipeline, equal chunks on it, and the plan with its chunks.
    pub prefill: [f64; 3],
    /// Decode: plain pipeline, the plan with one stream, and with [`POINTS`] streams together.
    pub decode: [f64; 3],
    /// The plan for prompts, which decodes as well.
    pub plan: Plan,
    /// Rows of its chunks.
    pub chunks: Vec<u32>,
    /// Micro-batches that the points are spread over.
    pub n_micro_batches: u32,
    /// The plan for one stream alone.
    pub for_one: Plan,
}

/// Plans and simulates an environment; its devices file lies in the folder `configs`.
///
/// # Errors
/// A file that is not there or cannot be planned for; chunks whose simulation does not give the
/// predicted time.
pub fn simulated(configs: &Path, environment: &Environment) -> Result<Simulated> {
    let path = configs.join(environment.file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let file: DevicesFile = toml::from_str(&text)?;
    let cluster = file.into_cluster()?;

    let mut start = 0;
    let plain_stages: Vec<(usize, LayerRange)> = (0..)
        .zip(environment.plain_layers)
        .map(|(device, n)| {
            let layers = LayerRange::new(start, start + n);
            start += n;
            (device, layers)
        })
        .collect();
    let plain = Pipeline::new(&cluster, &plain_stages);
    let grid = ChunkGrid::default();
    let (_, equal_ns) = best_equal_chunks(&plain, PROMPT, grid.smallest, grid.largest);

    let for_prompt = best(&cluster, Objective::Ttft)?;
    let pipeline = for_prompt.pipeline(&cluster);
    let chunks = ChunkTable::new(&pipeline, grid)?.chunks(PROMPT)?;
    ensure!(
        simulate_prefill(&pipeline, &chunks.rows).makespan_ns() == chunks.ttft_ns,
        "the simulation of the chunks takes another time than predicted"
    );
    let (points, n_micro_batches) = (1..=POINTS)
        .map(|n| (decode_ns(&pipeline, POINTS, n), n))
        .min()
        .unwrap_or_default();
    let a_token = |ns: u64, tokens: u32| ns as f64 / NS_PER_MS / f64::from(tokens);
    Ok(Simulated {
        prefill: [prefill_ns(&plain, &[PROMPT]), equal_ns, chunks.ttft_ns]
            .map(|ns| a_token(ns, PROMPT)),
        decode: [decode_ns(&plain, 1, 1), decode_ns(&pipeline, 1, 1), points]
            .map(|ns| a_token(ns, GENERATED)),
        for_one: best(&cluster, Objective::Tbt)?,
        chunks: chunks.rows,
        n_micro_batches,
        plan: for_prompt,
    })
}

/// Until `GENERATED` tokens are there, in `n_streams` streams.
fn decode_ns(pipeline: &Pipeline<'_>, n_streams: u32, n_micro_batches: u32) -> u64 {
    let load = DecodeLoad {
        n_streams,
        n_micro_batches,
        n_steps: GENERATED / n_streams,
        context: PROMPT,
    };
    simulate_decode(pipeline, &load).decoded_ns
}

fn best(cluster: &Cluster, objective: Objective) -> Result<Plan> {
    let request = Request {
        objective,
        load: Load {
            prompt: PROMPT,
            rows: 1,
            context: PROMPT,
        },
        memory: MemoryDemand {
            n_ctx: 512,
            n_seq: POINTS,
            kv: KvDtype::F16,
        },
    };
    Ok(plan(cluster, &request)?)
}

/// Three tables: prefill and decode in milliseconds a token, end to end in seconds.
pub fn tables(rows: &[(Environment, Simulated)]) -> String {
    let prefill = rows.iter().map(|(environment, simulated)| {
        let [plain, equal, ours] = simulated.prefill.map(Some);
        let (edgeshard, jupiter) = (environment.edgeshard, environment.jupiter);
        let cells = [plain, edgeshard.prefill, equal, ours, jupiter.prefill];
        (environment.name, cells)
    });
    let decode = rows.iter().map(|(environment, simulated)| {
        let [plain, one, points] = simulated.decode.map(Some);
        let (edgeshard, jupiter) = (environment.edgeshard, environment.jupiter);
        let cells = [plain, edgeshard.decode, one, points, jupiter.decode];
        (environment.name, cells)
    });
    let end_to_end = rows.iter().map(|(environment, simulated)| {
        let ([plain, _, ours], [plain_decode, one, points]) = (simulated.prefill, simulated.decode);
        let seconds = |prefill: f64, decode: f64| {
            Some((prefill * f64::from(PROMPT) + decode * f64::from(GENERATED)) / 1e3)
        };
        let cells = [
            seconds(plain, plain_decode),
            Some(environment.edgeshard.end_to_end),
            seconds(ours, one),
            seconds(ours, points),
            Some(environment.jupiter.end_to_end),
        ];
        (environment.name, cells)
    });
    let streams = format!("ours, {POINTS} streams");
    [
        table("prefill, ms a token", ["equal chunks", "ours"], prefill),
        table("decode, ms a token", ["ours, 1 stream", &streams], decode),
        table("end to end, s", ["ours, 1 stream", &streams], end_to_end),
    ]
    .join("\n")
}

/// One table; `ours` names the third and the fourth column.
fn table(
    title: &str,
    ours: [&str; 2],
    rows: impl Iterator<Item = (&'static str, [Option<f64>; 5])>,
) -> String {
    let names = ["plain", "EdgeShard*", ours[0], ours[1], "Jupiter*"];
    let mut table = format!("| {title:<20} |");
    for name in names {
        table += &format!(" {name:>15} |");
    }
    table += &format!("\n|{}|{}\n", "-".repeat(22), "----------------:|".repeat(5));
    for (name, cells) in rows {
        table += &format!("| {name:<20} |");
        for cell in cells {
            let shown = cell.map_or("-".into(), |value| format!("{value:.1}"));
            table += &format!(" {shown:>15} |");
        }
        table.push('\n');
    }
    table
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = self.plan.placement.iter();
        let stages: Vec<String> = stages.map(|s| format!("{} {}", s.node, s.layers)).collect();
        write!(
            f,
            "{}; chunks {:?}; {POINTS} streams in {} micro-batches; for one stream alone {} \
             stage(s), {:.0} ms a token",
            stages.join(", "),
            self.chunks,
            self.n_micro_batches,
            self.for_one.placement.len(),
            self.for_one.predicted.tbt_ms
        )
    }
}
