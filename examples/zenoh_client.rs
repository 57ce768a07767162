//! A client that knows nothing but zenoh: publishes a prompt, prints what comes back.
//!
//! ```sh
//! jupiter serve                                           # first terminal
//! cargo run --example zenoh_client -- 'What is a lidar?'  # second terminal
//! ```

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use jupiter::terminal::{tell, text_for};
use serde_json::Value;
use zenoh::pubsub::Publisher;

/// How long the head may take to be found; connecting over a network takes far less.
const FIND_HEAD: Duration = Duration::from_secs(10);

/// How often it is looked whether the head is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Publishes a prompt on jupiter/<cluster>/prompt/<id> and prints what comes on completion/<id>.
#[derive(Debug, Parser)]
struct Args {
    /// The prompt
    prompt: String,
    /// Where the head listens, as tcp/127.0.0.1:7447
    #[arg(long, env = "JUPITER_CONNECT", default_value = "tcp/127.0.0.1:7447")]
    connect: String,
    /// Name of the cluster
    #[arg(long, env = "JUPITER_CLUSTER", default_value = jupiter::config::DEFAULT_CLUSTER)]
    cluster: String,
    /// Name of this conversation's topics; without it one of its own
    #[arg(long, env = "JUPITER_ID")]
    id: Option<String>,
    /// Longest silence of the head in seconds; one that has nothing to say says twice a second that
    /// it is there
    #[arg(long, default_value_t = 10)]
    silence: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    zenoh::init_log_from_env_or("off");
    match ask(jupiter::environment::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn ask(args: Args) -> anyhow::Result<()> {
    let id = args
        .id
        .unwrap_or_else(|| format!("client-{}", std::process::id()));
    let session = zenoh::open(config(&args.connect)?)
        .await
        .map_err(|e| anyhow!("zenoh: {e}"))?;
    let topic = |name: &str| format!("jupiter/{}/{name}/{id}", args.cluster);

    // The answer may begin before `put` returns: listen first.
    let completions = session
        .declare_subscriber(topic("completion"))
        .await
        .map_err(|e| anyhow!("cannot subscribe: {e}"))?;
    let prompts = session
        .declare_publisher(topic("prompt"))
        .await
        .map_err(|e| anyhow!("cannot publish: {e}"))?;
    tokio::time::timeout(FIND_HEAD, wait_for_head(&prompts))
        .await
        .with_context(|| {
            format!(
                "no head of cluster `{}` at {}: start `jupiter serve`",
                args.cluster, args.connect
            )
        })??;
    prompts
        .put(args.prompt)
        .await
        .map_err(|e| anyhow!("cannot publish: {e}"))?;

    loop {
        let silence = Duration::from_secs(args.silence);
        let sample = tokio::time::timeout(silence, completions.recv_async())
            .await
            .with_context(|| {
                format!(
                    "the head at {} has said nothing for {} s: is it stopped, or the network cut?",
                    args.connect, args.silence
                )
            })?
            .map_err(|e| anyhow!("the session has ended: {e}"))?;
        let event: Value = serde_json::from_slice(&sample.payload().to_bytes())?;
        match event["event"].as_str() {
            Some("token") => {
                let text = event["text"].as_str().unwrap_or_default();
                let mut stdout = std::io::stdout();
                write!(stdout, "{}", text_for(&stdout, text))?;
                stdout.flush()?;
            }
            Some("done") => {
                writeln!(std::io::stdout())?;
                break;
            }
            Some("error") => bail!("{}", event["message"].as_str().unwrap_or_default()),
            // Points of an outline: their text comes as tokens too.
            _ => {}
        }
    }
    session.close().await.map_err(|e| anyhow!("zenoh: {e}"))
}

/// A peer that only connects: nothing listens, nothing is sought by multicast.
fn config(connect: &str) -> anyhow::Result<zenoh::Config> {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"peer\"".to_owned()),
        ("listen/endpoints", "[]".to_owned()),
        ("connect/endpoints", serde_json::to_string(&[connect])?),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config
            .insert_json5(key, &value)
            .map_err(|e| anyhow!("zenoh configuration: {e}"))?;
    }
    Ok(config)
}

/// Waits until the head's subscription to prompts is known here.
async fn wait_for_head(prompts: &Publisher<'_>) -> anyhow::Result<()> {
    while !prompts
        .matching_status()
        .await
        .map_err(|e| anyhow!("cannot look for a head: {e}"))?
        .matching()
    {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
