//! A head and workers over zenoh on loopback.
use std::time::{Duration, Instant};

use crate::support::{
    PATIENCE, ask, collect, greedy, head, model, networked_head, worker, worker_process,
    worker_settings,
};
use futures::StreamExt;
use jupiter::net::session::{self, Endpoints};
use jupiter::{ClusterPhase, Config, Prompt, Runtime, StreamItem, Worker};

/// Waits until the cluster is as wanted.
pub(crate) async fn wait_for(
    runtime: &Runtime,
    wanted: impl Fn(&jupiter::ClusterStatus) -> bool,
) -> Duration {
    let start = Instant::now();
    loop {
        let status = runtime.status().await.unwrap();
        if wanted(&status) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "still {status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_give_the_same_text_as_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 2);
    let alone = head(&model).start().await.unwrap();
    let expected = ask(&alone.client(), Prompt::text("Hello"), greedy(32)).await;
    alone.shutdown().await;

    let runtime = networked_head(&model, "same", 2).await;
    let connect = runtime.endpoints()[0].clone();
    let a = worker(worker_settings(&model, "same", "a", &connect)).await;
    let b = worker(worker_settings(&model, "same", "b", &connect)).await;
    let status = runtime.ready().await.unwrap();
    let nodes: Vec<&str> = status
        .stages
        .iter()
        .map(|stage| stage.node.0.as_str())
        .collect();
    assert_eq!(nodes, ["a", "b"]);
    let answer = ask(&runtime.client(), Prompt::text("Hello"), greedy(32)).await;
    assert_eq!(answer.tokens, expected.tokens);
    a.shutdown().await;
    b.shutdown().await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_noticed_and_its_return_too_and_the_text_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 3);
    let alone = head(&model).start().await.unwrap();
    let expected = ask(&alone.client(), Prompt::raw("Hello"), greedy(400)).await;
    alone.shutdown().await;

    let runtime = networked_head(&model, "killed", 2).await;
    let connect = runtime.endpoints()[0].clone();
    let settings = ["a", "b"].map(|node| worker_settings(&model, "killed", node, &connect));
    let [mut a, mut b] = settings.each_ref().map(worker_process);
    runtime.ready().await.unwrap();
    let mut stream = runtime
        .client()
        .generate(Prompt::raw("Hello"), greedy(400))
        .await
        .unwrap();
    let first = stream.next().await.unwrap().unwrap();
    b.kill().unwrap();
    b.wait().unwrap();
    let noticed = wait_for(&runtime, |status| status.nodes.len() == 1).await;
    assert!(
        noticed < Duration::from_secs(3),
        "noticed after {noticed:?}"
    );
    let mut b = worker_process(&settings[1]);
    let rest = tokio::time::timeout(PATIENCE, collect(stream))
        .await
        .unwrap();
    let StreamItem::Token { id, .. } = first else {
        panic!("{first:?}")
    };
    let tokens: Vec<_> = id.into_iter().chain(rest.tokens).collect();
    assert_eq!(tokens, expected.tokens);
    assert!(
        rest.done.n_replays > 0,
        "the worker was killed too late for this test"
    );
    wait_for(&runtime, |status| status.nodes.len() == 2).await;
    runtime.shutdown().await;
    for process in [&mut a, &mut b] {
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layers_of_a_worker_that_leaves_move_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 10);
    let runtime = head(&model)
        .cluster("leaves")
        .plan("even")
        .listen(["tcp/127.0.0.1:0"])
        .workers(1)
        .start()
        .await
        .unwrap();
    let connect = runtime.endpoints()[0].clone();
    let leaving = worker(worker_settings(&model, "leaves", "a", &connect)).await;
    assert_eq!(runtime.ready().await.unwrap().stages.len(), 2);
    leaving.shutdown().await;
    // The head's stage gives its memory back before it takes the other layers too.
    let moved = wait_for(&runtime, |status| {
        status.phase == ClusterPhase::Running && status.stages.len() == 1
    });
    let moved = moved.await;
    assert!(moved < Duration::from_secs(10), "moved after {moved:?}");
    runtime.shutdown().await;
}

