//! `jupiter top`: what a running cluster is doing, as it does it.

mod frame;
mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{ModelSettings, NetworkSettings};
use jupiter::signals::Signals;
use jupiter::status::StatusReport;
use jupiter::{Config, Monitor, Settings};

use self::frame::{View, to_text};
use self::screen::{Key, Screen};
use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, Interrupted, UsageError};
use super::serve::DEFAULT_ENDPOINT;

/// Size of a frame that is printed: lines are cut at the end, not wrapped.
const PRINTED: (u16, u16) = (100, 40);

/// Flags of `top`.
#[derive(Args, Debug)]
#[command(after_help = "\
q, Esc and Ctrl-C leave.

Examples:
  jupiter top                                        of the head on this machine
  jupiter top --connect tcp/192.168.1.10:7447 --interval-ms 500
  jupiter top --once")]
pub(crate) struct TopArgs {
    /// Print one frame as plain text and leave
    #[arg(long, env = "JUPITER_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,

    /// How often the head is asked
    #[arg(
        long,
        env = "JUPITER_INTERVAL_MS",
        value_name = "MS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(50..=60_000)
    )]
    interval_ms: u64,

    #[command(flatten)]
    network: NetworkSettings,
}

pub(crate) async fn execute(common: &CommonArgs, args: &TopArgs) -> anyhow::Result<ExitCode> {
    if !args.once && !io::stdout().is_terminal() {
        let how = "stdout is no terminal: add --once for one frame as text";
        return Err(UsageError(how.into()).into());
    }
    let settings = Settings {
        network: args.network.clone(),
        ..Settings::default()
    };
    let mut settings = Settings::load_here(common.config.as_deref(), &settings)?;
    // The head has it; here nothing is downloaded.
    settings.model = ModelSettings::default();
    let mut network = Config::from_settings(settings)?.network;
    // What a head's file says of itself is where it is reached.
    if network.endpoints.connect.is_empty() {
        network.endpoints.connect = std::mem::take(&mut network.endpoints.listen);
    }
    if network.endpoints.connect.is_empty() {
        network.endpoints.connect = vec![DEFAULT_ENDPOINT.to_owned()];
    }
    network.endpoints.listen.clear();
    let mut stop = Signals::stop()?;
    let watched = async {
        let monitor = Monitor::connect(network).await?;
        let interval = Duration::from_millis(args.interval_ms);
        let watched = match args.once {
            true => print_once(&monitor, interval).await,
            false => watch(&monitor, interval).await,
        };
        monitor.close().await;
        watched
    };
    tokio::select! {
        watched = watched => watched.map(|()| ExitCode::SUCCESS),
        () = stop.recv() => Err(Interrupted.into()),
    }
}

/// A frame, with rates over one interval.
async fn print_once(monitor: &Monitor, interval: Duration) -> anyhow::Result<()> {
    let before = monitor.report().await?;
    tokio::time::sleep(interval).await;
    let report = monitor.report().await?;
    let view = View::new(report, Some(&before));
    output::text(&to_text(&view, PRINTED)?)
}

/// Frames until a person has seen enough. A head that is gone is told in its place, and asked again.
async fn watch(monitor: &Monitor, interval: Duration) -> anyhow::Result<()> {
    let mut before: Option<StatusReport> = None;
    let mut view = View::new(monitor.report().await?, None);
    let mut screen = Screen::open()?;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        screen.draw(&view)?;
        tokio::select! {
            key = screen.key() => match key {
                Some(Key::Redraw) => continue,
                Some(Key::Leave) | None => return Ok(()),
            },
            _ = ticks.tick() => {}
        }
        match monitor.report().await {
            Ok(report) => {
                view = View::new(report.clone(), before.as_ref());
                before = Some(report);
            }
            Err(error) => view.trouble = Some(error.to_string()),
        }
    }
}
