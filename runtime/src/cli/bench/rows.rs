//! The row curve: what a step of so many rows takes in the whole model, with our kernels and with
//! llama.cpp's, beside what the processor can do at best.

use std::time::Instant;

use jupiter::{Config, Settings};
use jupiter_models::draw::{GOLDEN_GAMMA, splitmix};
use jupiter_models::engine::{EngineParams, ReferenceEngine, StageEngine, StepInput};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::kernels::{self, KernelChoice, Limits};
use jupiter_models::{KvOp, Row, SequenceId, Token};
use serde::Serialize;

use super::BenchArgs;
use super::measure::engine_params;
use super::report::model_name;
use crate::cli::args::CommonArgs;
use crate::cli::output;
use crate::cli::pull;
use crate::cli::table::{Align, bytes, markdown};

/// Up to so many rows are taken for guesses, branches or streams, which all want logits; of a longer
/// step, a piece of a prompt, only the last row does.
const MAX_DECODED: u32 = 16;

/// The object of `--json`.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct RowReport {
    model: String,
    model_bytes: u64,
    threads: u32,
    kernels: Option<String>,
    rows: Vec<RowTimes>,
    limits: LimitReport,
}

/// Steps of so many rows.
#[derive(Debug, PartialEq, Serialize)]
struct RowTimes {
    n: u32,
    /// The fastest step, in milliseconds.
    ms: f64,
    baseline_ms: Option<f64>,
    /// How many times as fast as the baseline.
    ratio: Option<f64>,
    /// Weights read, in 10^9 bytes a second; none for mixtures of experts, which read some of them.
    gbps: Option<f64>,
    /// Products, in 10^9 a second.
    gmacs: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct LimitReport {
    read_gbps: f64,
    peak_gmacs: Option<f64>,
}

/// Measures steps of all lengths in turns.
pub(super) async fn measure(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<RowReport> {
    let settings = Settings {
        model: args.model.clone(),
        engine: args.stages.engine.clone(),
        ..Settings::default()
    };
    let config = Config::from_settings(pull::settings(common, &settings).await?)?;
    output::tell_default_model(common, &config);
    let (model, info) = config.open_model()?;
    let n_most = args.rows.iter().copied().max().unwrap_or(1);
    let params = EngineParams {
        n_seq_max: 1,
        n_batch: n_most,
        n_ctx: n_most,
        ..engine_params(&config, info.n_ctx_train)
    };
    let load = |kernels: KernelChoice| -> anyhow::Result<ReferenceEngine> {
        let params = EngineParams {
            kernels,
            ..params.clone()
        };
        Ok(ReferenceEngine::load(&model, &params, &mut |_| ())?)
    };
    let mut engine = load(params.kernels)?;
    let mut baseline = match args.baseline {
        true => Some(load(KernelChoice::Off)?),
        false => None,
    };
    let mut best = vec![(f64::INFINITY, f64::INFINITY); args.rows.len()];
    // The first round touches pages and starts threads.
    for round in 0..=args.repetitions {
        for (n, best) in args.rows.iter().zip(&mut best) {
            let tokens = tokens(args.seed, *n, info.n_vocab);
            let ours = warm_step_ms(&mut engine, &tokens)?;
            let theirs = match &mut baseline {
                Some(baseline) => warm_step_ms(baseline, &tokens)?,
                None => f64::INFINITY,
            };
            if round > 0 {
                *best = (best.0.min(ours), best.1.min(theirs));
            }
        }
    }
    let limits = kernels::limits(params.kernels, params.n_threads)?;
    let work = Work::of(&model, &info);
    let rows = args.rows.iter().zip(best);
    Ok(RowReport {
        model: model_name(&model),
        model_bytes: std::fs::metadata(model.path())?.len(),
        threads: params.n_threads,
        kernels: kernels::report(params.kernels)?.instructions,
        rows: rows
            .map(|(n, (ms, baseline_ms))| {
                work.times(*n, ms, baseline.as_ref().map(|_| baseline_ms))
            })
            .collect(),
        limits: LimitReport::from(limits),
    })
}

impl From<Limits> for LimitReport {
    fn from(limits: Limits) -> Self {
        Self {
            read_gbps: limits.read_bytes_per_s / 1e9,
            peak_gmacs: limits.macs_per_s.map(|rate| rate / 1e9),
        }
    }
}

/// What a step of one row has to do.
struct Work {
    /// Bytes of the weights that are multiplied; none where only some of them are.
    weight_bytes: Option<u64>,
    /// Multiplications with an addition.
    n_macs: u64,
}

impl Work {
    fn of(model: &GgufFile, info: &ModelInfo) -> Self {
        let products = model.tensors().iter().filter(|tensor| {
            // Vectors are added or scale; the embedding is looked up, unless it is the head too.
            tensor.dims.len() > 1 && (tensor.name != "token_embd.weight" || info.tied_head)
        });
        let used = model
            .metadata()
            .opt_u32(&format!("{}.expert_used_count", info.arch));
        let n_used = used.ok().flatten().unwrap_or(1);
        let mut work = Self {
            weight_bytes: Some(0),
            n_macs: 0,
        };
        for tensor in products {
            let n_values: u64 = tensor.dims.iter().product();
            match tensor.dims.get(2).copied().filter(|n| *n > 1) {
                None => {
                    work.n_macs += n_values;
                    work.weight_bytes = work.weight_bytes.map(|sum| sum + tensor.n_bytes);
                }
                Some(n_experts) => {
                    work.n_macs += n_values / n_experts * u64::from(n_used);
                    work.weight_bytes = None;
                }
            }
        }
        work
    }

    fn times(&self, n: u32, ms: f64, baseline_ms: Option<f64>) -> RowTimes {
        RowTimes {
            n,
            ms,
            baseline_ms,
            ratio: baseline_ms.map(|baseline| baseline / ms),
            gbps: self.weight_bytes.map(|bytes| bytes as f64 / ms / 1e6),
            gmacs: self.n_macs as f64 * f64::from(n) / ms / 1e6,
        }
    }
}

/// The second of two equal steps, in milliseconds: the first one finds the caches as steps of other
/// lengths and other kernels have left them.
fn warm_step_ms(engine: &mut ReferenceEngine, tokens: &[Token]) -> anyhow::Result<f64> {
    step_ms(engine, tokens)?;
    step_ms(engine, tokens)
}

/// A step of these tokens in an empty context, in milliseconds.
fn step_ms(engine: &mut ReferenceEngine, tokens: &[Token]) -> anyhow::Result<f64> {
    let is_decoded = tokens.len() <= MAX_DECODED as usize;
    let rows: Vec<Row> = tokens
        .iter()
        .enumerate()
        .map(|(i, token)| Row {
            seq_ids: vec![SequenceId(0)],
            pos: i as u32,
            token: *token,
            wants_logits: is_decoded || i + 1 == tokens.len(),
        })
        .collect();
    let started = Instant::now();
    engine.step(&rows, StepInput::Tokens)?;
    let elapsed_ms = started.elapsed().as_secs_f64() * 1e3;
    engine.apply(KvOp::Drop { seq: SequenceId(0) })?;
    Ok(elapsed_ms)
}

/// Tokens of a seed (SplitMix64).
fn tokens(seed: u64, n: u32, n_vocab: u32) -> Vec<Token> {
    let token = |i: u32| {
        let state = seed.wrapping_add(u64::from(i).wrapping_mul(GOLDEN_GAMMA));
        (splitmix(state) % u64::from(n_vocab.max(1))) as Token
    };
    (0..n).map(token).collect()
}

impl RowReport {
    /// The table for people.
    pub(super) fn table(&self) -> String {
        use Align::Right;
        let columns = [
            ("rows", Right),
            ("ms", Right),
            ("llama.cpp ms", Right),
            ("ratio", Right),
            ("of one row", Right),
            ("GB/s", Right),
            ("GMAC/s", Right),
        ];
        let optional = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        let one_ms = self.rows.iter().find(|row| row.n == 1).map(|row| row.ms);
        let row = |row: &RowTimes| {
            vec![
                row.n.to_string(),
                format!("{:.2}", row.ms),
                optional(row.baseline_ms),
                optional(row.ratio),
                optional(one_ms.map(|one| row.ms / one)),
                optional(row.gbps),
                format!("{:.1}", row.gmacs),
            ]
        };
        let kernels = self.kernels.as_deref().unwrap_or("llama.cpp's");
        let peak = self.limits.peak_gmacs;
        format!(
            "{}, {}, {} thread{}, kernels: {kernels}\n\n{}\nlimits: {:.1} GB/s of memory{}\n",
            self.model,
            bytes(self.model_bytes),
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            markdown(&columns, &self.rows.iter().map(row).collect::<Vec<_>>()),
            self.limits.read_gbps,
            peak.map_or(String::new(), |peak| format!(", {peak:.0} GMAC/s")),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report() -> RowReport {
        let work = Work {
            weight_bytes: Some(100_000_000),
            n_macs: 200_000_000,
        };
        RowReport {
            model: "m.gguf".into(),
            model_bytes: 1 << 20,
            threads: 1,
            kernels: Some("avx2".into()),
            rows: vec![
                work.times(1, 10.0, Some(15.0)),
                work.times(4, 12.0, Some(48.0)),
            ],
            limits: LimitReport {
                read_gbps: 20.0,
                peak_gmacs: Some(200.0),
            },
        }
    }

    #[test]
    fn the_json_object_has_the_promised_shape() {
        let report = serde_json::to_value(report()).unwrap();
        let row = &report["rows"][1];
        assert_eq!(row["n"], 4);
        for (key, expected) in [
            ("ms", 12.0),
            ("baseline_ms", 48.0),
            ("ratio", 4.0),
            ("gbps", 8.333),
            ("gmacs", 66.667),
        ] {
            let got = row[key].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-3, "{key} is {got}");
        }
        assert_eq!(
            report["limits"],
            serde_json::json!({"read_gbps": 20.0, "peak_gmacs": 200.0})
        );
    }

    #[test]
    fn the_table_says_what_a_row_more_costs() {
        let table = report().table();
        assert!(table.contains("|    4 | 12.00 |"), "{table}");
        assert!(table.contains("|       1.20 |"), "{table}");
        assert!(
            table.contains("limits: 20.0 GB/s of memory, 200 GMAC/s"),
            "{table}"
        );
    }
}