/// Not a test by itself: the other process of the one above.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_process() {
    crate::support::be_worker_process().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_its_head_and_serves_the_next_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 4);
    // A port that was free a moment ago.
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let probe = session::open(&Endpoints {
        listen,
        connect: vec![],
    })
    .await
    .unwrap();
    let endpoint = session::locators(&probe).await[0].clone();
    probe.close().await.unwrap();

    let worker = worker(worker_settings(&model, "next", "a", &endpoint)).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let runtime = head(&model)
            .cluster("next")
            .node_id("head")
            .plan("even")
            .listen([endpoint.clone()])
            .workers(1)
            .host_stages(false)
            .start()
            .await
            .unwrap();
        runtime.ready().await.unwrap();
        answers.push(
            ask(&runtime.client(), Prompt::raw("x"), greedy(8))
                .await
                .tokens,
        );
        runtime.shutdown().await;
    }
    assert_eq!(answers[0], answers[1]);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_joins_by_the_endpoint_that_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 11);
    let runtime = networked_head(&model, "detour", 1).await;
    let mut settings = worker_settings(&model, "detour", "a", "tcp/no..such.name:7447");
    // A link-local address without an interface: no route.
    settings
        .network
        .connect
        .push("tcp/[fe80::1]:7447".to_owned());
    let connect = &mut settings.network.connect;
    connect.extend_from_slice(runtime.endpoints());
    let joined = worker(settings).await;
    runtime.ready().await.unwrap();
    joined.shutdown().await;
    runtime.shutdown().await;
}

/// Expects that a worker ends with a complaint that contains all of `expected`.
async fn check_refused(settings: jupiter::Settings, expected: &[&str]) {
    let worker = Worker::start(Config::from_settings(settings).unwrap())
        .await
        .unwrap();
    let ended = worker.run_until(tokio::time::sleep(PATIENCE)).await;
    let error = ended.unwrap_err().to_string();
    for part in expected {
        assert!(
            error.contains(part) && !error.contains('\n'),
            "{part}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (model(dir.path(), 5), model(dir.path(), 6));
    let runtime = networked_head(&ours, "picky", 1).await;
    let connect = runtime.endpoints()[0].clone();
    let settings = |model, node: &str| worker_settings(model, "picky", node, &connect);
    check_refused(settings(&other, "a"), &["node a", "copy the head's file"]).await;
    check_refused(settings(&ours, "head"), &["name head", "--node"]).await;
    let first = worker(settings(&ours, "a")).await;
    runtime.ready().await.unwrap();
    check_refused(settings(&ours, "a"), &["name a", "--node"]).await;
    assert_eq!(runtime.status().await.unwrap().phase, ClusterPhase::Running);

    let second = head(&ours)
        .cluster("picky")
        .node_id("head-2")
        .connect([connect]);
    let error = second.start().await.err().unwrap().to_string();
    assert!(
        error.contains("node head") && error.contains("--cluster"),
        "{error}"
    );
    first.shutdown().await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_another_protocol_ends_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 7);
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let session = session::open(&Endpoints {
        listen,
        connect: vec![],
    })
    .await
    .unwrap();
    let connect = session::locators(&session).await[0].clone();
    let token = session
        .liveliness()
        .declare_token("jupiter/future/head/alive/99/hal/1");
    let token = token.await.unwrap();
    let settings = worker_settings(&model, "future", "a", &connect);
    check_refused(
        settings,
        &["node hal", "version 99", "same version of jupiter"],
    )
    .await;
    drop(token);
    session.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_workers_are_an_error_that_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 8);
    let runtime = head(&model)
        .plan("even")
        .listen(["tcp/127.0.0.1:0"])
        .workers(2)
        .node_wait_ms(100)
        .start()
        .await
        .unwrap();
    let error = runtime.ready().await.unwrap_err().to_string();
    assert!(
        error.contains("1 nodes") && error.contains("3 are needed"),
        "{error}"
    );
    assert!(
        error.contains(&runtime.endpoints()[0]) && !error.contains('\n'),
        "{error}"
    );
    runtime.shutdown().await;
}
