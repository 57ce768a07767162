//! Jupiter's table (arXiv 2504.08242): twelve cells of models, devices and links, and in each of them
//! the published seconds of six systems, the same systems simulated, and ours.
//!
//! - [`published`]: what the paper's figures show
//! - [`cells`]: the devices of a cell, calibrated so that a plain pipeline takes what it took there
//! - [`baselines`]: the other systems, by the same costs of layers and links
//! - [`ours`]: the simulator with the real Planner
//! - [`report`], [`picture`]: a table, and bars
//!
//! What was calibrated and what was assumed stands at the end of [`report::page`].

pub mod baselines;
pub mod cells;
pub mod ours;
pub mod picture;
pub mod published;
pub mod report;

use std::path::Path;

use anyhow::Result;

use baselines::Baseline;
use cells::{Cell, Environment, Rows};
use ours::{Ours, Parts};
use published::{Model, SYSTEMS};

/// Tokens of the paper's prompts.
pub const PROMPT: u32 = 260;
/// Tokens generated.
pub const GENERATED: u32 = 64;
/// What rows take where one curve counts: the one that follows from published figures.
pub const MAIN: Rows = Rows::Launched;

/// What came of a cell, in seconds.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Of each of [`SYSTEMS`], published; none where it ran out of memory.
    pub published: [Option<f64>; 5],
    /// The same simulated.
    pub simulated: [Option<f64>; 5],
    /// Jupiter, published.
    pub jupiter: f64,
    /// Ours, by each of [`Rows::ALL`].
    pub ours: [Ours; 4],
    /// What its parts bring, by [`MAIN`].
    pub parts: Parts,
    /// Prefill of a plain pipeline.
    pub plain_prefill_s: f64,
}

impl Row {
    /// Ours by a row curve.
    pub fn ours(&self, rows: Rows) -> &Ours {
        &self.ours[rows as usize]
    }

    /// Ours as a share of Jupiter's seconds.
    pub fn share(&self, rows: Rows) -> f64 {
        self.ours(rows).total_s / self.jupiter
    }

    /// A cell, with what the other systems take in it.
    ///
    /// # Errors
    /// When a run brought an error.
    pub fn simulated(cell: &Cell, simulated: [Option<f64>; 5]) -> Result<Row> {
        let by = |rows| ours::simulated(&cell.with_rows(rows)?);
        let [line, launched, kernels, roofline] = Rows::ALL.map(by);
        let ours = [line?, launched?, kernels?, roofline?];
        Ok(Row {
            name: cell.name(),
            published: cell.published,
            simulated,
            jupiter: cell.jupiter,
            ours,
            parts: ours::parts(&cell.with_rows(MAIN)?, ours[MAIN as usize].way)?,
            plain_prefill_s: baselines::plain_prefill_s(cell, PROMPT),
        })
    }
}

/// Simulates all cells; the devices files lie in the folder `configs`.
///
/// # Errors
/// A devices file that cannot be read, or a run that brought an error.
pub fn rows(configs: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for model in [Model::Llama7B, Model::Llama13B] {
        let first = Cell::new(configs, model, Environment::A, 100)?.with_rows(MAIN)?;
        let baselines: Vec<Baseline> = (0..SYSTEMS.len())
            .map(|system| Baseline::calibrated(system, &first))
            .collect();
        for environment in [Environment::A, Environment::B] {
            for mbps in [100, 500, 1000] {
                let cell = Cell::new(configs, model, environment, mbps)?;
                let by_main = cell.with_rows(MAIN)?;
                let mut simulated = [None; 5];
                for (seconds, baseline) in simulated.iter_mut().zip(&baselines) {
                    *seconds = baseline.seconds(&by_main);
                }
                rows.push(Row::simulated(&cell, simulated)?);
            }
        }
    }
    Ok(rows)
}
