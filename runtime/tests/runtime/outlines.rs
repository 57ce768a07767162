//! Answers that are written point by point, by the default model. What it says is not looked at: it
//! may be trained anew.

use std::time::Instant;

use futures::StreamExt;
use jupiter::config::DraftSetting;
use jupiter::outline::{BranchEvent, Outline};
use jupiter::{
    ChatMessage, Client, Completion, GenerateOptions, OutlineMode, Prompt, Runtime, RuntimeBuilder,
    Settings, StreamItem, TokenStream,
};

use crate::support::{PATIENCE, collect, worker_process};

const HOW_TO: &str = "How do I change the battery?";

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.engine.threads = Some(1);
    settings.engine.parallel = Some(1);
    // Steps of other shapes round differently: texts are compared here.
    settings.speculation.speculative = Some(DraftSetting::None);
    settings
}

fn builder(settings: Settings) -> RuntimeBuilder {
    Runtime::builder().settings(settings)
}

async fn start(settings: Settings) -> Runtime {
    builder(settings).stages(2).start().await.unwrap()
}

fn options(client: &Client, outline: Option<OutlineMode>) -> GenerateOptions {
    GenerateOptions {
        outline,
        ..client.default_options()
    }
}

async fn ask(client: &Client, question: &str, outline: Option<OutlineMode>) -> TokenStream {
    let options = options(client, outline);
    client
        .generate(Prompt::text(question), options)
        .await
        .unwrap()
}

/// All that comes of an answer.
#[derive(Debug, Default)]
struct Outlined {
    /// What was shown of the outline, as it grew.
    sketches: Vec<Outline>,
    /// All points.
    outline: Option<Outline>,
    /// Text and number of ends of each.
    branches: Vec<(String, usize)>,
    text: String,
    done: Option<Completion>,
}

async fn read(mut stream: TokenStream) -> Outlined {
    let mut seen = Outlined::default();
    while let Some(item) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
        match item.unwrap() {
            StreamItem::Token { text, .. } => seen.text.push_str(&text),
            StreamItem::Thought { text, .. } => panic!("a thought: {text}"),
            StreamItem::Outline {
                outline,
                is_complete,
            } => {
                let n_points = outline.points.len();
                seen.branches.resize(n_points, Default::default());
                match is_complete {
                    true => seen.outline = Some(outline),
                    false => seen.sketches.push(outline),
                }
            }
            StreamItem::Branch(BranchEvent::Text { branch, text }) => {
                seen.branches[branch].0.push_str(&text);
            }
            StreamItem::Branch(BranchEvent::End { branch, .. }) => seen.branches[branch].1 += 1,
            StreamItem::Done(done) => seen.done = Some(done),
        }
    }
    seen
}

