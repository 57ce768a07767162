//! What writing point by point brings to the default model: speed and quality on held-out questions.
//!
//! ```sh
//! cargo run --release --bin outlines                   # two processes of one thread each
//! cargo run --release --bin outlines -- --embedded     # two stages of one thread in this process
//! cargo run --release --bin outlines -- -m FILE        # another model, everyday questions
//! cargo run --release --bin outlines -- --misses       # with the answers that were not perfect
//! ```
//!
//! Ends with 1 when a figure of quality is missed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use jupiter::{Client, Config, OutlineMode, Runtime};
use jupiter_models::text::Vocabulary;
use jupiter_tests::evaluation::outlines::answer::{self, Answer};
use jupiter_tests::evaluation::outlines::everyday;
use jupiter_tests::evaluation::outlines::processes::{Processes, StageArgs, serve};
use jupiter_tests::evaluation::outlines::quality::{Faults, Quality};
use jupiter_tests::evaluation::outlines::questions::{Question, Routed, routed};
use jupiter_tests::evaluation::outlines::{picture, report, speed};
use jupiter_tests::evaluation::table::HEAD;
use jupiter_world::{Kind, World};

/// Examples of each kind that are looked at.
const EXAMPLES: u64 = 200;
/// Questions that are answered before the clock counts: rates of guesses and caches are known then.
const WARM_UP: usize = 4;
/// Questions of each other kind that are answered both ways.
const OTHERS: usize = 12;

