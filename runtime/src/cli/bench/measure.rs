//! The runs of a benchmark: pipeline and baseline in turns.

use std::collections::HashMap;

use futures::StreamExt;
use jupiter::{
    Client, ClusterStatus, Completion, GenerateOptions, Prompt, SamplingParams, StreamItem,
};
use jupiter_models::Token;
use jupiter_models::engine::{EngineMemory, EngineParams};
use jupiter_models::gguf::{GgufFile, ModelInfo};

use super::BenchArgs;
use super::baseline::Baseline;
use super::report::{Measured, Run, Stage, Test};
use super::resident;
use crate::cli::args::CommonArgs;
use crate::cli::output;
use crate::cli::start::{self, Pipeline, PipelineArgs};

/// n_ctx is made a multiple of this, as llama.cpp pads it.
const CTX_STEP: u32 = 256;

/// Threads of each stage, and of the baseline: pipelines are for machines that have no more to give,
/// and what more threads share is hard to compare.
const DEFAULT_THREADS: u32 = 1;

/// Tokens that each test computes before anything is measured: pages are touched, threads started.
const WARM_UP_TOKENS: u32 = 32;

/// Starts the pipeline, runs every test, and ends it.
pub(super) async fn measure(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<Measured> {
    let mut engine = args.engine.clone();
    let n_positions = args
        .n_prompt
        .max(args.n_gen.saturating_add(1))
        .saturating_add(1);
    let n_ctx = n_positions.saturating_add(CTX_STEP - 1) / CTX_STEP * CTX_STEP;
    engine.ctx_size = engine.ctx_size.or(Some(n_ctx));
    engine.parallel = engine.parallel.or(Some(1));
    engine.threads = engine.threads.or(Some(DEFAULT_THREADS));
    let pipeline = PipelineArgs {
        common,
        engine: &engine,
        split: &args.split,
        processes: args.process.processes,
    };
    let before_bytes = resident::of_this_process();
    start::with_pipeline(pipeline, output::stop_signal(), async |pipeline| {
        let Pipeline {
            runtime, config, ..
        } = pipeline;
        let model = GgufFile::open(config.model_path()?)?;
        let info = ModelInfo::from_gguf(&model)?;
        let mut bench = Bench {
            client: runtime.client(),
            baseline: None,
            tokens: RandomTokens {
                state: args.seed,
                n_vocab: info.n_vocab,
            },
        };
        bench.warm_up(args).await?;
        let stages = stages(&runtime.status().await?, &pipeline.pids(), before_bytes);
        let engine = &config.engine;
        let n_threads = engine.n_threads.unwrap_or(DEFAULT_THREADS);
        if args.baseline {
            let params = EngineParams {
                n_ctx: engine.n_ctx_of(info.n_ctx_train),
                n_threads,
                type_k: engine.type_k,
                type_v: engine.type_v,
                flash_attention: engine.flash_attention,
                n_gpu_layers: engine.n_gpu_layers,
                ..EngineParams::default()
            };
            bench.baseline = Some(Baseline::load(&model, &params)?);
            bench.warm_up(args).await?;
        }
        let (pp, tg) = bench.tests(args).await?;
        Ok(Measured {
            model: model_name(&model),
            model_bytes: std::fs::metadata(model.path())?.len(),
            stages,
            processes: args.process.processes,
            n_threads,
            chunk: engine.chunk,
            pp,
            tg,
            hop_ms: runtime.status().await?.steps.hop_us.map(|us| us / 1e3),
        })
    })
    .await
}

/// What is measured, and with what.
struct Bench {
    client: Client,
    baseline: Option<Baseline>,
    tokens: RandomTokens,
}

impl Bench {
    /// Runs each test once, shortened, and forgets what it took.
    async fn warm_up(&mut self, args: &BenchArgs) -> anyhow::Result<()> {
        self.prefill(args.n_prompt.clamp(1, WARM_UP_TOKENS)).await?;
        self.generate(args.n_gen.clamp(1, WARM_UP_TOKENS)).await?;
        Ok(())
    }

    /// All repetitions of both tests.
    async fn tests(&mut self, args: &BenchArgs) -> anyhow::Result<(Option<Test>, Option<Test>)> {
        let test = |kind: &str, n_tokens: u32| {
            let name = format!("{kind}{n_tokens}");
            (n_tokens > 0).then(|| Test {
                name,
                n_tokens,
                pipeline: vec![],
                baseline: vec![],
            })
        };
        let (mut pp, mut tg) = (test("pp", args.n_prompt), test("tg", args.n_gen));
        for repetition in 1..=args.repetitions {
            tracing::info!("repetition {repetition} of {}", args.repetitions);
            if let Some(pp) = &mut pp {
                let (pipeline, baseline) = self.prefill(pp.n_tokens).await?;
                pp.pipeline.push(pipeline);
                pp.baseline.extend(baseline);
            }
            if let Some(tg) = &mut tg {
                let (pipeline, baseline) = self.generate(tg.n_tokens).await?;
                tg.pipeline.push(pipeline);
                tg.baseline.extend(baseline);
            }
        }
        Ok((pp, tg))
    }

    /// A prompt of random tokens, up to the first token of the answer; the baseline takes the same.
    async fn prefill(&mut self, n_tokens: u32) -> anyhow::Result<(Run, Option<Run>)> {
        let tokens = self.tokens.take(n_tokens);
        let done = self.answer(tokens.clone(), 1).await?;
        let busy_ms = done
            .stages
            .iter()
            .map(|stage| stage.prompt_busy_ms)
            .collect();
        let run = Run {
            elapsed_ms: done.prompt_ms,
            busy_ms,
        };
        Ok((
            run,
            self.with_baseline(move |baseline| baseline.prefill(&tokens))
                .await?,
        ))
    }

    /// `n_tokens` after a prompt of one and the token that follows it.
    async fn generate(&mut self, n_tokens: u32) -> anyhow::Result<(Run, Option<Run>)> {
        let prompt = self.tokens.take(1);
        let first = prompt[0];
        let done = self.answer(prompt, n_tokens.saturating_add(1)).await?;
        let busy_ms = done.stages.iter().map(|stage| stage.eval_busy_ms).collect();
        let run = Run {
            elapsed_ms: done.eval_ms,
            busy_ms,
        };
        Ok((
            run,
            self.with_baseline(move |baseline| baseline.generate(first, n_tokens))
                .await?,
        ))
    }

    /// Has the pipeline answer greedily, to the last token asked for.
    async fn answer(&self, prompt: Vec<Token>, n_predict: u32) -> anyhow::Result<Completion> {
        let options = GenerateOptions {
            n_predict: Some(n_predict),
            sampling: SamplingParams {
                temperature: 0.0,
                ..SamplingParams::default()
            },
            ignore_eos: true,
            cache_prompt: false,
            ..GenerateOptions::default()
        };
        let mut stream = self
            .client
            .generate(Prompt::tokens(prompt), options)
            .await?;
        while let Some(item) = stream.next().await {
            if let StreamItem::Done(done) = item? {
                anyhow::ensure!(done.n_replays == 0, "a stage failed during the measurement");
                return Ok(done);
            }
        }
        anyhow::bail!("the answer broke off")
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

/// Tokens of a seed (splitmix64), as any of the vocabulary.
struct RandomTokens {
    state: u64,
    n_vocab: u32,
}

impl RandomTokens {
    fn take(&mut self, n: u32) -> Vec<Token> {
        (0..n).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Token {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % u64::from(self.n_vocab.max(1))) as Token
    }
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
            layers,
            rss_bytes,
            engine_bytes: held(i),
        }
    };
    status.stages.iter().enumerate().map(stage).collect()
}

/// The file's name, as llama-bench calls a model it knows nothing of.
fn model_name(model: &GgufFile) -> String {
    let name = model.path().file_name().unwrap_or(model.path().as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_are_of_the_vocabulary_and_follow_from_the_seed() {
        let take = |state| {
            RandomTokens {
                state,
                n_vocab: 300,
            }
            .take(64)
        };
        assert!(take(1).iter().all(|token| (0..300).contains(token)));
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
