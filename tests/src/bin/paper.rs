//! Jupiter's table: published, simulated, and ours, as a page and a picture.
//!
//! ```sh
//! cargo run --release --bin paper             # examples/paper.md and examples/pictures/paper.svg
//! cargo run --release --bin paper -- --page other.md --picture other.svg
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use jupiter_tests::paper::cells::{Cell, Environment, Rows};
use jupiter_tests::paper::published::Model;
use jupiter_tests::paper::report::{self, Prefill};
use jupiter_tests::paper::{baselines, ours, picture, rows};

/// Prompts for which prefill is set beside a plain pipeline, on four equal devices.
const PROMPTS: [u32; 4] = [260, 512, 1024, 2048];

/// Simulates the twelve cells of the paper's table.
#[derive(Parser)]
struct Args {
    /// Folder of the devices files
    #[arg(long, value_name = "DIR", default_value = "configs")]
    configs: PathBuf,
    /// The page, Markdown
    #[arg(long, value_name = "FILE", default_value = "examples/paper.md")]
    page: PathBuf,
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
    let cell = Cell::new(&args.configs, Model::Llama7B, Environment::A, 1000)?;
    let prefill = PROMPTS.map(|n_prompt| prefill(&cell, n_prompt));
    let prefill: Vec<Prefill> = prefill.into_iter().collect::<Result<_>>()?;
    let page = report::page(&rows, &prefill);
    print!("{page}");
    let in_page = || args.page.display().to_string();
    std::fs::write(&args.page, page).with_context(in_page)?;
    picture::draw(&args.picture, &rows)?;
    println!("\n{} and {}", args.page.display(), args.picture.display());
    Ok(())
}

fn prefill(cell: &Cell, n_prompt: u32) -> Result<Prefill> {
    let (mut gains, mut most) = ([0.0; 4], [0.0; 4]);
    for (at, rows) in Rows::ALL.into_iter().enumerate() {
        let cell = cell.with_rows(rows)?;
        let plain_s = baselines::plain_prefill_s(&cell, n_prompt);
        gains[at] = plain_s / ours::prefill_s(&cell, n_prompt)?;
        most[at] = plain_s / baselines::least_prefill_s(&cell, n_prompt);
    }
    Ok(Prefill {
        n_prompt,
        gains,
        most,
    })
}