/// Answers held-out questions plainly and point by point, and compares.
#[derive(Parser)]
struct Args {
    /// Held-out questions
    #[arg(short, default_value_t = 40)]
    n: usize,
    /// Times that each is answered in each way; the median counts
    #[arg(short, default_value_t = 3)]
    rounds: usize,
    /// Stages within this process instead of two processes
    #[arg(long)]
    embedded: bool,
    /// Ask this model everyday questions instead, and count what can be counted
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The picture, SVG; without it beside this program's file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Show the answers that were not perfect
    #[arg(long)]
    misses: bool,
    #[command(flatten)]
    stage: Option<StageArgs>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(stage) = &args.stage {
        serve(stage, args.model.as_deref()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(model) = &args.model {
        let processes = Processes::start(Some(model.as_path())).await?;
        let shown = everyday_questions(&processes.runtime, &args).await;
        processes.stop().await?;
        shown?;
        return Ok(ExitCode::SUCCESS);
    }
    let all_hold = if args.embedded {
        let runtime = answer::start().await?;
        let all_hold = compare(&runtime.client(), runtime.config(), &args).await;
        runtime.shutdown().await;
        all_hold?
    } else {
        let processes = Processes::start(None).await?;
        let runtime = &processes.runtime;
        let all_hold = compare(&runtime.client(), runtime.config(), &args).await;
        processes.stop().await?;
        all_hold?
    };
    Ok(ExitCode::from(u8::from(!all_hold)))
}

/// Asks any model everyday questions, in two processes.
async fn everyday_questions(runtime: &Runtime, args: &Args) -> Result<()> {
    // As `serve` does by itself when nobody asks.
    runtime.try_outlines().await?;
    let client = runtime.client();
    let ask = |suit| everyday::ask(&client, everyday::questions(args.n, suit));
    let (suiting, others) = (ask(true).await?, ask(false).await?);
    println!("{}", everyday::table(&suiting, &others));
    if args.misses {
        eprintln!("{}{}", everyday::texts(&suiting), everyday::texts(&others));
    }
    Ok(())
}

/// Prints everything; whether all figures hold.
async fn compare(client: &Client, config: &Config, args: &Args) -> Result<bool> {
    let world = World::load()?;
    let vocabulary = Vocabulary::load(config.model_path()?)?;
    let long = routed(&world, Kind::Long, EXAMPLES);
    let n = args.n.max(1);
    ensure!(
        long.questions.len() >= n + WARM_UP,
        "only {} questions suit: take a smaller -n",
        long.questions.len()
    );
    let (questions, others) = long.questions.split_at(n);
    let place = match args.embedded {
        true => "two stages of one thread in one process",
        false => "two processes of one thread each",
    };
    println!("## Plain and point by point: {n} held-out questions, {place}\n");
    println!(
        "Of {} different long questions, {} are routed to an outline; the first {n} of these are \
         asked.\n",
        long.n_asked,
        long.questions.len()
    );
    let mut show = |question: &Question, plain: &Answer, outlined: &Answer| {
        if args.misses {
            show_miss(question, plain, outlined);
        }
    };
    let [no_guesses, guesses] = speed::measure(
        client,
        &vocabulary,
        questions,
        &others[..WARM_UP],
        args.rounds.max(1),
        &mut show,
    )
    .await?;
    println!("{}", report::times(&no_guesses, &guesses));
    let mut all_hold = true;
    for (name, measured) in [
        ("without guesses", &no_guesses),
        ("guesses as by default", &guesses),
    ] {
        all_hold &= print_quality(name, &measured.quality);
    }
    elsewhere(client, &world, args).await?;
    let path = match &args.picture {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("outlines.svg"),
    };
    picture::draw(&path, &no_guesses, &guesses)?;
    println!("\npicture: {}", path.display());
    Ok(all_hold)
}

/// Prints the figures; whether all hold.
fn print_quality(name: &str, quality: &Quality) -> bool {
    println!(
        "{name}: {} of {} answered point by point, {} points; {} facts due, {} in the plain \
         answers, {} in the outlined ones; {} pairs ended by themselves\n\n{HEAD}",
        quality.outlined,
        quality.questions,
        quality.points,
        quality.due,
        quality.in_plain,
        quality.in_outlined,
        quality.ended,
    );
    let figures = report::figures(quality);
    for figure in &figures {
        println!("{figure}");
    }
    println!();
    figures.iter().all(|figure| figure.holds())
}

/// What `--outline auto` makes of all kinds of questions, for information: how many the rules route
/// to an outline, and what becomes of the answers to these.
async fn elsewhere(client: &Client, world: &World, args: &Args) -> Result<()> {
    println!("## All kinds of questions, plain and with --outline auto, for information\n");
    println!(
        "| kind    | asked | to an outline | answered | by points | facts plain | facts with auto | in both | missing | doubled |\n\
         |---------|------:|--------------:|---------:|----------:|------------:|----------------:|--------:|--------:|--------:|"
    );
    for kind in Kind::ALL {
        let Routed { n_asked, questions } = routed(world, kind, EXAMPLES);
        let mut quality = Quality::default();
        for question in questions.iter().take(OTHERS) {
            let chat = &question.messages;
            let plain = answer::write_as(client, chat, OutlineMode::Off, true).await?;
            let outlined = answer::write_as(client, chat, OutlineMode::Auto, true).await?;
            let one = Quality::of(&question.check, &plain, &outlined);
            if args.misses && !one.is_perfect() {
                show_miss(question, &plain, &outlined);
            }
            quality += one;
        }
        println!(
            "| {:<7} | {n_asked:>5} | {:>13} | {:>8} | {:>9} | {:>11} | {:>15} | {:>7} | {:>7} | {:>7} |",
            format!("{kind:?}"),
            questions.len(),
            quality.questions,
            quality.outlined,
            quality.in_plain,
            quality.in_outlined,
            quality.in_both,
            quality.missing,
            quality.doubled,
        );
    }
    Ok(())
}

fn show_miss(question: &Question, plain: &Answer, outlined: &Answer) {
    eprintln!("> {}", question.text());
    eprintln!("due: {:?}", question.check);
    eprintln!("plain: {}", plain.text);
    eprintln!("outlined: {}", outlined.text);
    if let Some(outline) = &outlined.outline {
        eprintln!("{:?}", Faults::of(outline, &outlined.text));
    }
    eprintln!();
}
