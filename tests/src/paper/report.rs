//! The table, and what stands behind it.

use std::fmt::Write;

use super::cells::Rows;
use super::published::SYSTEMS;
use super::{MAIN, Row};

/// What was calibrated, and what was assumed.
const ASSUMPTIONS: &str = "\
Published seconds are read off figures (within about 3 %).

**Calibrated**: what a layer takes in each model and environment, so that a plain pipeline takes EdgeShard's
seconds at 1000 Mbps (4 cells; its other 8 are predicted); the bytes that SP, Megatron-LM, DeTransformer and
Galaxy send over those of a ring of 2-byte values, so that each takes its published seconds with the same
model in A at 100 Mbps (7 cells; the other 35 are predicted).

**Assumed**, for all systems: what rows between 1 and 260 take.

- \"launched\": half of what one row takes on a layer of 7B is there for any number of rows, since 13B's
  layers, with 1.56 times the weights, take 1.28 times as long; beside it weights are read once while the
  device computes, so 9 rows take as long as one on an NX.
- \"line\": straight from 1 to 260 rows; a tree of 64 guesses would take 4.5 times one row then and bring less
  than that, so the published system cannot have had it.
- \"roofline\": reading or computing, whichever takes longer, so 16 rows as one.
- \"kernels\": the same with the round knee that our kernels have on a processor (`bench --rows`: 4 rows 1.1,
  8 rows 1.3 times one).

Assumed too: 0.3 ms a hop at 1000 Mbps and 5.5 ms at 100, by the bytes' time between them; the cut of a plain
pipeline on unequal devices. Ours: 260 prompt tokens and 64 written, 15 of them an outline of 5 points, which
follow side by side, or begin with their lines where that is sooner; each guess is right with 0.64 (four
behind each other bring 2.5 tokens a step, as Medusa's heads), the mean of four texts; stages are placed for
the first token or for throughput, whichever is sooner; the Planner is the real one, and nothing but times is
simulated.
";

/// All of it, as a page.
pub fn page(rows: &[Row], prefill: &[Prefill]) -> String {
    format!(
        "# Jupiter's table: published, simulated, and ours\n\n\
         `make paper` writes this page and its picture. The twelve cells of [Jupiter](https://arxiv.org/abs/2504.08242): \
         models of 7B and 13B, four Xavier NX (A) or a Nano, two TX2 and an NX (B), links of 100, 500 and 1000 Mbps; \
         260 tokens of a prompt and 64 written.\n\n\
         ![Seconds of seven systems in twelve cells](pictures/paper.svg)\n\n\
         ## Seconds\n\nOf each system as published, and as simulated here (sim.); ours by what rows are taken to \
         cost, with its share of Jupiter's seconds.\n\n{}\n\
         ## Where ours spends them\n\nBy the curve \"{}\".\n\n{}\n\
         ## The simulation's own error\n\nOn cells that nothing was calibrated by.\n\n{}\n\
         ## Prefill\n\n{}\n\
         ## Bounds\n\n{}\n\
         ## Calibrated and assumed\n\n{ASSUMPTIONS}",
        table(rows),
        MAIN.name(),
        seconds(rows),
        errors(rows),
        prefill_table(rows, prefill),
        bounds(rows, prefill),
    )
}

/// How many times as fast as a plain pipeline a prompt is computed on four equal devices.
pub struct Prefill {
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// By each of [`Rows::ALL`].
    pub gains: [f64; 4],
    /// What no chunks can exceed, by each of them.
    pub most: [f64; 4],
}

/// Seconds of every system in every cell, published and simulated; ours beside Jupiter's.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("| cell, seconds |");
    for system in SYSTEMS {
        let _ = write!(text, " {system}, sim. |");
    }
    text.push_str(" Jupiter |");
    for rows in Rows::ALL {
        let _ = write!(text, " ours, {} | share |", rows.name());
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(SYSTEMS.len() + 1 + 2 * Rows::ALL.len()));
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
        let _ = write!(text, " {:.1} |", row.jupiter);
        for rows in Rows::ALL {
            let _ = write!(
                text,
                " {:.1} | {:.2} |",
                row.ours(rows).total_s,
                row.share(rows)
            );
        }
        text.push('\n');
    }
    text
}

