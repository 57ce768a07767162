//! Judges the default model, its draft model and its Medusa heads, and prints a table.
//!
//! ```sh
//! cargo run --release --bin evaluation                    # the files of this checkout
//! cargo run --release --bin evaluation -- --misses 20     # with answers that were not perfect
//! ```
//!
//! Ends with 1 when a figure is missed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use jupiter::DraftChoice;
use jupiter_tests::evaluation::answers::{self, Tally};
use jupiter_tests::evaluation::guesses::{HeadHits, Text};
use jupiter_tests::evaluation::people::{self, Marks, Question};
use jupiter_tests::evaluation::speculation;
use jupiter_tests::evaluation::table::{Figure, HEAD, Limit, percent};
use jupiter_world::{Example, Kind, World};

/// Answers that tokens a step are counted over.
const MOST_SPECULATED: u64 = 60;

/// Judges the default model on phrasings and combinations that it was never trained on.
#[derive(Parser)]
struct Args {
    /// Folder of the files
    #[arg(long, value_name = "DIR", default_value = "models/default")]
    files: PathBuf,
    /// The trained weights in F32, to compare the perplexity of the quantized file with
    /// (`jupiter-training export --f32`)
    #[arg(long, value_name = "FILE")]
    trained: Option<PathBuf>,
    /// Held-out examples of each kind
    #[arg(short, default_value_t = 400)]
    n: u64,
    /// Questions in people's own words, a line each: the question, the kinds of answer that are right
    /// (answer, unknown, refuse, talk, command, with | between), and a regular expression for what a right
    /// answer holds, with tabs between
    #[arg(
        long,
        value_name = "FILE",
        default_value = "models/world/questions.tsv"
    )]
    questions: PathBuf,
    /// Show so many answers of each kind that were not perfect
    #[arg(long, default_value_t = 0)]
    misses: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let questions = people::read(&args.questions)?;
    let world = World::load()?;
    println!("{HEAD}");
    let mut all_hold = written(&world, &args, &questions).await?;
    all_hold &= guessed(&world, &args)?;
    all_hold &= steps(&world, &args).await?;
    Ok(ExitCode::from(u8::from(!all_hold)))
}

/// Prints a figure; says whether it holds.
fn print(name: &'static str, value: f64, limit: Limit) -> bool {
    let figure = Figure { name, value, limit };
    println!("{figure}");
    figure.holds()
}

/// What the model writes.
async fn written(world: &World, args: &Args, questions: &[Question]) -> Result<bool> {
    let runtime = answers::start(&args.files.join("robot-q8_0.gguf")).await?;
    let client = runtime.client();
    let mut ended = (0, 0);
    let mut all_hold = true;
    for kind in Kind::ALL {
        let tally = judged(&client, world, kind, args).await?;
        all_hold &= figures(kind, &tally);
        ended = (ended.0 + tally.ended, ended.1 + tally.answers);
    }
    let marks = people::judge(&client, world, questions).await?;
    runtime.shutdown().await;
    all_hold &= in_own_words(&marks);
    let name = "answers that end by themselves";
    Ok(print(name, percent(ended.0, ended.1), Limit::AtLeast(99.0)) & all_hold)
}

/// The figures of questions in people's own words, and what went wrong; whether all hold.
fn in_own_words(marks: &Marks) -> bool {
    for (question, answer) in &marks.misses {
        eprintln!("> {question}\n  {answer}");
    }
    let (right, false_commands) = (marks.right, marks.false_commands);
    let name = "people's own words: right";
    print(name, percent(right, marks.asked), Limit::None)
        & print(
            "people's own words: a command for a question",
            percent(false_commands, marks.asked),
            Limit::AtMost(0.0),
        )
}

async fn judged(client: &jupiter::Client, world: &World, kind: Kind, args: &Args) -> Result<Tally> {
    let mut shown = 0;
    let mut on_miss = |example: &Example, answer: &str| {
        shown += 1;
        if shown <= args.misses {
            for turn in &example.turns {
                eprintln!("> {}\n  {}", turn.user, turn.assistant);
            }
            eprintln!("{kind:?} got: {answer}\n");
        }
    };
    answers::judge(client, world, kind, args.n, &mut on_miss).await
}