/// The answer as its points have to make it.
fn joined(seen: &Outlined) -> String {
    let points = &seen.outline.as_ref().unwrap().points;
    let mut lines = Vec::new();
    for (i, (point, (text, _))) in points.iter().zip(&seen.branches).enumerate() {
        lines.push(format!("{}. {}: {text}", i + 1, point.title));
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_written_point_by_point_and_read_in_order() {
    let runtime = start(settings()).await;
    let client = runtime.client();
    let seen = read(ask(&client, HOW_TO, Some(OutlineMode::On)).await).await;
    let outline = seen.outline.as_ref().unwrap();
    assert!(outline.points.len() >= 3, "{seen:?}");
    let is_beginning = |sketch: &Outline| outline.points.starts_with(&sketch.points);
    assert!(!seen.sketches.is_empty() && seen.sketches.iter().all(is_beginning));
    assert!(
        seen.branches
            .iter()
            .all(|(text, n_ends)| !text.is_empty() && *n_ends == 1)
    );
    assert_eq!(seen.text, joined(&seen));
    let done = seen.done.unwrap();
    let usage = done.outline.unwrap();
    assert_eq!(usage.n_points as usize, outline.points.len());
    assert_eq!(usage.class, "how-to");
    assert!(usage.reason.contains("how do i"), "{}", usage.reason);
    // The outline's cells are those of the points: hardly more than each point's turn is new.
    let n_new = done.n_prompt - done.n_cached;
    assert!(
        done.n_cached > 30 && n_new < 40 + 16 * usage.n_points,
        "{n_new}"
    );
    // Written again it is the same. By itself a runtime of one process does not: there the default
    // model is faster in one piece.
    let again = read(ask(&client, HOW_TO, Some(OutlineMode::On)).await).await;
    assert_eq!(again.text, seen.text);
    let auto = read(ask(&client, HOW_TO, None).await).await;
    let usage = auto.done.unwrap().outline.unwrap();
    assert!(
        usage.n_points == 0 && usage.reason.contains("in one process"),
        "{usage:?}"
    );
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_do_not_suit_are_answered_in_one_piece() {
    let runtime = start(settings()).await;
    let client = runtime.client();
    let of = |options: GenerateOptions| {
        let client = client.clone();
        async move {
            let stream = client
                .generate(Prompt::text(HOW_TO), options)
                .await
                .unwrap();
            collect(stream).await.done.outline
        }
    };
    let fact = read(ask(&client, "How heavy is the robot?", None).await).await;
    assert_eq!(fact.done.unwrap().outline.unwrap().n_points, 0);
    let options = || options(&client, None);
    let few = of(GenerateOptions {
        n_predict: Some(20),
        ..options()
    });
    assert!(few.await.unwrap().reason.contains("few tokens"));
    let mut with_grammar = options();
    with_grammar.sampling.grammar = Some("root ::= \"yes\"".into());
    assert!(of(with_grammar).await.unwrap().reason.contains("grammar"));
    let stops = of(GenerateOptions {
        stop: vec!["\n".into()],
        ..options()
    });
    assert!(stops.await.unwrap().reason.contains("stop"));
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(ask(&client, "What is a lidar?", Some(OutlineMode::Off)).await);
    }
    let busy = of(options()).await.unwrap().reason;
    assert!(busy.contains("others"), "{busy}");
    drop(others);
    let stream = client
        .generate(Prompt::raw(HOW_TO), options())
        .await
        .unwrap();
    assert_eq!(collect(stream).await.done.outline, None);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_only_in_one_piece_is_answered_so() {
    let mut settings = settings();
    settings.engine.ctx_size = Some(256);
    let runtime = start(settings).await;
    let client = runtime.client();
    let words = "the battery and the lidar and ".repeat(40);
    for n_words in (30..110).step_by(4) {
        let some: Vec<&str> = words.split(' ').take(n_words).collect();
        let question = format!("How do I change {} now?", some.join(" "));
        let seen = read(ask(&client, &question, Some(OutlineMode::On)).await).await;
        assert!(seen.done.is_some(), "{question}");
        if let Some(outline) = &seen.outline {
            assert!(seen.branches.len() == outline.points.len());
        }
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_of_an_outline_serves_its_points_whoever_waits() {
    let runtime = start(settings()).await;
    let client = runtime.client();
    let alone = read(ask(&client, HOW_TO, Some(OutlineMode::On)).await).await;
    // Without leave to keep cells, and with others who want the only slot.
    let options = GenerateOptions {
        cache_prompt: false,
        ..options(&client, Some(OutlineMode::On))
    };
    let stream = client
        .generate(Prompt::text(HOW_TO), options)
        .await
        .unwrap();
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(ask(&client, "What is a lidar?", Some(OutlineMode::Off)).await);
    }
    let seen = read(stream).await;
    assert_eq!(seen.text, alone.text);
    let (done, usage) = (seen.done.unwrap(), seen.outline.unwrap());
    let n_new = done.n_prompt - done.n_cached;
    assert!(
        n_new < 40 + 16 * usage.points.len() as u32,
        "{n_new} of {}",
        done.n_prompt
    );
    for other in others {
        assert!(!read(other).await.text.is_empty());
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_begun_plainly_and_is_short_goes_on_so() {
    let runtime = builder(settings())
        .cluster("begun-plainly")
        .listen(["tcp/127.0.0.1:0"])
        .workers(1)
        .plan("even")
        .start()
        .await
        .unwrap();
    let mut worker = Settings::default();
    worker.network.cluster = Some("begun-plainly".into());
    worker.network.connect = runtime.endpoints().to_vec();
    let worker = worker_process(&worker);
    runtime.ready().await.unwrap();
    let client = runtime.client();
    // By its words it suits; the answer is short.
    let question = "Why do we need the emergency stop?";
    let plain = read(ask(&client, question, Some(OutlineMode::Off)).await).await;
    let auto = read(ask(&client, question, None).await).await;
    assert_eq!(auto.text, plain.text);
    let (auto, plain) = (auto.done.unwrap(), plain.done.unwrap());
    assert_eq!(auto.n_eval, plain.n_eval);
    assert!(auto.prompt_ms > 0.0, "{auto:?}");
    let long = read(ask(&client, HOW_TO, None).await).await;
    assert!(long.done.unwrap().outline.unwrap().n_points >= 3);
    runtime.shutdown().await;
    let mut worker = worker;
    drop(worker.stdin.take());
    assert!(worker.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_model_remembers_points_as_the_text_that_it_knows() {
    let runtime = start(settings()).await;
    let client = runtime.client();
    let points = "1. Park it: Park the robot.\n2. Open it: Open the door.\n3. Close it: Close it.";
    let piece = "Park the robot. Open the door. Close it.";
    let mut answers = Vec::new();
    for said in [points, piece] {
        let chat = [
            ChatMessage::user(HOW_TO),
            ChatMessage::assistant(said),
            ChatMessage::user("What is a lidar?"),
        ];
        let off = options(&client, Some(OutlineMode::Off));
        let stream = client.generate(Prompt::chat(chat), off).await.unwrap();
        answers.push(collect(stream).await);
    }
    assert_eq!(answers[0].done.n_prompt, answers[1].done.n_prompt);
    assert_eq!(answers[0].text, answers[1].text);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_has_its_budget_and_none_is_missing() {
    let mut settings = settings();
    settings.outline.point_tokens = Some(2);
    let runtime = start(settings).await;
    let client = runtime.client();
    let seen = read(ask(&client, HOW_TO, Some(OutlineMode::On)).await).await;
    let points = &seen.outline.as_ref().unwrap().points;
    for (i, point) in points.iter().enumerate() {
        let opening = format!("{}. {}", i + 1, point.title);
        let n = seen
            .text
            .lines()
            .filter(|line| line.starts_with(&opening))
            .count();
        assert_eq!(n, 1, "{opening} in {}", seen.text);
    }
    assert!(seen.branches.iter().all(|(_, n_ends)| *n_ends == 1));
    assert!(seen.text.contains('…'), "cut: {}", seen.text);
    // All tokens together, when so many are wanted.
    let options = GenerateOptions {
        n_predict: Some(140),
        ..options(&client, Some(OutlineMode::On))
    };
    for outline in [Some(OutlineMode::On), None] {
        let options = GenerateOptions {
            outline,
            ..options.clone()
        };
        let stream = client.generate(Prompt::text(HOW_TO), options).await;
        let done = collect(stream.unwrap()).await.done;
        assert!(done.n_eval <= 140 && done.prompt_ms > 0.0, "{done:?}");
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_frees_all_branches() {
    let runtime = start(settings()).await;
    let client = runtime.client();
    for n_seen in [0, 1, 5] {
        let mut stream = ask(&client, HOW_TO, Some(OutlineMode::On)).await;
        let mut n_branches = 0;
        while n_branches < n_seen {
            if let StreamItem::Branch(_) = stream.next().await.unwrap().unwrap() {
                n_branches += 1;
            }
        }
        drop(stream);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = runtime.status().await.unwrap();
            if (status.n_live, status.n_waiting) == (0, 0) {
                break;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            tokio::task::yield_now().await;
        }
    }
    let seen = read(ask(&client, HOW_TO, Some(OutlineMode::On)).await).await;
    assert_eq!(seen.text, joined(&seen));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_costs_no_point() {
    let alone = start(settings()).await;
    let expected = read(ask(&alone.client(), HOW_TO, Some(OutlineMode::On)).await)
        .await
        .text;
    alone.shutdown().await;

    let cluster = "outlined";
    let mut settings = settings();
    settings.network.cluster = Some(cluster.into());
    settings.network.listen = vec!["tcp/127.0.0.1:0".into()];
    settings.placement.plan = Some("even".into());
    settings.cluster.workers = Some(2);
    settings.cluster.host_stages = Some(false);
    let runtime = builder(settings).start().await.unwrap();
    let worker = |node: &str| {
        let mut settings = Settings::default();
        settings.network.cluster = Some(cluster.into());
        settings.network.node = Some(node.into());
        settings.network.connect = runtime.endpoints().to_vec();
        settings.engine.threads = Some(1);
        settings
    };
    let [mut a, mut b] = ["a", "b"].map(|node| worker_process(&worker(node)));
    runtime.ready().await.unwrap();
    let mut stream = ask(&runtime.client(), HOW_TO, Some(OutlineMode::On)).await;
    let mut text = String::new();
    loop {
        match stream.next().await.unwrap().unwrap() {
            StreamItem::Branch(_) => break,
            StreamItem::Token { text: part, .. } => text.push_str(&part),
            StreamItem::Thought { .. } | StreamItem::Outline { .. } => {}
            StreamItem::Done(done) => panic!("it ended too soon: {done:?}"),
        }
    }
    b.kill().unwrap();
    b.wait().unwrap();
    let rest = tokio::time::timeout(PATIENCE, collect(stream))
        .await
        .unwrap();
    text.push_str(&rest.text);
    assert_eq!(text, expected);
    runtime.shutdown().await;
    drop(a.stdin.take());
    assert!(a.wait().unwrap().success());
}
