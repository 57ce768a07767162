//! What speculation can bring on 1, 2, 4 and 8 equal stages with a typical row curve: the prediction of
//! the rule that chooses shapes, beside a simulation that does not know it.
//!
//! ```sh
//! cargo run --release --bin speculation
//! ```

use jupiter_actors::planning::typical::rows_ns;
use jupiter_actors::speculation::shape::choose::{Choice, ShapeLimits, best_lines, best_tree};
use jupiter_actors::speculation::shape::pipeline::LineShape;
use jupiter_actors::speculation::shape::rates::AcceptanceRates;
use jupiter_tests::one_stream::{Policy, Stages, simulate};

const N_TOKENS: usize = 50_000;
const N_SEEDS: u64 = 20;
const PLAIN: LineShape = LineShape {
    rows: 1,
    in_flight: 1,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "stages  a     way            rows  in flight  predicted  simulated  error  tokens/step  wasted rows/token  auto"
    );
    for n_stages in [1, 2, 4, 8] {
        for a in [0.0, 0.5, 0.7, 0.8, 0.9, 0.95] {
            for is_pipelined in [false, true] {
                line(n_stages, a, is_pipelined)?;
            }
        }
    }
    println!("\nchosen as it goes, mean of {N_SEEDS} answers on 2 stages");
    println!("tokens  a     one at a time  in flight");
    for n_tokens in [128, 512, 2048] {
        for a in [0.0, 0.2, 0.5, 0.8, 0.9] {
            let (one, many) = (answers(a, 1, n_tokens)?, answers(a, 3, n_tokens)?);
            println!("{n_tokens:6}  {a:4}  {one:13.3}  {many:9.3}");
        }
    }
    Ok(())
}

/// Ratio to plain decoding when acceptance is learned during answers of `n_tokens`.
fn answers(a: f64, in_flight: u32, n_tokens: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let pipeline = Stages {
        percent: &[100; 2],
        rows_ns: &rows_ns,
        latency_ns: 0,
    };
    let limits = ShapeLimits {
        rows: 32,
        in_flight,
        depth: 512,
        branches: 1,
    };
    let (mut ns, mut plain_ns) = (0.0, 0.0);
    for seed in 0..N_SEEDS {
        let auto = simulate(pipeline, a, Policy::Auto(limits), n_tokens, seed)?;
        ns += auto.ns as f64 / auto.n_tokens as f64;
        plain_ns += pipeline.around_ns(1) as f64;
    }
    Ok(plain_ns / ns)
}

fn line(n_stages: usize, a: f64, is_pipelined: bool) -> Result<(), Box<dyn std::error::Error>> {
    let pipeline = Stages {
        percent: &[100; 8][..n_stages],
        rows_ns: &rows_ns,
        latency_ns: 0,
    };
    let limits = ShapeLimits {
        rows: 32,
        in_flight: if is_pipelined { n_stages as u32 + 1 } else { 1 },
        depth: 512,
        branches: 1,
    };
    let rates = AcceptanceRates::known(&[a])?;
    let best = pipeline.with_cost(|cost| match is_pipelined {
        true => Ok(best_lines(&rates, cost, limits)),
        false => best_tree(&rates, cost, limits),
    })?;
    let shape = match &best {
        Choice::Plain { .. } => PLAIN,
        Choice::Tree { nodes, .. } => LineShape {
            rows: nodes.len() as u32 + 1,
            in_flight: 1,
        },
        Choice::Pipelined { shape, .. } => *shape,
    };
    let plain = simulate(pipeline, a, Policy::Fixed(PLAIN), N_TOKENS, 1)?;
    let measured = simulate(pipeline, a, Policy::Fixed(shape), N_TOKENS, 1)?;
    let auto = simulate(pipeline, a, Policy::Auto(limits), N_TOKENS / 10, 1)?;
    let per_token = |m: &jupiter_tests::one_stream::Measured| m.ns as f64 / m.n_tokens as f64;
    let simulated = per_token(&plain) / per_token(&measured);
    println!(
        "{n_stages:6}  {a:4}  {:13}  {:4}  {:9}  {:9.2}  {simulated:9.2}  {:+4.1}%  {:11.2}  {:17.2}  {:.2}",
        if is_pipelined {
            "in flight"
        } else {
            "one at a time"
        },
        shape.rows,
        shape.in_flight,
        best.ratio(),
        (best.ratio() / simulated - 1.0) * 100.0,
        measured.n_tokens as f64 / measured.n_steps as f64,
        measured.wasted_rows / measured.n_tokens as f64,
        per_token(&plain) / per_token(&auto),
    );
    Ok(())
}
