//! What the tests of running clusters share.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use jupiter::{
    Client, Completion, Config, DraftChoice, GenerateOptions, Prompt, Runtime, RuntimeBuilder,
    SamplingParams, Settings, SpeculationParams, StreamItem, Worker,
};
use jupiter_models::Token;
use jupiter_models::synth::{ScriptedSpec, SynthArch, SynthSpec, SynthType, write};

/// No wait in these tests is longer, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Layers of [`model`].
pub(crate) const N_LAYER: u32 = 6;
/// Set for a child process that is a worker; the arguments of [`worker_settings`].
pub(crate) const WORKER_ENV: &str = "JUPITER_TEST_WORKER";

/// A small model with random weights, in a folder that the caller keeps.
pub(crate) fn model(dir: &Path, seed: u64) -> PathBuf {
    let path = dir.join(format!("model-{seed}.gguf"));
    let spec = SynthSpec {
        n_layer: N_LAYER,
        ty: SynthType::F16,
        seed,
        ..SynthSpec::new(SynthArch::Llama)
    };
    write(&spec, &path, &mut |_, _| {}).unwrap();
    path
}

/// A running model that says a known text, in a folder that the caller keeps.
pub(crate) async fn scripted(spec: &ScriptedSpec, stages: u32) -> (tempfile::TempDir, Runtime) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scripted.gguf");
    spec.write(&path).unwrap();
    let runtime = head(&path).stages(stages).start().await.unwrap();
    (dir, runtime)
}

pub(crate) fn head(model: &Path) -> RuntimeBuilder {
    Runtime::builder()
        .model(model)
        .ctx(512)
        .parallel(2)
        .chunk(32)
        .threads(1)
        .node_wait_ms(30_000)
}

/// A head on a free port that waits for `n_workers` and computes nothing itself.
pub(crate) fn cluster_head(model: &Path, cluster: &str, n_workers: u32) -> RuntimeBuilder {
    head(model)
        .cluster(cluster)
        .node_id("head")
        .listen(["tcp/127.0.0.1:0"])
        .workers(n_workers)
        .host_stages(false)
}

/// The same, running, with a stage on each worker.
pub(crate) async fn networked_head(model: &Path, cluster: &str, n_workers: u32) -> Runtime {
    let head = cluster_head(model, cluster, n_workers).plan("even");
    head.start().await.unwrap()
}

pub(crate) fn worker_settings(model: &Path, cluster: &str, node: &str, connect: &str) -> Settings {
    let mut settings = Settings::default();
    settings.model.model = Some(model.to_owned());
    settings.network.cluster = Some(cluster.to_owned());
    settings.network.node = Some(node.to_owned());
    settings.network.connect = vec![connect.to_owned()];
    settings.engine.threads = Some(1);
    settings
}

pub(crate) async fn worker(settings: Settings) -> Worker {
    Worker::start(Config::from_settings(settings).unwrap())
        .await
        .unwrap()
}

/// A worker in a process of its own, which can be killed.
pub(crate) fn worker_process(settings: &Settings) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "cluster::the_worker_process"])
        .env(WORKER_ENV, serde_json::to_string(settings).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The life of [`worker_process`]: until its standard input closes.
pub(crate) async fn be_worker_process() {
    let Ok(settings) = std::env::var(WORKER_ENV) else {
        return;
    };
    let worker = worker(serde_json::from_str(&settings).unwrap()).await;
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    worker.run_until(end).await.unwrap();
}

pub(crate) fn greedy(n_predict: u32) -> GenerateOptions {
    GenerateOptions {
        n_predict: Some(n_predict),
        sampling: SamplingParams::greedy(),
        ignore_eos: true,
        // Steps of other shapes round differently, and random weights have near ties.
        speculation: Some(SpeculationParams {
            source: DraftChoice::None,
            ..SpeculationParams::default()
        }),
        ..GenerateOptions::default()
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) tokens: Vec<Token>,
    pub(crate) text: String,
    pub(crate) done: Completion,
}

pub(crate) async fn ask(client: &Client, prompt: Prompt, options: GenerateOptions) -> Answer {
    let stream = client.generate(prompt, options).await.unwrap();
    tokio::time::timeout(PATIENCE, collect(stream))
        .await
        .unwrap()
}

pub(crate) async fn collect(mut stream: jupiter::TokenStream) -> Answer {
    let (mut tokens, mut text) = (Vec::new(), String::new());
    while let Some(item) = stream.next().await {
        match item.unwrap() {
            StreamItem::Token { id, text: piece } => {
                tokens.extend(id);
                text.push_str(&piece);
            }
            StreamItem::Thought { .. } | StreamItem::Outline { .. } | StreamItem::Branch(_) => {}
            StreamItem::Done(done) => {
                assert!(stream.next().await.is_none(), "something follows the end");
                return Answer { tokens, text, done };
            }
        }
    }
    panic!("the stream ended without its end")
}
