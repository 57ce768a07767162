//! The runs of a benchmark: pipeline and baseline in turns.

use std::collections::HashMap;
use std::time::Instant;

use jupiter::config::{EmulationSettings, EngineSettings};
use jupiter::signals::Signals;
use jupiter::{
    ClusterStatus, Completion, Config, GenerateOptions, Runtime, Settings, SpeculationParams,
    StepTrace,
};
use jupiter_models::Token;
use jupiter_models::engine::{EngineMemory, EngineParams};

use super::BenchArgs;
use super::answer;
use super::baseline::Baseline;
use super::branches::{self, Forks, Outlined};
use super::predict::Predictor;
use super::random_tokens::RandomTokens;
use super::report::{Measured, Run, Stage, Test, model_name, stage_names};
use super::resident;
use super::speculative::{self, Comparison};
use crate::cli::args::CommonArgs;
use crate::cli::start::{self, Pipeline, PipelineArgs};

/// n_ctx is made a multiple of this, as llama.cpp pads it.
pub(super) const CTX_STEP: u32 = 256;

/// Threads of each stage, and of the baseline: pipelines are for machines that have no more to give,
/// and what more threads share is hard to compare.
pub(super) const DEFAULT_THREADS: u32 = 1;

/// Tokens that each test computes before anything is measured: pages are touched, threads started.
const WARM_UP_TOKENS: u32 = 32;

/// Starts the pipeline, runs every test, and ends it.
pub(super) async fn measure(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<Measured> {
    let n_streams = args.stages.engine.parallel.unwrap_or(1);
    let emulations = emulations(args);
    let settings = settings(args, n_streams);
    let pipeline = PipelineArgs {
        predicts: args.predict,
        adapts: false,
        n_parallel: settings.engine.parallel,
        emulations: &emulations,
        ..PipelineArgs::new(common, settings, args.process.processes)
    };
    let before_bytes = resident::of_this_process();
    start::with_pipeline(pipeline, Signals::stop()?, async |pipeline| {
        let Pipeline {
            runtime, config, ..
        } = pipeline;
        let (model, info) = config.open_model()?;
        let mut bench = Bench::new(runtime, args, n_streams, info.n_vocab);
        bench.warm_up(args).await?;
        let stages = stages(&runtime.status().await?, &pipeline.pids(), before_bytes);
        let engine = &config.engine;
        let n_threads = engine.n_threads.unwrap_or(DEFAULT_THREADS);
        if args.baseline {
            let params = engine_params(config, info.n_ctx_train);
            bench.baseline = Some(Baseline::load(&model, &params)?);
            bench.warm_up(args).await?;
        }
        let (pp, tg) = bench.tests(args).await?;
        let plan = runtime.status().await?.plan.filter(|_| args.predict);
        let predict = |plan| {
            let stages = stage_names(&stages);
            let predictor = Predictor {
                config,
                plan,
                stages,
            };
            predictor.of_tests(args, n_streams)
        };
        let predictions = plan.clone().map(predict).transpose()?;
        Ok(Measured {
            model: model_name(&model),
            model_bytes: std::fs::metadata(model.path())?.len(),
            stages,
            processes: args.process.processes,
            n_threads,
            chunk: engine.chunk,
            pp,
            tg,
            plan,
            predictions: predictions.unwrap_or_default(),
            guessed_ms: bench.comparison.best_ms(),
            n_streams,
            speculation: bench.comparison.report(),
            outline: (args.outlined()).and_then(|of| bench.forks.report(of)),
            outline_steps: std::mem::take(&mut bench.forks.best_steps),
            hop_ms: runtime.status().await?.steps.hop_us.map(|us| us / 1e3),
        })
    })
    .await
}

/// The pipeline's settings: as the flags have them, with room for the largest test of all streams.
fn settings(args: &BenchArgs, n_streams: u32) -> Settings {
    let n_positions = args
        .n_prompt
        .max(args.n_gen.saturating_add(1))
        .saturating_add(1);
    let n_positions = n_positions.saturating_mul(n_streams);
    let outlined = args.outlined();
    let n_positions = n_positions.max(outlined.map_or(0, |of| of.n_positions()));
    let n_parallel = n_streams.max(outlined.map_or(1, |of| of.n_parallel()));
    let n_ctx = n_positions.saturating_add(CTX_STEP - 1) / CTX_STEP * CTX_STEP;
    let engine = &args.stages.engine;
    Settings {
        model: args.model.clone(),
        engine: EngineSettings {
            ctx_size: engine.ctx_size.or(Some(n_ctx)),
            parallel: Some(n_parallel),
            threads: engine.threads.or(Some(DEFAULT_THREADS)),
            ..engine.clone()
        },
        speculation: speculative::flags(args),
        drafts: args.drafts.clone(),
        ..args.stages.settings()
    }
}

/// Parameters of an engine for the whole model, as the flags have them.
pub(super) fn engine_params(config: &Config, n_ctx_train: u32) -> EngineParams {
    let engine = &config.engine;
    EngineParams {
        n_ctx: engine.n_ctx_of(n_ctx_train),
        n_threads: engine.n_threads.unwrap_or(DEFAULT_THREADS),
        type_k: engine.type_k,
        type_v: engine.type_v,
        flash_attention: engine.flash_attention,
        kernels: engine.kernels,
        n_gpu_layers: engine.n_gpu_layers,
        ..EngineParams::default()
    }
}

/// What is measured, and with what.
struct Bench<'a> {
    runtime: &'a Runtime,
    /// Answers that are generated side by side.
    n_streams: u32,
    /// Whether the Planner keeps what becomes of its steps.
    is_traced: bool,
    baseline: Option<Baseline>,
    /// Generation with and without guesses.
    comparison: Comparison,
    /// Branches, and as many tokens in one sequence.
    forks: Forks,
    tokens: RandomTokens,
}

