//! The library in one process, without any network.
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use crate::support::{PATIENCE, ask, greedy, head, model};
use futures::StreamExt;
use jupiter::{Error, FinishReason, GenerateOptions, Progress, Prompt, RequestError, StreamItem};
use jupiter_models::LayerRange;

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_stages_gives_the_same_text() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let mut answers = Vec::new();
    for split in [vec![6], vec![3, 3], vec![1, 4, 1]] {
        let runtime = head(&model).split(&split).start().await.unwrap();
        let status = runtime.status().await.unwrap();
        let layers: Vec<u32> = status
            .stages
            .iter()
            .map(|stage| stage.layers.len())
            .collect();
        assert_eq!(layers, split);
        let answer = ask(
            &runtime.client(),
            Prompt::text("The sky is blue."),
            greedy(32),
        )
        .await;
        assert_eq!((answer.tokens.len(), answer.done.n_eval), (32, 32));
        assert_eq!(answer.done.reason, FinishReason::Length);
        assert_eq!(answer.done.stages.len(), split.len());
        answers.push((answer.tokens, answer.text));
        runtime.shutdown().await;
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let runtime = head(&model).stages(2).start().await.unwrap();
    let client = runtime.client();
    let prompts = ["one", "two two", "three three three"].map(Prompt::raw);
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(ask(&client, prompt.clone(), greedy(24)).await.tokens);
    }
    let together = prompts.map(|prompt| ask(&client, prompt, greedy(24)));
    for (answer, alone) in futures::future::join_all(together)
        .await
        .into_iter()
        .zip(alone)
    {
        assert_eq!(answer.tokens, alone);
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_frees_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let runtime = head(&model).stages(2).start().await.unwrap();
    let endless = GenerateOptions {
        n_predict: None,
        ..greedy(1)
    };
    let mut stream = runtime
        .client()
        .generate(Prompt::raw("x"), endless)
        .await
        .unwrap();
    assert!(matches!(
        stream.next().await,
        Some(Ok(StreamItem::Token { .. }))
    ));
    assert_eq!(runtime.status().await.unwrap().n_live, 1);
    drop(stream);
    let deadline = Instant::now() + PATIENCE;
    while runtime.status().await.unwrap().n_live > 0 {
        assert!(Instant::now() < deadline, "the request still runs");
        tokio::task::yield_now().await;
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_ends_the_text_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let runtime = head(&model).start().await.unwrap();
    let client = runtime.client();
    let whole = ask(&client, Prompt::raw("Once"), greedy(40)).await.text;
    let middle: Vec<(usize, char)> = whole.char_indices().collect();
    let (from, to) = (middle[middle.len() / 2].0, middle[middle.len() / 2 + 3].0);
    let stop = whole[from..to].to_owned();
    let options = GenerateOptions {
        stop: vec![stop.clone()],
        ..greedy(40)
    };
    let answer = ask(&client, Prompt::raw("Once"), options).await;
    assert_eq!(answer.done.reason, FinishReason::Stop);
    assert_eq!(answer.text, whole[..whole.find(&stop).unwrap()]);
    assert!(answer.done.n_eval <= 40);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_that_cannot_be_answered_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let runtime = head(&model).start().await.unwrap();
    let client = runtime.client();
    for prompt in [
        Prompt::text(""),
        Prompt::raw(""),
        Prompt::chat([]),
        Prompt::tokens([]),
    ] {
        let refused = client.generate(prompt, greedy(1)).await.err().unwrap();
        assert!(
            matches!(refused, Error::Request(RequestError::EmptyPrompt)),
            "{refused}"
        );
    }
    let long = Prompt::tokens(vec![1; 4096]);
    let first = client
        .generate(long, greedy(1))
        .await
        .unwrap()
        .next()
        .await
        .unwrap();
    let refused = first.unwrap_err();
    assert!(
        matches!(refused, Error::Request(RequestError::PromptTooLong { .. })),
        "{refused}"
    );
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_runtime_ends_its_streams_and_clients() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    for wait in [true, false] {
        let runtime = head(&model).stages(2).start().await.unwrap();
        let client = runtime.client();
        let endless = GenerateOptions {
            n_predict: None,
            ..greedy(1)
        };
        let mut stream = client.generate(Prompt::raw("x"), endless).await.unwrap();
        assert!(matches!(
            stream.next().await,
            Some(Ok(StreamItem::Token { .. }))
        ));
        if wait {
            runtime.shutdown().await
        } else {
            drop(runtime)
        }
        let refused = client
            .generate(Prompt::raw("x"), greedy(1))
            .await
            .err()
            .unwrap();
        assert!(matches!(refused, Error::Stopped), "{refused}");
        let last = tokio::time::timeout(PATIENCE, stream.collect::<Vec<_>>())
            .await
            .unwrap()
            .pop();
        assert!(matches!(last, Some(Err(Error::Stopped))), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let garbage = dir.path().join("garbage.gguf");
    std::fs::write(&garbage, b"GGUF and then nothing").unwrap();
    let missing = Path::new("no/such.gguf");
    for (builder, expected) in [
        (head(missing), "no/such.gguf"),
        (head(&garbage), "garbage.gguf"),
        (head(&model).stages(7), "7 stages"),
        (head(&model).split(&[2, 2]), "--split"),
        (head(&model).host_stages(false), "--workers"),
        (head(&model).ctx(0), "ctx_size"),
    ] {
        let error = builder.start().await.err().unwrap().to_string();
        assert!(
            error.contains(expected) && !error.contains('\n'),
            "{expected}: {error}"
        );
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(LayerRange, f32)>>);

impl Progress for Seen {
    fn slicing(&self, _: LayerRange, done: u64, total: u64) {
        assert!(done <= total);
    }

    fn loading(&self, layers: LayerRange, share: f32) {
        self.0.lock().unwrap().push((layers, share));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_tells_of_every_stage() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 1);
    let seen = std::sync::Arc::new(Seen::default());
    let runtime = head(&model)
        .stages(2)
        .progress(seen.clone())
        .start()
        .await
        .unwrap();
    runtime.shutdown().await;
    let loaded = seen.0.lock().unwrap().clone();
    for layers in [LayerRange::new(0, 3), LayerRange::new(3, 6)] {
        assert!(loaded.contains(&(layers, 1.0)), "{loaded:?}");
    }
}
