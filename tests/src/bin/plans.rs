//! Prints what planning takes, a table of times.
//!
//! ```sh
//! cargo run --release --bin plans
//! ```

use anyhow::Result;
use clap::Parser;
use jupiter_actors::planning::placement::Objective;
use jupiter_tests::plans::unequal::{self, Size};

/// The sizes that are planned for; the third is the one that has to take less than a second.
const SIZES: [Size; 9] = [
    size(2, 2, 60.0),
    size(4, 4, 30.0),
    size(8, 8, 8.0),
    size(8, 8, 60.0),
    size(10, 10, 8.0),
    size(16, 4, 60.0),
    size(64, 1, 60.0),
    size(64, 4, 60.0),
    size(64, 8, 60.0),
];

const fn size(n_devices: usize, n_types: usize, free_gb: f64) -> Size {
    Size {
        n_devices,
        n_types,
        free_gb,
    }
}

/// Times planning for generated clusters.
#[derive(Parser)]
struct Args {
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
    Ok(())
}
