//! Many who ask at once over zenoh: some flood, some never read, one is polite.

use jupiter::net::session::{self, Endpoints};
use jupiter::{Config, Monitor, Runtime, Settings};
use serde_json::{Value, json};
use zenoh::Session;
use zenoh::handlers::FifoChannelHandler;
use zenoh::query::Reply;

use crate::support::{PATIENCE, head, model};

async fn serve(cluster: &str) -> (tempfile::TempDir, Runtime) {
    let dir = tempfile::tempdir().unwrap();
    let head = head(&model(dir.path(), 9)).cluster(cluster).plan("even");
    let runtime = head.listen(["tcp/127.0.0.1:0"]).start().await.unwrap();
    (dir, runtime)
}

async fn client(runtime: &Runtime) -> Session {
    let (listen, connect) = (vec![], runtime.endpoints().to_vec());
    session::open(&Endpoints { listen, connect }).await.unwrap()
}

/// Asks; the events are there for who reads them.
async fn ask(session: &Session, cluster: &str, request: Value) -> FifoChannelHandler<Reply> {
    let get = session.get(format!("jupiter/{cluster}/generate"));
    let get = get.payload(request.to_string()).timeout(PATIENCE);
    let get = get.consolidation(zenoh::query::ConsolidationMode::None);
    get.await.unwrap()
}

/// The last event.
async fn end(replies: FifoChannelHandler<Reply>) -> Value {
    let mut last = Value::Null;
    while let Ok(reply) = replies.recv_async().await {
        let sample = reply.into_result().unwrap();
        last = serde_json::from_slice(&sample.payload().to_bytes()).unwrap();
    }
    last
}

fn request(n_predict: u32) -> Value {
    json!({ "prompt": "Hi", "n_predict": n_predict, "temperature": 0, "ignore_eos": true })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_floods_and_never_reads_holds_up_nobody_and_each_gets_a_line() {
    let (_dir, runtime) = serve("flood").await;
    let (flood, polite) = (client(&runtime).await, client(&runtime).await);
    let mut floods = Vec::new();
    for _ in 0..200 {
        floods.push(ask(&flood, "flood", request(48)).await);
    }
    // Nobody reads them, and another one is answered all the same, before most of them.
    let answered = end(ask(&polite, "flood", request(4)).await).await;
    assert_eq!(answered["event"], "done", "{answered}");
    let n_waiting = runtime.status().await.unwrap().n_waiting;
    assert!(n_waiting > 50, "only {n_waiting} were left");
    let (mut n_done, mut n_refused) = (0, 0);
    for replies in floods {
        let last = end(replies).await;
        match last["event"].as_str() {
            Some("done") => n_done += 1,
            Some("error") => {
                assert!(last["retry_after_ms"].as_u64() > Some(0), "{last}");
                n_refused += 1;
            }
            _ => panic!("{last}"),
        }
    }
    assert_eq!(n_done + n_refused, 200);
    assert!(
        n_done >= 100 && n_refused >= 50,
        "{n_done} done, {n_refused} refused"
    );
    for session in [flood, polite] {
        session.close().await.unwrap();
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_in_a_line_and_the_status_tells_who_asks() {
    let (_dir, runtime) = serve("urgent").await;
    let session = client(&runtime).await;
    for (field, value, told) in [
        (
            "priority",
            json!(9),
            "priority is 9: send 0, the most urgent, to 7",
        ),
        (
            "deadline_ms",
            json!(0),
            "deadline_ms is 0: send 1 or more, or leave it out",
        ),
    ] {
        let mut bad = request(4);
        bad[field] = value;
        let refused = end(ask(&session, "urgent", bad).await).await;
        assert_eq!(refused, json!({ "event": "error", "message": told }));
    }
    let mut hurried = request(400);
    (hurried["deadline_ms"], hurried["priority"]) = (json!(1), json!(1));
    let late = end(ask(&session, "urgent", hurried).await).await;
    let message = late["message"].as_str().unwrap();
    assert!(
        message.contains("the answer") && message.contains("within 1 ms"),
        "{late}"
    );
    let mut settings = Settings::default();
    settings.network.cluster = Some("urgent".to_owned());
    settings.network.connect = runtime.endpoints().to_vec();
    let network = Config::from_settings(settings).unwrap().network;
    let monitor = Monitor::connect(network).await.unwrap();
    let mut long = request(480);
    (long["priority"], long["deadline_ms"]) = (json!(2), json!(60_000));
    let asked = ask(&session, "urgent", long).await;
    let report = loop {
        let report = monitor.report().await.unwrap();
        if report.n_live > 0 && report.requests[0].n_answer > 0 {
            break report;
        }
    };
    let request = &report.requests[0];
    assert_eq!((request.priority, report.phase.as_str()), (2, "running"));
    assert_eq!(request.deadline.unwrap().1, 60_000);
    assert!(report.n_cells > 0 && report.n_ctx == 512);
    drop(asked);
    monitor.close().await;
    session.close().await.unwrap();
    runtime.shutdown().await;
}
