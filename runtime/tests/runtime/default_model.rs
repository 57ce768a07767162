//! The library without a model named. What the model says is not looked at: it may be trained anew.
use crate::support::{ask, worker};
use futures::StreamExt;
use jupiter::{Error, GenerateOptions, Prompt, RequestError, Runtime, RuntimeBuilder, Settings};

const QUESTION: &str = "What is a lidar?";

/// One thread each, so that nothing but the cut differs.
fn head() -> RuntimeBuilder {
    Runtime::builder().threads(1).parallel(1)
}

async fn answer(runtime: &Runtime) -> String {
    let client = runtime.client();
    let options = GenerateOptions {
        n_predict: Some(64),
        ..client.default_options()
    };
    ask(&client, Prompt::text(QUESTION), options).await.text
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_workers_give_the_text_of_the_whole_model() {
    let alone = head().start().await.unwrap();
    let expected = answer(&alone).await;
    assert!(!expected.trim().is_empty());
    alone.shutdown().await;

    let stages = head().stages(2).start().await.unwrap();
    assert_eq!(answer(&stages).await, expected);
    stages.shutdown().await;

    let cluster = "default-model";
    let runtime = head()
        .cluster(cluster)
        .plan("even")
        .listen(["tcp/127.0.0.1:0"])
        .workers(1);
    let runtime = runtime.start().await.unwrap();
    let mut settings = Settings::default();
    settings.network.cluster = Some(cluster.into());
    settings.network.node = Some("a".into());
    settings.network.connect = runtime.endpoints().to_vec();
    settings.engine.threads = Some(1);
    let worker = worker(settings).await;
    let status = runtime.ready().await.unwrap();
    assert_eq!(status.stages.len(), 2, "{status:?}");
    assert_eq!(answer(&runtime).await, expected);
    worker.shutdown().await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_greedily_and_for_no_more_than_it_was_trained_on() {
    let runtime = head().start().await.unwrap();
    let client = runtime.client();
    assert!(client.is_default_model());
    assert_eq!(client.default_options().sampling.temperature, 0.0);
    let long = Prompt::tokens(vec![1; 4000]);
    let mut stream = client
        .generate(long, client.default_options())
        .await
        .unwrap();
    let refused = stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(refused, Error::Request(RequestError::PromptTooLong { .. })),
        "{refused}"
    );
    runtime.shutdown().await;
}
