//! Latency over load, for each rule that fills steps, as a table and a picture.
//!
//! ```sh
//! cargo run --release --bin load                             # simulated, and examples/pictures/load.svg
//! for rule in chunked throttle auto; do                      # measured
//!   jupiter bench -m m.gguf --stages 2 --processes -np 16 --load 1,2,4 --schedule $rule --json
//! done > measured.jsonl
//! cargo run --release --bin load -- measured.jsonl --picture measured.svg
//! ```

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use jupiter_actors::simulator::Lengths;
use jupiter_tests::load::{OfferedLoad, Point, SCHEDULES, picture, read, simulate, table};

/// Draws latency over load.
#[derive(Parser)]
struct Args {
    /// What `jupiter bench --load --json` or `jupiter simulate --json` printed; without it simulates
    files: Vec<PathBuf>,

    /// The machines that are simulated
    #[arg(
        long,
        value_name = "FILE",
        default_value = "configs/devices-jetson-mixed-1000mbps.toml"
    )]
    devices: PathBuf,

    /// Requests a second
    #[arg(
        long,
        value_name = "R,..",
        value_delimiter = ',',
        default_value = "0.01,0.02,0.03,0.04,0.05"
    )]
    rates: Vec<f64>,

    /// Requests of each run
    #[arg(long, value_name = "N", default_value_t = 500)]
    requests: u32,

    /// How long prompts and answers are, as `jupiter simulate` takes it
    #[arg(long, value_name = "LENGTHS", default_value = "sharegpt")]
    lengths: Lengths,

    /// Requests at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    parallel: u32,

    /// Most rows of a step
    #[arg(long, value_name = "N", default_value_t = 128)]
    chunk: u32,

    /// Time between tokens that prompts are to leave, in milliseconds
    #[arg(long, value_name = "MS")]
    tbt_target: Option<u32>,

    /// Seed of what is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The picture, SVG
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/pictures/load.svg"
    )]
    picture: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut points = Vec::new();
    for file in &args.files {
        points.extend(read(file)?);
    }
    if args.files.is_empty() {
        points = simulated(&args)?;
    }
    print!("{}", table(&points));
    picture::draw(&args.picture, &points)?;
    println!("\npicture: {}", args.picture.display());
    Ok(())
}

fn simulated(args: &Args) -> Result<Vec<Point>> {
    let load = OfferedLoad {
        n_requests: args.requests,
        lengths: args.lengths,
        n_parallel: args.parallel,
        chunk: args.chunk,
        tbt_target: args.tbt_target,
        seed: args.seed,
    };
    let mut points = Vec::new();
    let (begun, mut n_steps) = (Instant::now(), 0);
    for &rate in &args.rates {
        for schedule in SCHEDULES {
            let outcome = simulate(&args.devices, &load, rate, schedule)?;
            n_steps += outcome.n_steps;
            points.push(Point::of(&outcome, rate, schedule));
        }
    }
    let us = begun.elapsed().as_secs_f64() * 1e6 / n_steps.max(1) as f64;
    println!("{n_steps} steps, {us:.1} us each of Planner, stages and clients together\n");
    Ok(points)
}
