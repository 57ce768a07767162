//! A small part of what the program `outlines` measures: that the default model says the same, plain
//! and point by point, and that no point is lost on the way.

use anyhow::Result;
use jupiter::OutlineMode;
use jupiter_tests::evaluation::outlines::answer::{self, Way};
use jupiter_tests::evaluation::outlines::quality::{Faults, Quality};
use jupiter_tests::evaluation::outlines::questions::routed;
use jupiter_tests::evaluation::table::percent;
use jupiter_world::{Kind, World};

/// Questions.
const N: usize = 12;
/// Facts of one sort of answer that the other must have too, in percent: kernels of other machines
/// round otherwise, and one of some thirty facts may be lost by that.
const SAME_PERCENT: f64 = 96.0;
/// Facts due that must be there at all: of some questions the model takes the sense amiss.
const FOUND_PERCENT: f64 = 70.0;
/// What answers about causes have in their first sentence.
const CAUSES: &str = "common causes";
/// Questions of each sort that is to be left alone.
const N_OTHERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn outlined_answers_say_what_plain_ones_do() -> Result<()> {
    let world = World::load()?;
    let runtime = answer::start().await?;
    let client = runtime.client();
    let questions = routed(&world, Kind::Long, 4 * N as u64).questions;
    assert!(questions.len() >= N, "{} questions suit", questions.len());
    for guesses in [false, true] {
        let mut all = Quality::default();
        for question in &questions[..N] {
            let way = |is_outlined| Way {
                is_outlined,
                guesses,
            };
            let plain = answer::write(&client, &question.messages, way(false)).await?;
            let outlined = answer::write(&client, &question.messages, way(true)).await?;
            let what = format!(
                "{}\nplain: {}\noutlined: {}",
                question.text(),
                plain.text,
                outlined.text
            );
            let outline = outlined.outline.as_ref();
            let faults = outline.map(|outline| Faults::of(outline, &outlined.text));
            assert_eq!(faults, Some(Faults::default()), "{what}");
            assert!(
                plain.outline.is_none() && plain.ended && outlined.ended,
                "{what}"
            );
            all += Quality::of(&question.check, &plain, &outlined);
        }
        for (what, of) in [("plain", all.in_plain), ("outlined", all.in_outlined)] {
            let same = percent(all.in_both, of);
            assert!(
                same >= SAME_PERCENT,
                "{same:.1} % of the {what} facts: {all:?}"
            );
            let found = percent(of, all.due);
            assert!(
                found >= FOUND_PERCENT,
                "{what}: {found:.1} % of the facts due: {all:?}"
            );
        }
    }
    runtime.shutdown().await;
    Ok(())
}

/// The rules route many a question to an outline that the model was never taught to write: it would
/// make up points, of comparisons and of what it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_the_model_cannot_outline_the_answer_stays_as_it_is() -> Result<()> {
    let world = World::load()?;
    let (runtime, worker) = answer::start_spread().await?;
    let client = runtime.client();
    for kind in Kind::ALL {
        let questions = routed(&world, kind, 100).questions;
        let mut n_points = 0;
        for question in questions.iter().take(N_OTHERS) {
            let chat = &question.messages;
            let plain = answer::write_as(&client, chat, OutlineMode::Off, false).await?;
            let auto = answer::write_as(&client, chat, OutlineMode::Auto, false).await?;
            let n = auto.outline.map_or(0, |outline| outline.points.len());
            n_points += n;
            let what = format!("{kind:?}: {}", question.text());
            // A question that it takes for one with a long answer has points, too.
            let is_long = kind == Kind::Long || plain.text.contains(CAUSES);
            let is_plain = n == 0 && auto.text == plain.text;
            assert!(is_long || is_plain, "{what}\n{}", auto.text);
        }
        assert!(
            n_points > 0 || kind != Kind::Long,
            "{kind:?}: {n_points} points"
        );
    }
    runtime.shutdown().await;
    worker.shutdown().await;
    Ok(())
}
