//! Two heads of one cluster that meet after both have started.

use std::time::{Duration, Instant};

use jupiter::net::session::{self, Endpoints};
use jupiter::{ClusterPhase, Prompt, Runtime};
use serde_json::Value;
use zenoh::query::ConsolidationMode;

use crate::cluster::wait_for;
use crate::support::{PATIENCE, ask, cluster_head, greedy, head, model, worker, worker_settings};

/// A router that is not there yet: where it will listen.
async fn absent_router() -> String {
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let probe = Endpoints {
        listen,
        connect: vec![],
    };
    let probe = session::open(&probe).await.unwrap();
    let endpoint = session::locators(&probe).await[0].clone();
    probe.close().await.unwrap();
    endpoint
}

/// The router, as zenoh's own program would be one.
async fn router(endpoint: &str) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\"".to_owned()),
        ("listen/endpoints", format!("[{endpoint:?}]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).await.unwrap()
}

/// The last events of all answers to one query, by a client that both heads can see.
async fn last_events(heads: &[String], cluster: &str) -> Vec<String> {
    let client = Endpoints {
        listen: vec![],
        connect: heads.to_vec(),
    };
    let client = session::open(&client).await.unwrap();
    let begun = Instant::now();
    loop {
        let query = client
            .get(format!("jupiter/{cluster}/generate"))
            .payload(r#"{"prompt":"Hello","raw":true,"n_predict":2}"#)
            .consolidation(ConsolidationMode::None)
            .timeout(PATIENCE);
        let replies = query.await.unwrap();
        let mut last = Vec::new();
        while let Ok(reply) = replies.recv_async().await {
            let sample = reply.into_result().unwrap();
            let event: Value = serde_json::from_slice(&sample.payload().to_bytes()).unwrap();
            match event["event"].as_str() {
                Some("token") => {}
                _ => last.push(event.to_string()),
            }
        }
        // The client may not have found the heads yet.
        if !last.is_empty() {
            client.close().await.unwrap();
            return last;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn given_way(runtime: &Runtime) -> String {
    let given = tokio::time::timeout(PATIENCE, runtime.gives_way());
    given.await.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_heads_that_meet_one_goes_on_with_the_workers_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 21);
    let hub = absent_router().await;
    let start = async |name: &str, n_workers| {
        let head = cluster_head(&model, "meet", n_workers).plan("even");
        let head = head.node_id(name).connect([hub.clone()]);
        head.start().await.unwrap()
    };
    let work = async |name: &str, head: &Runtime| {
        let mut settings = worker_settings(&model, "meet", name, &head.endpoints()[0]);
        settings.network.connect.push(hub.clone());
        worker(settings).await
    };
    let (older, younger) = (start("older", 1).await, start("younger", 2).await);
    let workers = [
        work("a", &older).await,
        work("b", &younger).await,
        work("c", &younger).await,
    ];
    older.ready().await.unwrap();
    younger.ready().await.unwrap();
    let expected = ask(&older.client(), Prompt::raw("x"), greedy(8))
        .await
        .tokens;

    let router = router(&hub).await;
    let why = given_way(&older).await;
    assert!(
        why.contains("node younger") && why.contains("2 workers, not 1"),
        "{why}"
    );
    assert!(why.contains("--cluster") && !why.contains('\n'), "{why}");
    assert!(older.ready().await.is_err());
    wait_for(&younger, |status| {
        status.phase == ClusterPhase::Running && status.nodes.len() == 3
    })
    .await;
    let endpoints = [older.endpoints(), younger.endpoints()].concat();
    let last = last_events(&endpoints, "meet").await;
    assert!(last.len() == 1 && last[0].contains("done"), "{last:?}");
    let answer = ask(&younger.client(), Prompt::raw("x"), greedy(8)).await;
    assert_eq!(answer.tokens, expected);
    older.shutdown().await;
    for worker in workers {
        worker.shutdown().await;
    }
    younger.shutdown().await;
    router.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_heads_that_start_together_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 22);
    let hub = absent_router().await;
    let router = router(&hub).await;
    let start = |name: &str| {
        let head = head(&model).cluster("twins").node_id(name).plan("even");
        let head = head.listen(["tcp/127.0.0.1:0"]);
        head.connect([hub.clone()]).start()
    };
    let started = tokio::join!(start("a"), start("b"));
    let going_on = match started {
        // Too late to see the other when it started.
        (Ok(a), Ok(b)) => tokio::select! {
            why = a.gives_way() => {
                assert!(why.to_string().contains("node b"), "{why}");
                a.shutdown().await;
                b
            }
            why = b.gives_way() => {
                assert!(why.to_string().contains("node a"), "{why}");
                b.shutdown().await;
                a
            }
            () = tokio::time::sleep(PATIENCE) => panic!("both go on"),
        },
        (Ok(one), Err(why)) | (Err(why), Ok(one)) => {
            assert!(why.to_string().contains("head"), "{why}");
            one
        }
        (Err(a), Err(b)) => panic!("neither goes on: {a}; {b}"),
    };
    let last = last_events(going_on.endpoints(), "twins").await;
    assert!(last.len() == 1 && last[0].contains("done"), "{last:?}");
    let still = tokio::time::timeout(Duration::ZERO, going_on.gives_way());
    still.await.unwrap_err();
    going_on.shutdown().await;
    router.close().await.unwrap();
}
