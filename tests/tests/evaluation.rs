//! A small part of the evaluation: that the committed files do what their card says, roughly. The
//! program `evaluation` measures it properly.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jupiter_tests::evaluation::answers::{self, Tally};
use jupiter_tests::evaluation::guesses::Text;
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
    for (kind, grammar) in [
        (Kind::Outline, None),
        (Kind::Expand, None),
        (Kind::Long, None),
        (Kind::Command, None),
        (Kind::Command, Some(command::GRAMMAR)),
        (Kind::Turns, None),
        (Kind::Refuse, None),
    ] {
        let mut misses = Vec::new();
        let tally: Tally =
            answers::judge(&client, &world, kind, N, grammar, &mut |example, answer| {
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