impl<'a> Bench<'a> {
    fn new(runtime: &'a Runtime, args: &BenchArgs, n_streams: u32, n_vocab: u32) -> Self {
        Self {
            runtime,
            is_traced: args.timeline.is_some() || args.predict,
            n_streams,
            baseline: None,
            comparison: Comparison::default(),
            forks: Forks::default(),
            tokens: RandomTokens {
                state: args.seed,
                n_vocab,
            },
        }
    }

    /// Runs each test once, shortened, and forgets what it took.
    async fn warm_up(&mut self, args: &BenchArgs) -> anyhow::Result<()> {
        self.prefill(args.n_prompt.clamp(1, WARM_UP_TOKENS)).await?;
        self.generate(args.n_gen.clamp(1, WARM_UP_TOKENS)).await?;
        self.compare(args, WARM_UP_TOKENS).await?;
        self.comparison = Comparison::default();
        if let Some(outlined) = args.outlined() {
            let shortened = Outlined {
                n_outline: outlined.n_outline.min(WARM_UP_TOKENS),
                n_tokens: outlined.n_tokens.min(WARM_UP_TOKENS),
                ..outlined
            };
            self.fork(shortened).await?;
            self.forks = Forks::default();
        }
        Ok(())
    }

    /// All repetitions of both tests.
    async fn tests(&mut self, args: &BenchArgs) -> anyhow::Result<(Option<Test>, Option<Test>)> {
        let test = |kind: &str, n_tokens: u32, n_streams: u32| {
            let name = match n_streams {
                1 => format!("{kind}{n_tokens}"),
                n => format!("{kind}{n_tokens} x {n}"),
            };
            (n_tokens > 0).then(|| Test {
                name,
                n_tokens: n_tokens.saturating_mul(n_streams),
                pipeline: vec![],
                baseline: vec![],
            })
        };
        let (mut pp, mut tg) = (
            test("pp", args.n_prompt, 1),
            test("tg", args.n_gen, self.n_streams),
        );
        for repetition in 1..=args.repetitions {
            tracing::info!("repetition {repetition} of {}", args.repetitions);
            if let Some(pp) = &mut pp {
                let (pipeline, baseline) = self.prefill(pp.n_tokens).await?;
                pp.pipeline.push(pipeline);
                pp.baseline.extend(baseline);
            }
            if let Some(tg) = &mut tg {
                let (pipeline, baseline) = self.generate(args.n_gen).await?;
                tg.pipeline.push(pipeline);
                tg.baseline.extend(baseline);
                self.compare(args, args.n_gen).await?;
            }
            if let Some(outlined) = args.outlined() {
                self.fork(outlined).await?;
            }
        }
        Ok((pp, tg))
    }

    /// A prompt of random tokens, up to the first token of the answer; the baseline takes the same.
    async fn prefill(&mut self, n_tokens: u32) -> anyhow::Result<(Run, Option<Run>)> {
        let tokens = self.tokens.take(n_tokens);
        self.trace().await?;
        let done = self.complete(tokens.clone(), 1).await?;
        let steps = self.trace().await?;
        let busy_ms = done
            .stages
            .iter()
            .map(|stage| stage.prompt_busy_ms)
            .collect();
        let run = Run {
            elapsed_ms: done.prompt_ms,
            busy_ms,
            steps,
        };
        Ok((
            run,
            self.with_baseline(move |baseline| baseline.prefill(&tokens))
                .await?,
        ))
    }

    /// `n_tokens` after a prompt of one and the token that follows it, in each of the streams.
    async fn generate(&mut self, n_tokens: u32) -> anyhow::Result<(Run, Option<Run>)> {
        let prompts: Vec<_> = (0..self.n_streams).map(|_| self.tokens.take(1)).collect();
        let firsts: Vec<Token> = prompts.iter().flatten().copied().collect();
        self.trace().await?;
        let begun = Instant::now();
        let answers = prompts
            .into_iter()
            .map(|prompt| self.complete(prompt, n_tokens.saturating_add(1)));
        let done = futures::future::try_join_all(answers).await?;
        let all_ms = begun.elapsed().as_secs_f64() * 1e3;
        let run = Run {
            // Streams that begin one after the other have no moment of their own to count from.
            elapsed_ms: match done.as_slice() {
                [one] => one.eval_ms,
                _ => all_ms,
            },
            busy_ms: answer::busy_ms(&done, |stage| stage.eval_busy_ms),
            steps: self.trace().await?,
        };
        Ok((
            run,
            self.with_baseline(move |baseline| baseline.generate(&firsts, n_tokens))
                .await?,
        ))
    }

