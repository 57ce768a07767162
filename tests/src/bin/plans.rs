//! Prints what planning takes (a table of times) and what it gives (the papers' devices).
//!
//! ```sh
//! cargo run --release --bin plans
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use jupiter_actors::planning::placement::Objective;
use jupiter_tests::plans::{jetson, unequal};
use unequal::Size;

/// The sizes that are planned for; the third is the one that has to take less than a second.
const SIZES: [Size; 6] = [
    size(2, 2, 60.0),
    size(4, 4, 30.0),
    size(8, 8, 8.0),
    size(8, 8, 60.0),
    size(10, 10, 8.0),
    size(16, 4, 60.0),
];

const fn size(n_devices: usize, n_types: usize, free_gb: f64) -> Size {
    Size {
        n_devices,
        n_types,
        free_gb,
    }
}

/// Times planning for generated clusters, and plans for the devices of the papers.
#[derive(Parser)]
struct Args {
    /// Folder of the devices files
    #[arg(long, value_name = "DIR", default_value = "configs")]
    configs: PathBuf,
    /// Clusters of each size
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Times that each is planned; the best counts
    #[arg(short, default_value_t = 5)]
    repetitions: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    println!("## Planning on one core\n");
    println!(
        "80 layers, prompts up to {} tokens; times of the {profile} profile, best of {}. \"within\": \
         no chunks are better by more; \"equal\": how much slower the best equal chunks are.\n",
        unequal::PROMPT,
        args.repetitions.max(1)
    );
    println!("{}", unequal::HEAD);
    for size in SIZES {
        for seed in 0..args.seeds {
            let cluster = unequal::cluster(seed, size)?;
            for objective in [Objective::Ttft, Objective::Tbt, Objective::Throughput] {
                let planned = unequal::planned(&cluster, objective, args.repetitions)?;
                println!("{}", unequal::line(size, objective, &planned));
            }
        }
    }
    println!("\n## The papers' devices\n");
    println!(
        "Llama2-7B in 4 bits, 260 prompt tokens, 64 generated; * published, all else simulated on \
         calibrated profiles. Plain: one chunk, one stream. Equal \
         chunks: the best number of them, of any size; ours are multiples of four rows.\n"
    );
    let rows = jetson::ENVIRONMENTS
        .into_iter()
        .map(|environment| Ok((environment, jetson::simulated(&args.configs, &environment)?)))
        .collect::<Result<Vec<_>>>()?;
    println!("{}", jetson::tables(&rows));
    for (environment, simulated) in &rows {
        println!("- {}: {simulated}", environment.name);
    }
    Ok(())
}
