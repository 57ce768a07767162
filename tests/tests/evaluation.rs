//! A small part of the evaluation: that the committed files do what their card says, roughly. The
//! program `evaluation` measures it properly.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jupiter::{GenerateOptions, Runtime};
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::ChatMessage;
use jupiter_tests::evaluation::answers::{self, Tally};
use jupiter_tests::evaluation::guesses::Text;
use jupiter_tests::evaluation::people;
use jupiter_tests::evaluation::table::percent;
use jupiter_world::{Kind, World, command};

/// Answers of each kind.
const N: u64 = 24;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models/default")
        .join(name)
}

/// Asserts that `part` of `whole` is at least `limit` percent, and says which answers were wrong.
fn assert_at_least(what: &str, part: u32, whole: u32, limit: f64, misses: &[String]) {
    let got = percent(part, whole);
    assert!(
        got >= limit,
        "{what}: {got:.1} % of {whole}, not {limit}:\n{}",
        misses.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn held_out_questions_are_answered_in_two_stages() -> Result<()> {
    let world = World::load()?;
    let runtime = answers::start(&file("robot-q8_0.gguf")).await?;
    let client = runtime.client();
    for kind in [
        Kind::Outline,
        Kind::Expand,
        Kind::Long,
        Kind::Command,
        Kind::Turns,
        Kind::Refuse,
        Kind::Unknown,
    ] {
        let mut misses = Vec::new();
        let tally: Tally = answers::judge(&client, &world, kind, N, &mut |example, answer| {
            let question = example.turns.last().map_or("", |turn| &turn.user);
            misses.push(format!("> {question}\n{answer}"));
        })
        .await?;
        let name = format!("{kind:?}");
        assert_at_least(
            &format!("{name}: form"),
            tally.valid,
            tally.answers,
            95.0,
            &misses,
        );
        assert_at_least(
            &format!("{name}: ended"),
            tally.ended,
            tally.answers,
            95.0,
            &misses,
        );
        assert_at_least(
            &format!("{name}: found"),
            tally.found,
            tally.due,
            80.0,
            &misses,
        );
    }
    runtime.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_in_peoples_own_words_are_answered_and_hardly_ever_by_a_command() -> Result<()> {
    let world = World::load()?;
    let questions = people::read(&file("../world/questions.tsv"))?;
    let runtime = Runtime::builder().stages(2).parallel(8).ctx(8192);
    let runtime = runtime.start().await?;
    let marks = people::judge(&runtime.client(), &world, &questions).await?;
    runtime.shutdown().await;
    let misses: Vec<String> = marks
        .misses
        .iter()
        .map(|(question, answer)| format!("> {question}\n{answer}"))
        .collect();
    assert_at_least("right", marks.right, marks.asked, 70.0, &misses);
    let share = percent(marks.false_commands, marks.asked);
    assert!(share <= 2.0, "{share} %: {misses:#?}");
    Ok(())
}

/// At a temperature at which the model says anything.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_drawn_what_begins_as_a_command_is_one() -> Result<()> {
    let runtime = Runtime::builder().stages(2).start().await?;
    let client = runtime.client();
    let mut n_commands = 0;
    for seed in 0..24 {
        let options = GenerateOptions {
            sampling: SamplingParams {
                temperature: 3.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                seed,
                ..SamplingParams::default()
            },
            ..GenerateOptions::default()
        };
        let chat = vec![ChatMessage::user("go to the kitchen and wait ten seconds")];
        let (answer, _) = answers::answer(&client, chat, options).await?;
        if answer.starts_with('{') {
            command::parse(&answer).with_context(|| answer.clone())?;
            n_commands += 1;
        }
    }
    runtime.shutdown().await;
    assert!(n_commands > 0);
    Ok(())
}

#[test]
fn the_draft_model_and_the_heads_guess_what_the_model_says() -> Result<()> {
    let world = World::load()?;
    let model = file("robot-q8_0.gguf");
    let text = Text::new(&world, &model, N)?;
    let opinion = text.opinion(&model)?;
    let draft = text.opinion(&file("robot-draft-q8_0.gguf"))?;
    let same = opinion.best.iter().zip(&draft.best).filter(|(a, b)| a == b);
    let all = opinion.best.len() as u32;
    assert_at_least("draft", same.count() as u32, all, 60.0, &[]);
    let hits = text.head_hits(&model, &file("robot-medusa-q8_0.gguf"))?;
    assert!(hits.len() >= 4, "{} heads", hits.len());
    assert_at_least("first head", hits[0].right, hits[0].all, 60.0, &[]);
    Ok(())
}
