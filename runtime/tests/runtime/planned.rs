//! Clusters whose layers go where measurements say.

use jupiter::{Objective, Prompt, Runtime};

use crate::support::{ask, cluster_head, greedy, head, model, worker, worker_settings};

/// A head that computes nothing, plans for the time between tokens, and waits for `n_workers`.
async fn planning_head(model: &std::path::Path, cluster: &str, n_workers: u32) -> Runtime {
    let head = cluster_head(model, cluster, n_workers).objective(Objective::Tbt);
    head.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_measured_and_a_slow_one_is_left_out_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 21);
    let alone = head(&model).start().await.unwrap();
    let expected = ask(&alone.client(), Prompt::text("Hello"), greedy(32)).await;
    alone.shutdown().await;

    let runtime = planning_head(&model, "measured", 2).await;
    let connect = runtime.endpoints()[0].clone();
    let mut slow = worker_settings(&model, "measured", "b", &connect);
    slow.emulation.slowdown = Some(4.0);
    let a = worker(worker_settings(&model, "measured", "a", &connect)).await;
    let b = worker(slow).await;
    let status = runtime.ready().await.unwrap();
    let plan = status.plan.unwrap();
    assert_eq!(plan.cluster.devices().len(), 2);
    for (from, to) in [(0, 1), (1, 0)] {
        let link = plan.cluster.link_between(from, to).unwrap();
        assert!(link.bytes_per_ms > 0.0 && link.latency_ms > 0.0, "{link:?}");
    }
    // One stream has nothing to gain from a second machine.
    let nodes: Vec<_> = status.stages.iter().map(|stage| &stage.node.0).collect();
    assert_eq!(nodes, ["a"]);
    assert_eq!(plan.excluded[0].node.0, "b");
    assert!(plan.excluded[0].reason.to_string().contains("ms"));
    let answer = ask(&runtime.client(), Prompt::text("Hello"), greedy(32)).await;
    assert_eq!(answer.tokens, expected.tokens);
    a.shutdown().await;
    b.shutdown().await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fits_nowhere_says_what_is_missing_and_what_would_fit() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 22);
    let runtime = planning_head(&model, "small", 1).await;
    let connect = runtime.endpoints()[0].clone();
    let mut small = worker_settings(&model, "small", "a", &connect);
    small.emulation.memory_limit = Some("1M".into());
    let worker = worker(small).await;
    let error = runtime.ready().await.unwrap_err().to_string();
    assert!(
        error.contains("a lacks")
            && error.contains("one more device with")
            && !error.contains('\n'),
        "{error}"
    );
    worker.shutdown().await;
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emulated_link_is_measured_as_it_seems() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), 23);
    let runtime = planning_head(&model, "slow-link", 2).await;
    let connect = runtime.endpoints()[0].clone();
    let mut far = worker_settings(&model, "slow-link", "b", &connect);
    far.emulation.link_rate = Some("80mbit".into());
    far.emulation.link_latency = Some("20ms".into());
    let a = worker(worker_settings(&model, "slow-link", "a", &connect)).await;
    let b = worker(far).await;
    let plan = runtime.ready().await.unwrap().plan.unwrap();
    // 80 Mbit/s are 10,000 bytes a millisecond; the round trip holds the latency once.
    let link = plan.cluster.link_between(1, 0).unwrap();
    assert!(link.bytes_per_ms <= 10_500.0, "{link:?}");
    assert!(link.latency_ms >= 10.0, "{link:?}");
    a.shutdown().await;
    b.shutdown().await;
    runtime.shutdown().await;
}