/// The figures of one kind of answers; whether all hold.
fn figures(kind: Kind, tally: &Tally) -> bool {
    let of_answers = |part| percent(part, tally.answers);
    let found = percent(tally.found, tally.due);
    let at_least = Limit::AtLeast;
    match kind {
        Kind::Outline => {
            let name = "outlines: valid numbered list";
            print(name, of_answers(tally.valid), at_least(99.0))
                & print("outlines: the right points", found, at_least(95.0))
        }
        Kind::Expand => {
            let foreign = of_answers(tally.with_foreign);
            print("expansions: on the asked point", found, at_least(95.0))
                & print(
                    "expansions: a fact of another point",
                    foreign,
                    Limit::AtMost(3.0),
                )
        }
        Kind::Command => {
            let name = "commands: parse without the grammar";
            print(name, of_answers(tally.valid), at_least(99.0))
                & print(
                    "commands: exact match",
                    of_answers(tally.perfect),
                    at_least(97.0),
                )
        }
        Kind::Long => print("long answers: facts due", found, at_least(90.0)),
        Kind::Define => print("definitions: right", found, Limit::None),
        Kind::Purpose => print("purposes: right", found, Limit::None),
        Kind::Fact => print("short facts: right", found, Limit::None),
        Kind::Compare => print("comparisons: facts due", found, Limit::None),
        Kind::Points => print("point after point: on the asked one", found, Limit::None),
        Kind::Turns => print("several turns: facts due in the last", found, Limit::None),
        Kind::Refuse => print("questions from outside: refused", found, Limit::None),
        Kind::Unknown => print("unknown of a subject: said so", found, Limit::None),
        Kind::Ability => {
            let commands = of_answers(tally.commands);
            let limit = Limit::AtMost(0.0);
            print("questions about commands: right", found, Limit::None)
                & print("questions about commands: a command", commands, limit)
        }
        Kind::Talk => print("small talk: right", found, Limit::None),
    }
}

/// What the model, its draft model and its heads guess at each token of the right answers.
fn guessed(world: &World, args: &Args) -> Result<bool> {
    let model = args.files.join("robot-q8_0.gguf");
    let text = Text::new(world, &model, args.n)?;
    let opinion = text.opinion(&model)?;
    let mut all_hold = print(
        "perplexity of the right answers",
        opinion.perplexity(),
        Limit::None,
    );
    if let Some(trained) = &args.trained {
        let reference = text.opinion(trained)?.perplexity();
        let more = 100.0 * (opinion.perplexity() / reference - 1.0).abs();
        let name = "perplexity: away from the trained weights'";
        all_hold &= print(name, more, Limit::AtMost(1.0));
    }
    let draft = text.opinion(&args.files.join("robot-draft-q8_0.gguf"))?;
    let same = opinion.best.iter().zip(&draft.best).filter(|(a, b)| a == b);
    let agreement = percent(same.count() as u32, opinion.best.len() as u32);
    let name = "draft model: agrees with the model's argmax";
    all_hold &= print(name, agreement, Limit::AtLeast(60.0));
    let hits = text.head_hits(&model, &args.files.join("robot-medusa-q8_0.gguf"))?;
    all_hold &= heads(&hits);
    let share = size(&args.files.join("robot-draft-q8_0.gguf"))? / size(&model)?;
    Ok(print(
        "draft model: size of the model's",
        100.0 * share,
        Limit::AtMost(16.0),
    ) & all_hold)
}

/// Tokens that a step brings with guesses.
async fn steps(world: &World, args: &Args) -> Result<bool> {
    let runtime = speculation::start(&args.files).await?;
    let client = runtime.client();
    let n = args.n.min(MOST_SPECULATED);
    let medusa = speculation::long_answers(&client, world, DraftChoice::Medusa, n).await?;
    let draft = speculation::long_answers(&client, world, DraftChoice::Model, n).await?;
    let repeated = speculation::repetitions(&client, world, n).await?;
    runtime.shutdown().await;
    let enough = Limit::AtLeast(2.0);
    // Either is enough; which brings more depends on what heads and draft model take here.
    let name = "tokens a step, long answers, Medusa";
    print(name, medusa, Limit::None);
    Ok(
        print("tokens a step, long answers, draft model", draft, enough)
            & print(
                "tokens a step, repeating the prompt, n-grams",
                repeated,
                Limit::AtLeast(2.5),
            ),
    )
}

fn heads(hits: &[HeadHits]) -> bool {
    const NAMES: [&str; 5] = [
        "Medusa head 1: right",
        "Medusa head 2: right",
        "Medusa head 3: right",
        "Medusa head 4: right",
        "Medusa head 5: right",
    ];
    let limits = std::iter::once(Limit::AtLeast(60.0)).chain(std::iter::repeat(Limit::None));
    let mut all_hold = true;
    for ((name, hits), limit) in NAMES.into_iter().zip(hits).zip(limits) {
        all_hold &= print(name, percent(hits.right, hits.all), limit);
    }
    all_hold
}

fn size(path: &Path) -> Result<f64> {
    Ok(std::fs::metadata(path)?.len() as f64)
}
