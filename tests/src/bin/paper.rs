//! Jupiter's table: published, simulated, and ours, as a table and a picture.
//!
//! ```sh
//! cargo run --release --bin paper                       # the table, and examples/pictures/paper.svg
//! cargo run --release --bin paper -- --picture other.svg
//! ```

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use jupiter_tests::paper::cells::{Cell, Environment, Rows};
use jupiter_tests::paper::published::Model;
use jupiter_tests::paper::{baselines, ours, picture, report, rows};

/// Prompts for which prefill is set beside a plain pipeline, on four equal devices.
const PROMPTS: [u32; 4] = [260, 512, 1024, 2048];

/// Simulates the twelve cells of the paper's table.
#[derive(Parser)]
struct Args {
    /// Folder of the devices files
    #[arg(long, value_name = "DIR", default_value = "configs")]
    configs: PathBuf,
    /// The picture, SVG
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/pictures/paper.svg"
    )]
    picture: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rows = rows(&args.configs)?;
    println!("{}", report::table(&rows));
    println!("{}", report::seconds(&rows));
    println!("{}", report::errors(&rows));
    print!("{}", report::prefill_lines(&rows));
    print!(
        "prefill on four equal devices at 1000 Mbps, times a plain pipeline ({}):",
        report::curves()
    );
    let cell = Cell::new(&args.configs, Model::Llama7B, Environment::A, 1000)?;
    for n_prompt in PROMPTS {
        let plain = baselines::plain_prefill_s(&cell, n_prompt);
        let gain = |rows| {
            let ours = ours::prefill_s(&cell.with_rows(rows)?, n_prompt)?;
            Ok::<f64, anyhow::Error>(plain / ours)
        };
        let [line, launched, kernels, roofline] = Rows::ALL.map(gain);
        let gains = report::figures([line?, launched?, kernels?, roofline?]);
        print!(" {n_prompt} tokens {gains};");
    }
    println!("\n\n{}", report::ASSUMPTIONS);
    picture::draw(&args.picture, &rows)?;
    println!("\npicture: {}", args.picture.display());
    Ok(())
}
