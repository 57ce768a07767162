//! Answers point by point of models that nobody trained for it, which say what a script wants.

use futures::StreamExt;
use jupiter::{
    ChatMessage, GenerateOptions, OutlineMode, Prompt, Runtime, StreamItem, TokenStream,
};
use jupiter_models::synth::{ScriptedSpec, ScriptedTokenizer};

use crate::support::{Answer, PATIENCE, collect, greedy, scripted};

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
    let stream = begun(runtime, mode, n_predict).await;
    tokio::time::timeout(PATIENCE, collect(stream))
        .await
        .unwrap()
}

async fn begun(runtime: &Runtime, mode: OutlineMode, n_predict: Option<u32>) -> TokenStream {
    let options = GenerateOptions {
        outline: Some(mode),
        ignore_eos: false,
        n_predict,
        ..greedy(1)
    };
    let chat = Prompt::chat([ChatMessage::user("How do I change the wheel?")]);
    runtime.client().generate(chat, options).await.unwrap()
}

/// The followers of an outline of ten titles of six words.
fn long_titles() -> Vec<(String, String)> {
    let mut followers = Vec::new();
    let mut last = " **".to_owned();
    for n in 1..=10 {
        for word in 0..6 {
            let space = if word > 0 { " " } else { "" };
            let next = format!("{space}word{n}{}", ["a", "b", "c", "d", "e", "f"][word]);
            followers.push((last, next.clone()));
            last = next;
        }
        let end = match n {
            10 => "**".to_owned(),
            n => format!("**\n{}. **", n + 1),
        };
        followers.push((last, end.clone()));
        last = end;
    }
    followers
}

#[tokio::test(flavor = "multi_thread")]
async fn points_go_on_while_the_outline_is_written() {
    let titles = long_titles();
    let titles: Vec<(&str, &str)> = titles.iter().map(|(a, b)| (&**a, &**b)).collect();
    let (_dir, runtime) = scripted(&spec(&titles), 2).await;
    for n_predict in [None, Some(600)] {
        let mut stream = begun(&runtime, OutlineMode::On, n_predict).await;
        let (mut n_known, mut n_points) = (0, None);
        let mut text = String::new();
        while let Some(item) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
            match item.unwrap() {
                StreamItem::Outline { outline, .. } => n_known = outline.points.len(),
                StreamItem::Branch(_) => _ = n_points.get_or_insert(n_known),
                StreamItem::Token { text: more, .. } => text += &more,
                StreamItem::Thought { text, .. } => panic!("a thought: {text}"),
                StreamItem::Done(done) => assert_eq!(done.outline.unwrap().n_points, 10),
            }
        }
        let n_points = n_points.unwrap();
        assert!((3..10).contains(&n_points), "{n_points} were known");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10, "{text}");
        let are_whole = lines.iter().all(|line| line.ends_with("f: Use one jack."));
        assert!(are_whole, "{text}");
    }
    runtime.shutdown().await;
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
        // A thought that does not end is no answer.
        let expected = match what {
            "begins with a thought" => String::new(),
            _ => PLAIN.concat(),
        };
        assert_eq!(answer.text, expected, "{what}");
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
