//! `bench --load`: requests of many clients that come at random, as `jupiter simulate` has them, answered
//! by a pipeline that is there.

use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::future::join_all;
use jupiter::config::{DEFAULT_PARALLEL, EngineSettings};
use jupiter::signals::Signals;
use jupiter::{Client, ClusterStatus, Completion, GenerateOptions, Prompt, Settings, StreamItem};
use jupiter_actors::planner::StepStats;
use jupiter_actors::simulator::{Answered, Outcome, SimRequest, StageOutcome, arrivals};
use jupiter_models::Token;
use tokio::time::{Instant, sleep_until};

use super::measure::{CTX_STEP, DEFAULT_THREADS, emulations};
use super::random_tokens::RandomTokens;
use super::{BenchArgs, answer};
use crate::cli::args::{CommonArgs, positive};
use crate::cli::load_report::{Ground, Report, TrafficArgs, check_fits};
use crate::cli::output;
use crate::cli::start::{self, Pipeline, PipelineArgs};

/// Tokens of a prompt and of an answer that are computed before anything is measured.
const WARM_UP: (u32, u32) = (200, 16);

/// Flags of a load.
#[derive(Args, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Let requests come at random instead, so many a second; several rates are tried one after the
    /// other, as `0.5,1,2`
    #[arg(
        long,
        env = "JUPITER_LOAD",
        value_name = "RATE,..",
        value_delimiter = ',',
        conflicts_with_all = ["rows", "baseline", "predict", "timeline", "speculative", "branches"]
    )]
    pub(super) load: Vec<f64>,

    /// How many requests come, for --load
    #[arg(
        long,
        env = "JUPITER_REQUESTS",
        value_name = "N",
        default_value_t = 48,
        value_parser = positive()
    )]
    requests: u32,

    /// Tokens that all prompts begin with, for --load
    #[arg(long, env = "JUPITER_SHARED", value_name = "K", default_value_t = 0)]
    shared: u32,

    #[command(flatten)]
    traffic: TrafficArgs,
}

impl LoadArgs {
    /// The requests of each rate.
    fn asked(&self, seed: u64) -> anyhow::Result<Vec<(f64, Vec<SimRequest>)>> {
        let of_rate = |&rate: &f64| {
            let mut requests = arrivals(rate, self.requests, self.traffic.lengths, seed)?;
            for request in &mut requests {
                request.n_prompt = request.n_prompt.saturating_add(self.shared);
            }
            Ok((rate, requests))
        };
        self.load.iter().map(of_rate).collect()
    }
}

/// Starts the pipeline, puts each load on it, and ends it.
pub(super) async fn measure(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<Vec<Report>> {
    let asked = args.load.asked(args.seed)?;
    let n_parallel = args.stages.engine.parallel.unwrap_or(DEFAULT_PARALLEL);
    let settings = settings(args, &asked, n_parallel);
    let n_ctx = settings.engine.ctx_size.unwrap_or(u32::MAX);
    if args.load.shared >= n_ctx {
        let shared = args.load.shared;
        anyhow::bail!(
            "--shared {shared} leaves no room for prompts in a context of {n_ctx} tokens: share \
             less, or raise -c/--ctx-size"
        );
    }
    for (_, requests) in &asked {
        check_fits(requests, n_ctx)?;
    }
    let emulations = emulations(args);
    let pipeline = PipelineArgs {
        adapts: false,
        n_parallel: Some(n_parallel),
        emulations: &emulations,
        ..PipelineArgs::new(common, settings, args.process.processes)
    };
    start::with_pipeline(pipeline, Signals::stop()?, async |pipeline| {
        let mut reports = Vec::with_capacity(asked.len());
        let mut load = LoadBench::new(pipeline, args)?;
        load.run(&[SimRequest::at_once(WARM_UP.0, WARM_UP.1)])
            .await?;
        for (rate, requests) in &asked {
            output::note(&format!("{} requests, {rate} a second", requests.len()));
            let outcome = load.run(requests).await?;
            let ground = Ground {
                rate: Some(*rate),
                ..load.ground.clone()
            };
            reports.push(Report::new(
                &outcome,
                &ground,
                args.load.traffic.goals(&args.stages),
            ));
        }
        Ok(reports)
    })
    .await
}

/// The pipeline's settings: as the flags have them, with room for the longest requests at a time.
fn settings(args: &BenchArgs, asked: &[(f64, Vec<SimRequest>)], n_parallel: u32) -> Settings {
    let engine = &args.stages.engine;
    let n_ctx = asked.iter().map(|(_, requests)| {
        let lengths = requests
            .iter()
            .map(|r| r.n_prompt.saturating_add(r.n_predict));
        let mut lengths: Vec<u32> = lengths.collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let longest = lengths.iter().take(n_parallel as usize);
        longest.fold(CTX_STEP, |sum, &length| sum.saturating_add(length))
    });
    let n_ctx = n_ctx.max().unwrap_or(CTX_STEP) / CTX_STEP * CTX_STEP;
    Settings {
        model: args.model.clone(),
        engine: EngineSettings {
            ctx_size: engine.ctx_size.or(Some(n_ctx)),
            parallel: Some(n_parallel),
            threads: engine.threads.or(Some(DEFAULT_THREADS)),
            ..engine.clone()
        },
        ..args.stages.settings()
    }
}

/// A pipeline that loads are put on.
struct LoadBench<'a> {
    pipeline: &'a Pipeline,
    ground: Ground,
    tokens: RandomTokens,
    /// What all prompts begin with.
    shared: Vec<Token>,
}

