//! Answers point by point of models that nobody trained for it, which say what a script wants.

use jupiter::{ChatMessage, GenerateOptions, OutlineMode, Prompt, Runtime};
use jupiter_models::synth::{ScriptedSpec, ScriptedTokenizer};

use crate::support::{Answer, ask, greedy, scripted};

/// What the model says where no outline is begun.
const PLAIN: [&str; 4] = ["So", " it", " is", "."];
/// Titles, and what follows each.
const TITLES: [(&str, &str); 6] = [
    (" **", "Lift"),
    ("Lift", "**\n2. **"),
    ("**\n2. **", "Turn"),
    ("Turn", "**\n3. **"),
    ("**\n3. **", "Mount"),
    ("Mount", "**"),
];
/// The text of every point, up to the line of another one.
const POINT: [(&str, &str); 4] = [
    ("**:", " Use"),
    (" Use", " one"),
    (" one", " jack"),
    (" jack", "\n9"),
];

/// A model with these followers beside those of the outline; the last of a token counts.
fn spec(more: &[(&str, &str)]) -> ScriptedSpec {
    let end = [("**", "<|im_end|>")];
    let all = TITLES.iter().chain(&POINT).chain(&end).chain(more);
    ScriptedSpec {
        transitions: all.map(|&(a, b)| (a.to_owned(), b.to_owned())).collect(),
        ..ScriptedSpec::saying(&PLAIN)
    }
}

async fn answer(spec: &ScriptedSpec, n_predict: Option<u32>) -> Answer {
    let (_dir, runtime) = scripted(spec, 2).await;
    let answer = asked(&runtime, OutlineMode::On, n_predict).await;
    runtime.shutdown().await;
    answer
}

async fn asked(runtime: &Runtime, mode: OutlineMode, n_predict: Option<u32>) -> Answer {
    let options = GenerateOptions {
        outline: Some(mode),
        ignore_eos: false,
        n_predict,
        ..greedy(1)
    };
    let chat = [ChatMessage::user("How do I change the wheel?")];
    ask(&runtime.client(), Prompt::chat(chat), options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_begun_and_its_points_go_on() {
    for tokenizer in [ScriptedTokenizer::Bpe, ScriptedTokenizer::Spm] {
        let spec = ScriptedSpec {
            tokenizer,
            ..spec(&[])
        };
        let answer = answer(&spec, None).await;
        let text = "1. Lift: Use one jack.\n2. Turn: Use one jack.\n3. Mount: Use one jack.";
        assert_eq!(answer.text, text);
        let done = answer.done;
        assert_eq!(done.outline.unwrap().n_points, 3);
        // The conversation was computed once, for the outline.
        let n_new = done.n_prompt - done.n_cached;
        assert!(n_new < done.n_cached + 32, "{n_new}, {}", done.n_cached);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_outline_becomes_the_plain_answer() {
    let thinks = ScriptedSpec {
        chat_template: spec(&[])
            .chat_template
            .map(|template| template + "{% if add_generation_prompt %}<think>\n{% endif %}"),
        ..spec(&[])
    };
    for (what, spec, n_predict) in [
        (
            "sentences",
            spec(&[("Lift", " and"), (" and", " and")]),
            None,
        ),
        ("has 1 points of at least 3", spec(&[("Lift", "**")]), None),
        (
            "has 2 points of at least 3",
            spec(&[("**\n3. **", "turn"), ("turn", "**")]),
            None,
        ),
        ("begins with a thought", thinks, None),
        ("few tokens are wanted", spec(&[]), Some(100)),
    ] {
        let answer = answer(&spec, n_predict).await;
        assert_eq!(answer.text, PLAIN.concat(), "{what}");
        let usage = answer.done.outline.unwrap();
        assert!(usage.reason.contains(what), "{}", usage.reason);
        assert_eq!(usage.n_points, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_repeats_itself_is_cut() {
    let repeats = spec(&[(" jack", "."), (".", " Use")]);
    let answer = answer(&repeats, None).await;
    let first = answer.text.lines().next().unwrap();
    assert_eq!(first, "1. Lift: Use one jack.");
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_waits_for_trials_of_the_model_and_heeds_them() {
    // A model of this moment, of which the cache folder knows nothing.
    let now = format!("{:?}", std::time::SystemTime::now());
    let (_dir, runtime) = scripted(&spec(&[(&now, "So")]), 2).await;
    let unknown = asked(&runtime, OutlineMode::Auto, None).await;
    assert_eq!(unknown.text, PLAIN.concat());
    let reason = unknown.done.outline.unwrap().reason;
    assert!(reason.contains("not known yet"), "{reason}");
    runtime.try_outlines().await.unwrap();
    let known = asked(&runtime, OutlineMode::Auto, None).await;
    assert_eq!(known.text, PLAIN.concat());
    let reason = known.done.outline.unwrap().reason;
    assert!(reason.contains("did not write whole points"), "{reason}");
    runtime.shutdown().await;
}
