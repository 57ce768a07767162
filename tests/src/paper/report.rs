//! The table, and what stands behind it.

use std::fmt::Write;

use super::Row;
use super::ours::Ours;
use super::published::SYSTEMS;

/// What was calibrated, and what was assumed.
pub const ASSUMPTIONS: &str = "\
Published seconds are read off figures (within about 3 %). Calibrated: what a layer takes in each model
and environment, so that a plain pipeline takes EdgeShard's seconds at 1000 Mbps (4 cells; its other 8
are predicted); the bytes that SP, Megatron-LM, DeTransformer and Galaxy send over those of a ring of
2-byte values, so that each takes its published seconds with the same model in A at 100 Mbps (7 cells;
the other 35 are predicted). Assumed: straight lines between the calibrated points of a device's row
curve (1, 260 and 512 rows), so guesses and small chunks cost what such a line says; beside it a
roofline: as many rows as the device computes while it reads its weights (16 on an NX) cost what one
costs, more of them their share of 260. Assumed too: 0.3 ms a hop at 1000 Mbps and 5.5 ms at 100, by the
bytes' time between them; the cut of a plain pipeline on unequal devices. Ours: 260 prompt tokens and 64 written, 15 of them an outline of 5 points, which follow side by
side; each guess is right with 0.64 (four behind each other bring 2.5 tokens a step, as Medusa's heads);
the Planner is the real one, and nothing but times is simulated.";

/// Seconds of every system in every cell, published and simulated; ours beside Jupiter's.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| cell, seconds |");
    for system in SYSTEMS {
        let _ = write!(text, " {system}, sim. |");
    }
    text.push_str(" Jupiter | ours | share | guesses only | points only | neither | by a roofline | share |\n|---|");
    text.push_str(&"---:|".repeat(SYSTEMS.len() + 8));
    text.push('\n');
    for row in rows {
        let _ = write!(text, "| {} |", row.name);
        for (published, simulated) in row.published.iter().zip(row.simulated) {
            let cell = match (published, simulated) {
                (Some(published), Some(simulated)) => format!("{published:.1}, {simulated:.1}"),
                _ => "-".to_owned(),
            };
            let _ = write!(text, " {cell} |");
        }
        let ours = &row.ours;
        let _ = writeln!(
            text,
            " {:.1} | {:.1} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} |",
            row.jupiter,
            ours.total_s,
            row.share(),
            ours.guesses_s,
            ours.points_s,
            ours.plain_s,
            row.by_roofline.total_s,
            row.share_by_roofline()
        );
    }
    text
}

/// How far the simulated baselines are from the published seconds: mean and largest, in percent, of
/// the cells that nothing was calibrated by.
pub fn errors(rows: &[Row]) -> String {
    let mut text = String::new();
    for (system, name) in SYSTEMS.iter().enumerate() {
        let errors = rows.iter().filter_map(|row| {
            let error = row.simulated[system]? / row.published[system]? - 1.0;
            Some(100.0 * error.abs())
        });
        let predicted: Vec<f64> = errors.filter(|error| *error > 0.01).collect();
        let mean = predicted.iter().sum::<f64>() / predicted.len().max(1) as f64;
        let largest = predicted.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "{name}: {} cells predicted, off by {mean:.0} % in the mean and {largest:.0} % at most",
            predicted.len()
        );
    }
    text
}

/// Prefill against a plain pipeline.
pub fn prefill_lines(rows: &[Row]) -> String {
    let mut text = String::from("prefill of 260 tokens, times a plain pipeline (by a roofline):");
    for row in rows {
        let gain = |ours: &Ours| row.plain_prefill_s / ours.prefill_s;
        let (line, roofline) = (gain(&row.ours), gain(&row.by_roofline));
        let _ = write!(text, " {} {line:.2} ({roofline:.2});", row.name);
    }
    text.push('\n');
    text
}