impl<'a> LoadBench<'a> {
    fn new(pipeline: &'a Pipeline, args: &BenchArgs) -> anyhow::Result<Self> {
        let config = &pipeline.config;
        let (_, info) = config.open_model()?;
        let mut tokens = RandomTokens {
            state: args.seed,
            n_vocab: info.n_vocab,
        };
        let engine = &config.engine;
        let ground = Ground {
            kind: match args.process.processes {
                true => "processes",
                false => "embedded",
            },
            schedule: config.pipeline.schedule,
            rate: None,
            n_cells: engine.n_ctx_of(info.n_ctx_train),
            parallel: engine.n_parallel,
            chunk: engine.chunk,
            energy_j: None,
        };
        let shared = tokens.take(args.load.shared);
        Ok(Self {
            pipeline,
            ground,
            tokens,
            shared,
        })
    }

    /// Lets `requests` come, and waits until all are answered.
    async fn run(&mut self, requests: &[SimRequest]) -> anyhow::Result<Outcome> {
        let prompts: Vec<Vec<Token>> = requests.iter().map(|asked| self.prompt(asked)).collect();
        let runtime = &self.pipeline.runtime;
        let (client, before) = (runtime.client(), runtime.status().await?.steps);
        let begun = Instant::now();
        let answers = requests.iter().zip(prompts).map(|(asked, prompt)| {
            let arrives = begun + Duration::from_nanos(asked.arrives_ns);
            let client = &client;
            async move {
                sleep_until(arrives).await;
                Heard::answer(client, prompt, asked.n_predict, arrives).await
            }
        });
        let heard = join_all(answers).await;
        let last = heard.iter().filter_map(|heard| heard.last).max();
        let elapsed = last.unwrap_or(begun).duration_since(begun);
        Ok(outcome(heard, elapsed, &before, runtime.status().await?))
    }

    fn prompt(&mut self, asked: &SimRequest) -> Vec<Token> {
        let n_shared = self.shared.len().min(asked.n_prompt as usize);
        let own = self.tokens.take(asked.n_prompt - n_shared as u32);
        [&self.shared[..n_shared], &own].concat()
    }
}

/// What a client heard of its answer.
#[derive(Default)]
struct Heard {
    answered: Answered,
    gaps_ns: Vec<u64>,
    /// When its last token came.
    last: Option<Instant>,
    done: Option<Completion>,
}

impl Heard {
    /// Asks, and listens to the end. Errors are part of what is measured.
    async fn answer(client: &Client, prompt: Vec<Token>, n_predict: u32, arrived: Instant) -> Self {
        let mut heard = Self::default();
        // A prompt is in the cache only where an earlier one began alike.
        let options = GenerateOptions {
            cache_prompt: true,
            ..answer::options(n_predict, None)
        };
        if let Err(error) = heard.listen(client, prompt, options, arrived).await {
            heard.answered.error = Some(error.to_string());
        }
        heard.answered.total_ns = ns(arrived.elapsed());
        heard
    }

    async fn listen(
        &mut self,
        client: &Client,
        prompt: Vec<Token>,
        options: GenerateOptions,
        arrived: Instant,
    ) -> anyhow::Result<()> {
        let mut stream = client.generate(Prompt::tokens(prompt), options).await?;
        while let Some(item) = stream.next().await {
            match item? {
                StreamItem::Token { id: Some(_), .. } | StreamItem::Thought { id: Some(_), .. } => {
                    self.take_token(arrived);
                }
                StreamItem::Done(done) => {
                    self.done = Some(done);
                    return Ok(());
                }
                _ => {}
            }
        }
        anyhow::bail!("the answer broke off")
    }

    fn take_token(&mut self, arrived: Instant) {
        let now = Instant::now();
        match self.last.replace(now) {
            Some(last) => self.gaps_ns.push(ns(now.duration_since(last))),
            None => self.answered.ttft_ns = Some(ns(now.duration_since(arrived))),
        }
        self.answered.n_tokens += 1;
    }
}

/// What was measured, as a simulation has it.
fn outcome(
    heard: Vec<Heard>,
    elapsed: Duration,
    before: &StepStats,
    status: ClusterStatus,
) -> Outcome {
    let after = &status.steps;
    let busy_us = |stage: usize| {
        let of = |stats: &StepStats| stats.busy_us.get(stage).copied().unwrap_or(0);
        of(after).saturating_sub(of(before))
    };
    let stages = status.stages.iter().enumerate();
    let stages = stages.map(|(i, stage)| StageOutcome {
        node: stage.node.clone(),
        layers: stage.layers,
        busy_ns: busy_us(i) * 1000,
    });
    let done = || heard.iter().filter_map(|heard| heard.done.as_ref());
    let mut gaps_ns: Vec<u64> = heard
        .iter()
        .flat_map(|heard| heard.gaps_ns.clone())
        .collect();
    gaps_ns.sort_unstable();
    Outcome {
        stages: stages.collect(),
        n_steps: after.n_steps - before.n_steps,
        n_rows: after.n_rows - before.n_rows,
        n_rows_in_vain: 0,
        most_cells: after.most_cells as usize,
        n_preempted: done().map(|done| u64::from(done.n_preempted)).sum(),
        n_cached: done().map(|done| u64::from(done.n_cached)).sum(),
        gaps_ns,
        elapsed_ns: ns(elapsed),
        plan: status.plan.clone(),
        steps: Vec::new(),
        requests: heard.into_iter().map(|heard| heard.answered).collect(),
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