    /// Generates the same with and without guesses, if that is asked for.
    async fn compare(&mut self, args: &BenchArgs, n_tokens: u32) -> anyhow::Result<()> {
        if args.speculative.is_none() {
            return Ok(());
        }
        let prompt = self.tokens.take(1);
        let n_predict = n_tokens.saturating_add(1);
        let (plain, answer) = self.answer(prompt.clone(), n_predict, None).await?;
        let params = speculative::params(args, &prompt, &answer, self.tokens.n_vocab);
        let (guessed, same) = self.answer(prompt, n_predict, params).await?;
        let comparison = &mut self.comparison;
        comparison.elapsed_ms.push((plain.eval_ms, guessed.eval_ms));
        comparison.usage.extend(guessed.speculation);
        comparison.n_same += usize::from(same == answer);
        Ok(())
    }

    /// An outlined answer, and as many tokens in one sequence.
    async fn fork(&mut self, outlined: Outlined) -> anyhow::Result<()> {
        let client = self.runtime.client();
        let mut shared = self.tokens.take(branches::N_SHARED);
        let sequence_ms = branches::one_sequence(&client, shared.clone(), outlined).await?;
        let suffixes = (0..outlined.n_branches).map(|_| self.tokens.take(branches::N_SUFFIX));
        let suffixes = suffixes.collect();
        if outlined.n_outline > 0 {
            // Not the text that is in the cache since.
            shared.extend(self.tokens.take(1));
        }
        self.trace().await?;
        let taken = branches::outlined(&client, shared, suffixes, outlined).await?;
        let steps = self.trace().await?;
        self.forks.push(sequence_ms, taken, steps);
        Ok(())
    }

    /// Has the pipeline answer greedily, to the last token asked for, without guesses.
    async fn complete(&self, prompt: Vec<Token>, n_predict: u32) -> anyhow::Result<Completion> {
        Ok(self.answer(prompt, n_predict, None).await?.0)
    }

    /// The same with guesses, if any; and the answer.
    async fn answer(
        &self,
        prompt: Vec<Token>,
        n_predict: u32,
        speculation: Option<SpeculationParams>,
    ) -> anyhow::Result<(Completion, Vec<Token>)> {
        let options = GenerateOptions {
            cache_prompt: false,
            ..answer::options(n_predict, speculation)
        };
        answer::complete(&self.runtime.client(), prompt, options).await
    }

    /// The steps since the last call, if they are wanted.
    async fn trace(&self) -> anyhow::Result<Vec<StepTrace>> {
        if !self.is_traced {
            return Ok(Vec::new());
        }
        Ok(self.runtime.trace(true).await?)
    }

    /// Runs the baseline, if there is one, on a thread that may block.
    async fn with_baseline(
        &mut self,
        work: impl FnOnce(&mut Baseline) -> anyhow::Result<Run> + Send + 'static,
    ) -> anyhow::Result<Option<Run>> {
        let Some(mut baseline) = self.baseline.take() else {
            return Ok(None);
        };
        let worked = tokio::task::spawn_blocking(move || (work(&mut baseline), baseline));
        let (run, baseline) = worked.await?;
        self.baseline = Some(baseline);
        run.map(Some)
    }
}

/// What each stage process emulates.
pub(super) fn emulations(args: &BenchArgs) -> Vec<EmulationSettings> {
    let n = args
        .stages
        .cut
        .stages
        .map_or(0, |n| n as usize)
        .max(args.slowdowns.len());
    let emulation = |i: usize| EmulationSettings {
        slowdown: args.slowdowns.get(i).copied(),
        link_rate: args.link_rate.clone(),
        link_latency: args.link_latency.clone(),
        memory_limit: None,
    };
    (0..n).map(emulation).collect()
}

/// The stages with the resident memory of their processes; those inside this process share its
/// growth in proportion to what their engines hold.
fn stages(status: &ClusterStatus, pids: &HashMap<String, u32>, before_bytes: u64) -> Vec<Stage> {
    let grown = resident::of_this_process().saturating_sub(before_bytes);
    let held = |i: usize| {
        let memory = status.stages.get(i).and_then(|stage| stage.memory.as_ref());
        memory.map_or(0, EngineMemory::total_bytes)
    };
    let held_here: u64 = (0..status.stages.len()).map(held).sum();
    let stage = |(i, stage): (usize, &jupiter::StageStatus)| {
        let rss_bytes = match pids.get(&stage.node.0) {
            Some(pid) => resident::of_process(*pid),
            None => (grown as f64 * held(i) as f64 / held_here.max(1) as f64) as u64,
        };
        let layers = (stage.layers.start, stage.layers.end);
        Stage {
            node: stage.node.0.clone(),
            layers,
            rss_bytes,
            engine_bytes: held(i),
        }
    };
    status.stages.iter().enumerate().map(stage).collect()
}
