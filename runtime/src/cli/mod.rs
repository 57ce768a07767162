//! The command line: one verb per file.
//!
//! - [`args`], [`answer_args`]: flags that several verbs share; [`argv`], [`precedence`]: their spelling,
//!   and what beats what
//! - [`run`], [`chat`]: answer here; [`serve`], [`worker`]: answer together with other machines
//! - [`plan`]: measure them and say who would compute what; [`plan_report`]: as people read it
//! - [`simulate`]: what machines of a file would do under load; [`load_report`]: what comes of a load;
//!   [`top`]: what a cluster does
//! - [`pull`]: fetch a model file; [`split`], [`synth`]: write some; [`bench`], [`devices`], [`models`]: measure and
//!   look
//! - [`start`]: from flags to a running pipeline; [`processes`]: stages in child processes;
//!   [`leave`]: the end of the program
//! - [`output`], [`table`], [`timeline_file`]: what is printed and drawn; [`process_settings`]: faster memory
//!   and messages

mod answer_args;
mod args;
mod argv;
mod bench;
mod chat;
mod devices;
mod leave;
mod load_report;
mod models;
mod output;
mod plan;
mod plan_report;
mod precedence;
mod process_settings;
mod processes;
mod pull;
mod run;
mod serve;
mod simulate;
mod split;
mod start;
mod synth;
mod table;
mod timeline_file;
mod top;
mod usage;
mod worker;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use jupiter::signals::Signals;

use args::CommonArgs;
use leave::ExitCode;

/// How long background tasks may take to end when all is done: dropping them is quick.
const END_PATIENCE: Duration = Duration::from_millis(500);

/// Runs a large language model in a pipeline over several weak machines, or in one process.
#[derive(Debug, Parser)]
#[command(name = "jupiter", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,

    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  jupiter run -p 'What is a lidar?'                   with the small default model
  jupiter run -m model.gguf -p 'Hello' -n 32 --stages 2
  jupiter chat -m model.gguf --stages 2 --processes
  jupiter serve -m model.gguf --listen tcp/192.168.1.10:7447 --workers 1
  jupiter worker -m model.gguf --connect tcp/192.168.1.10:7447

Every flag has an environment twin (--ctx-size is JUPITER_CTX_SIZE).";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer one prompt
    Run(Box<run::RunArgs>),
    /// Talk with the model
    Chat(Box<chat::ChatArgs>),
    /// Be the head of a cluster: plan, and answer whoever asks over zenoh
    Serve(Box<serve::ServeArgs>),
    /// Measure machines, and show which would compute what and how fast
    Plan(Box<plan::PlanArgs>),
    /// Show what machines that are not there would do under load
    Simulate(Box<simulate::SimulateArgs>),
    /// Show what a running cluster does: requests, stages, memory, tokens a second
    Top(top::TopArgs),
    /// Compute layers for a head
    Worker(Box<worker::WorkerArgs>),
    /// Write the stages of a model as files
    Split(split::SplitVerbArgs),
    /// Download a model of the Hugging Face hub, and print where it is
    Pull(pull::PullArgs),
    /// Write a model with random weights
    Synth(synth::SynthArgs),
    /// Measure speed and memory, beside plain llama.cpp if asked
    Bench(Box<bench::BenchArgs>),
    /// List what this machine can compute on
    Devices(devices::DevicesArgs),
    /// List the architectures of models that can be run, and where they may be cut
    Models(models::ModelsArgs),
}

/// Runs the program, to its end.
pub(crate) fn main() -> ! {
    process_settings::ask_for();
    run_verb().leave()
}

/// Reads the command line, does what it says, and prints what went wrong in one line.
fn run_verb() -> ExitCode {
    let arguments = argv::spell_out(std::env::args_os());
    let matches = match precedence::matches(&Cli::command(), &arguments) {
        Ok(matches) => matches,
        Err(error) => return usage::report(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    output::hide_panics();
    jupiter::telemetry::init(cli.common.verbose, cli.common.log_json);
    let done = catch_unwind(AssertUnwindSafe(|| execute(&cli)));
    match done.unwrap_or_else(|_| Err(anyhow::anyhow!("an internal error: please report it"))) {
        Ok(code) => code,
        Err(error) => output::report(&error),
    }
}

/// Runs a verb; those that answer prompts do so on a tokio runtime of several threads, as zenoh
/// needs it.
fn execute(cli: &Cli) -> anyhow::Result<ExitCode> {
    let common = &cli.common;
    match &cli.verb {
        Verb::Run(args) => block_on(Signals::stop, run::execute(common, args)),
        // Ctrl-C ends an answer there, not the program.
        Verb::Chat(args) => block_on(Signals::end, chat::execute(common, args)),
        Verb::Serve(args) => block_on(Signals::stop, serve::execute(common, args)),
        Verb::Plan(args) => block_on(Signals::stop, plan::execute(common, args)),
        Verb::Worker(args) => block_on(Signals::stop, worker::execute(common, args)),
        Verb::Bench(args) => block_on(Signals::stop, bench::execute(common, args)),
        Verb::Top(args) => block_on(Signals::stop, top::execute(common, args)),
        Verb::Simulate(args) => simulate::execute(common, args),
        Verb::Split(args) => split::execute(common, args),
        Verb::Pull(args) => pull::execute(args),
        Verb::Synth(args) => synth::execute(args),
        Verb::Devices(args) => devices::execute(args),
        Verb::Models(args) => models::execute(args),
    }
}

fn block_on(
    ends: fn() -> io::Result<Signals>,
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        tokio::spawn(leave::insist(ends()?));
        work.await
    });
    // A thread that still loads a model must not hold up the end of the process.
    runtime.shutdown_timeout(END_PATIENCE);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_the_environment_twin_of_its_name() {
        let mut command = Cli::command();
        command.build();
        for verb in command
            .get_subcommands()
            .filter(|verb| verb.get_name() != "help")
        {
            for flag in verb.get_arguments().filter(|a| !a.is_positional()) {
                let Some(long) = flag.get_long().filter(|l| !["help", "version"].contains(l))
                else {
                    continue;
                };
                let twin = format!("JUPITER_{}", long.to_uppercase().replace('-', "_"));
                let env = flag.get_env().map(|env| env.to_string_lossy().into_owned());
                assert_eq!(env, Some(twin), "--{long} of {}", verb.get_name());
            }
        }
    }
}
