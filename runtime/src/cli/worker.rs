//! `jupiter worker`: computes layers for a head.

use std::io::{self, Read};
use std::sync::Arc;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{
    DraftSettings, EmulationSettings, EngineSettings, ModelSettings, NetworkSettings,
    SpeculationSettings,
};
use jupiter::signals::Signals;
use jupiter::terminal::ProgressBars;
use jupiter::{Config, Progress, Settings, Worker};
use jupiter_models::LayerRange;
use serde_json::json;
use tokio::sync::oneshot;

use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, Interrupted, UsageError};

/// Flags of `worker`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter worker -m model.gguf --connect tcp/192.168.1.10:7447
  jupiter worker -m model.gguf --connect tcp/192.168.1.10:7447 --node kitchen -v")]
pub(crate) struct WorkerArgs {
    /// End when stdin does, so that a parent process takes its workers with it
    #[arg(
        long,
        env = "JUPITER_END_WITH_STDIN",
        value_parser = BoolishValueParser::new(),
        hide = true
    )]
    end_with_stdin: bool,

    /// Print one JSON object a line: `started`, then `loaded` for each stage
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    model: ModelSettings,

    #[command(flatten)]
    engine: EngineSettings,

    #[command(flatten)]
    network: NetworkSettings,

    #[command(flatten)]
    speculation: SpeculationSettings,

    #[command(flatten)]
    drafts: DraftSettings,

    #[command(flatten)]
    emulation: EmulationSettings,
}

pub(crate) async fn execute(common: &CommonArgs, args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        model: args.model.clone(),
        engine: args.engine.clone(),
        network: args.network.clone(),
        speculation: args.speculation.clone(),
        drafts: args.drafts.clone(),
        emulation: args.emulation.clone(),
        ..Settings::default()
    };
    let config = Config::from_settings(super::pull::settings(common, &settings).await?)?;
    if config.network.endpoints.connect.is_empty() {
        let how = "no head to work for: give its endpoint, as --connect tcp/192.168.1.10:7447";
        return Err(UsageError(how.into()).into());
    }
    output::tell_default_model(common, &config);
    let heads = config.network.endpoints.connect.join(", ");
    let teller = Arc::new(Teller {
        json: args.json,
        bars: ProgressBars::new(),
    });
    let mut stop = Stop::new(args.end_with_stdin)?;
    let mut worker = tokio::select! {
        started = Worker::start_with(config, Some(teller.clone())) => started?,
        () = stop.asked() => return Err(Interrupted.into()),
    };
    if args.json {
        let listen = worker.endpoints();
        output::json_line(&json!({ "event": "started", "head": heads, "listen": listen }))?;
    } else {
        output::text(&format!("working for the head at {heads}\n"))?;
    }
    // Ctrl-C is how a worker is meant to end.
    let ended = tokio::select! {
        ended = worker.ended() => ended,
        () = stop.asked() => Ok(()),
    };
    worker.shutdown().await;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Tells what the worker loads: a bar while it does, a line when it is done.
struct Teller {
    json: bool,
    bars: ProgressBars,
}

impl Progress for Teller {
    fn slicing(&self, layers: LayerRange, done: u64, total: u64) {
        self.bars.slicing(layers, done, total);
    }

    fn loading(&self, layers: LayerRange, share: f32) {
        self.bars.loading(layers, share);
        if share < 1.0 {
            return;
        }
        let told = if self.json {
            let range = [layers.start, layers.end];
            output::json_line(&json!({ "event": "loaded", "layers": range }))
        } else {
            output::text(&format!("loaded layers {layers}\n"))
        };
        // A worker works on when nobody reads what it says.
        if let Err(error) = told {
            tracing::debug!(%error, "stdout is gone");
        }
    }
}

/// What asks a worker to end: a signal, or the end of stdin if that counts.
struct Stop {
    signals: Signals,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Stop {
    fn new(end_with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            signals: Signals::stop()?,
            stdin: end_with_stdin.then(stdin_ends).transpose()?,
        })
    }

    /// Waits for it. Cancel safe.
    async fn asked(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            return self.signals.recv().await;
        };
        tokio::select! {
            () = self.signals.recv() => {}
            // An error says that the thread is gone, with nothing left to read.
            _ = stdin => {}
        }
    }
}

/// Answers when stdin has ended; read by a thread of its own, since reads cannot be cancelled.
fn stdin_ends() -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            let mut byte = [0];
            let mut stdin = io::stdin().lock();
            // What is written there means nothing; an error is as good as the end.
            while stdin.read(&mut byte).is_ok_and(|n| n > 0) {}
            // Nobody waits when the program ends anyway.
            let _ = ended.send(());
        })?;
    Ok(end)
}