/// Where ours spends its seconds, by [`MAIN`], and what is lost without its parts.
fn seconds(rows: &[Row]) -> String {
    let mut text = String::from(
        "| cell, seconds to | first token | outline | end | bound, its share | stages busy | placed for | points \
         begin | guesses only | points only | neither |\n|---|---:|---:|---:|---:|---:|---|---|---:|---:|---:|\n",
    );
    for row in rows {
        let (ours, parts) = (row.ours(MAIN), &row.parts);
        let begin = match ours.way.with_lines {
            true => "with their lines",
            false => "together",
        };
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1}, {:.2} | {:.0} % | {:?} | {begin} | {:.1} | {:.1} | {:.1} |",
            row.name,
            ours.prefill_s,
            ours.outline_s,
            ours.total_s,
            ours.bound_s,
            ours.bound_s / row.jupiter,
            100.0 * ours.busy,
            ours.way.objective,
            parts.guesses_s,
            parts.points_s,
            parts.plain_s,
        );
    }
    text
}

/// How far the simulated baselines are from the published seconds: mean and largest, in percent, of
/// the cells that nothing was calibrated by.
fn errors(rows: &[Row]) -> String {
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
            "- {name}: {} cells predicted, off by {mean:.0} % in the mean and {largest:.0} % at most",
            predicted.len()
        );
    }
    text
}

/// Prefill against a plain pipeline.
fn prefill_table(rows: &[Row], prefill: &[Prefill]) -> String {
    let mut text = format!(
        "How many times as fast as a plain pipeline, by each curve: {}.\n\n| cell | gain |\n|---|---|\n",
        Rows::ALL.map(Rows::name).join(", ")
    );
    for row in rows {
        let gain = |rows| row.plain_prefill_s / row.ours(rows).prefill_s;
        let _ = writeln!(text, "| {} | {} |", row.name, figures(Rows::ALL.map(gain)));
    }
    for Prefill {
        n_prompt, gains, ..
    } in prefill
    {
        let gains = figures(*gains);
        let _ = writeln!(text, "| 7B, A, 1000 Mbps, {n_prompt} tokens | {gains} |");
    }
    text
}

/// What cannot be exceeded with what was assumed.
fn bounds(rows: &[Row], prefill: &[Prefill]) -> String {
    let mut text = String::from(
        "The least share of Jupiter's seconds with the same stages, shapes of guesses and acceptance: prompt, \
         outline and one point behind each other on stages that never wait. Where it is above 0.6, no order of \
         steps reaches 0.6 of Jupiter's seconds.\n\n| cell |",
    );
    for rows in Rows::ALL {
        let _ = write!(text, " {} |", rows.name());
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(Rows::ALL.len()));
    for row in rows {
        let share = |rows| row.ours(rows).bound_s / row.jupiter;
        let shares = Rows::ALL
            .map(|rows| format!("{:.2}", share(rows)))
            .join(" | ");
        let _ = writeln!(text, "| {} | {shares} |", row.name);
    }
    text.push_str(
        "\nPrefill on four equal stages: with n chunks a prompt takes n + 3 turns of a stage where a plain \
         pipeline takes 4 of a whole prompt. On a straight line each chunk has what is there for any number of \
         rows anew, so more chunks overlap better and cost more; the best number of equal ones, on links and \
         contexts that cost nothing, is the most that can be had:\n\n| tokens |",
    );
    for rows in Rows::ALL {
        let _ = write!(text, " {} |", rows.name());
    }
    let _ = writeln!(text, "\n|---:|{}", "---:|".repeat(Rows::ALL.len()));
    for prompt in prefill {
        let most = prompt.most.map(|gain| format!("{gain:.2}")).join(" | ");
        let _ = writeln!(text, "| {} | {most} |", prompt.n_prompt);
    }
    text
}

/// A figure by each of the curves.
fn figures(by: [f64; 4]) -> String {
    by.map(|figure| format!("{figure:.2}")).join(", ")
}
