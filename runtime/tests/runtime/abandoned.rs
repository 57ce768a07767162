//! Requests that nobody waits for any more: they stop, and hurt nobody.
//!
//! The engine is slowed down, so that an answer which goes on takes minutes. What is waited for here
//! comes only when the answers in its way are given up.
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jupiter::config::EngineSettings;
use jupiter::net::session::{self, Endpoints};
use jupiter::{Prompt, Runtime, Settings};
use jupiter_models::kernels::KernelChoice;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zenoh::handlers::FifoChannelHandler;
use zenoh::query::{ConsolidationMode, Reply};
use zenoh::{Session, Wait};

use crate::support::{PATIENCE, ask, greedy, model};

/// Set for a child process that is a client; a [`Visitor`].
const CLIENT_ENV: &str = "JUPITER_TEST_CLIENT";

/// Makes an answer without end take minutes. Not more: after an idle moment a virtual machine may take
/// many times as long for a step, and that is multiplied too.
const SLOWDOWN: f64 = 40.0;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// A head that computes `n_parallel` answers at a time, slowly.
async fn slow_head(cluster: &str, n_parallel: u32, slowdown: f64, network: Endpoints) -> Slow {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.model.model = Some(model(dir.path(), 9));
    settings.network.cluster = Some(cluster.to_owned());
    settings.network.listen = network.listen;
    settings.network.connect = network.connect;
    settings.engine = EngineSettings {
        ctx_size: Some(4096 * n_parallel),
        parallel: Some(n_parallel),
        threads: Some(1),
        kernels: Some(KernelChoice::Off),
        ..EngineSettings::default()
    };
    settings.placement.plan = Some("even".to_owned());
    settings.emulation.slowdown = Some(slowdown);
    let runtime = Runtime::builder().settings(settings).start();
    let runtime = runtime.await.unwrap();
    Slow { runtime, _dir: dir }
}

struct Slow {
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Slow {
    /// One that listens, and computes one answer at a time.
    async fn listening(cluster: &str) -> Self {
        slow_head(cluster, 1, SLOWDOWN, listening()).await
    }

    /// Waits until so many requests are computed and wait.
    async fn until(&self, n_live: usize, n_waiting: usize) {
        self.until_load(|load| load == (n_live, n_waiting)).await;
    }

    /// The same, for what is said of both numbers.
    async fn until_load(&self, is_wanted: impl Fn((usize, usize)) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.runtime.status().await.unwrap();
            if is_wanted((status.n_live, status.n_waiting)) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "still {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything was given up, and the next request is answered.
    async fn check_free(&self, way: &str) {
        let start = Instant::now();
        self.until(0, 0).await;
        println!("{way}: free after {:?}", start.elapsed());
        let client = self.runtime.client();
        let answer = ask(&client, Prompt::raw("Hi"), greedy(2)).await;
        assert_eq!(answer.tokens.len(), 2);
    }
}

fn listening() -> Endpoints {
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let connect = vec![];
    Endpoints { listen, connect }
}

/// A session of zenoh as it is configured by itself, but for where it connects to.
async fn plain_session(mode: &str, endpoints: &Endpoints) -> Session {
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", json!(mode)),
        ("listen/endpoints", json!(endpoints.listen)),
        ("connect/endpoints", json!(endpoints.connect)),
        ("scouting/multicast/enabled", json!(false)),
    ] {
        config.insert_json5(key, &value.to_string()).unwrap();
    }
    zenoh::open(config).await.unwrap()
}

async fn router() -> (Session, Vec<String>) {
    let router = plain_session("router", &listening()).await;
    let locators = session::locators(&router).await;
    (router, locators)
}

/// A session that is connected to these endpoints.
async fn client(mode: &str, connect: &[String]) -> Session {
    let (listen, connect) = (vec![], connect.to_vec());
    plain_session(mode, &Endpoints { listen, connect }).await
}

fn endless() -> String {
    json!({ "prompt": "Hi", "raw": true, "temperature": 0, "ignore_eos": true }).to_string()
}

/// Asks; what follows `generate` in the selector is `parameters`.
async fn query(
    session: &Session,
    cluster: &str,
    parameters: &str,
    request: String,
    timeout: Duration,
) -> FifoChannelHandler<Reply> {
    let selector = format!("jupiter/{cluster}/generate{parameters}");
    let replies = session.get(selector).payload(request).timeout(timeout);
    let replies = replies.consolidation(ConsolidationMode::None);
    replies.await.unwrap()
}

/// The next event of a query.
async fn event(replies: &FifoChannelHandler<Reply>) -> Value {
    let reply = tokio::time::timeout(PATIENCE, replies.recv_async()).await;
    let sample = reply.unwrap().unwrap().into_result().unwrap();
    serde_json::from_slice(&sample.payload().to_bytes()).unwrap()
}

/// A client that asks until it is killed.
#[derive(Serialize, Deserialize)]
struct Visitor {
    mode: String,
    connect: Vec<String>,
    cluster: String,
    /// Name of its liveliness token.
    token: Option<String>,
    n_queries: usize,
    /// Publishes prompts instead.
    publishes: bool,
}

impl Visitor {
    fn new(mode: &str, connect: &[String], cluster: &str) -> Self {
        Self {
            mode: mode.to_owned(),
            connect: connect.to_vec(),
            cluster: cluster.to_owned(),
            token: None,
            n_queries: 1,
            publishes: false,
        }
    }

    /// In a process of its own.
    fn process(&self) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "abandoned::the_client_process"])
            .env(CLIENT_ENV, serde_json::to_string(self).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Asks, and waits until standard input closes.
    async fn stay(self) {
        let session = client(&self.mode, &self.connect).await;
        let key = |name: &str| format!("jupiter/{}/{name}", self.cluster);
        let mut parameters = String::new();
        let mut token = None;
        if let Some(name) = &self.token {
            let liveliness = session.liveliness();
            token = Some(
                liveliness
                    .declare_token(key(&format!("client/{name}")))
                    .await,
            );
            parameters = format!("?client={name}");
        }
        let mut queries = Vec::new();
        let mut completions = Vec::new();
        for i in 0..self.n_queries {
            if self.publishes {
                let completion = session.declare_subscriber(key(&format!("completion/{i}")));
                completions.push(completion.await.unwrap());
                publish(&session, &key(&format!("prompt/{i}")), endless()).await;
            } else {
                let asked = query(&session, &self.cluster, &parameters, endless(), LONG);
                queries.push(asked.await);
            }
        }
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        end.await.unwrap().unwrap();
        drop(token);
    }
}

/// Publishes once somebody subscribes.
async fn publish(session: &Session, key: &str, payload: String) {
    let publisher = session.declare_publisher(key).await.unwrap();
    while !publisher.matching_status().await.unwrap().matching() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publisher.put(payload).await.unwrap();
}

/// Not a test by itself: the client of those below.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_process() {
    if let Ok(visitor) = std::env::var(CLIENT_ENV) {
        let visitor: Visitor = serde_json::from_str(&visitor).unwrap();
        visitor.stay().await;
    }
}

/// Kills the client when its requests are computed and wait, and expects that they are given up.
async fn check_killed(head: &Slow, visitor: &Visitor, way: &str) {
    let mut process = visitor.process();
    head.until(1, visitor.n_queries - 1).await;
    process.kill().unwrap();
    process.wait().unwrap();
    head.check_free(way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_killed_client_end() {
    let head = Slow::listening("killed").await;
    let endpoints = head.runtime.endpoints();
    for mode in ["peer", "client"] {
        let mut visitor = Visitor::new(mode, endpoints, "killed");
        check_killed(&head, &visitor, &format!("killed {mode}")).await;
        visitor.publishes = true;
        visitor.n_queries = 3;
        check_killed(&head, &visitor, &format!("killed {mode} that publishes")).await;
    }
    head.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_queries_than_are_taken_lock_nobody_out_when_their_client_is_killed() {
    let head = Slow::listening("flood").await;
    let mut visitor = Visitor::new("peer", head.runtime.endpoints(), "flood");
    visitor.n_queries = 140;
    let mut process = visitor.process();
    // Half of all that are taken; and the first, which came alone, so that nobody asked whose it is.
    head.until(1, 128).await;
    process.kill().unwrap();
    process.wait().unwrap();
    head.check_free("killed with 140 queries").await;
    let session = client("client", head.runtime.endpoints()).await;
    let replies = query(&session, "flood", "", endless(), LONG).await;
    assert_eq!(event(&replies).await["event"], "token");
    session.close().await.unwrap();
    head.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_router_a_killed_client_is_known_by_its_token() {
    let (router, connect) = router().await;
    let network = Endpoints {
        listen: vec![],
        connect: connect.clone(),
    };
    let head = slow_head("routed", 1, SLOWDOWN, network).await;
    let mut visitor = Visitor::new("client", &connect, "routed");
    visitor.token = Some("camera-1".to_owned());
    visitor.n_queries = 3;
    check_killed(&head, &visitor, "killed behind a router, with a token").await;
    visitor.token = None;
    visitor.publishes = true;
    check_killed(&head, &visitor, "killed behind a router, publishing").await;

    // Without a token, the query's own time-out is what ends it.
    let session = client("client", &connect).await;
    let replies = query(&session, "routed", "", endless(), Duration::from_secs(1)).await;
    head.until(1, 0).await;
    session.close().await.unwrap();
    drop(replies);
    head.check_free("closed behind a router, 1 s of time-out")
        .await;
    head.runtime.shutdown().await;
    router.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_time_out_or_whose_session_closes_are_given_up() {
    let head = Slow::listening("closed").await;
    let session = client("peer", head.runtime.endpoints()).await;
    let mut queries = Vec::new();
    // One is computed, the others wait.
    for _ in 0..3 {
        let timeout = Duration::from_secs(1);
        queries.push(query(&session, "closed", "", endless(), timeout).await);
    }
    head.until(1, 2).await;
    head.check_free("timed out after 1 s").await;
    for _ in 0..3 {
        queries.push(query(&session, "closed", "", endless(), LONG).await);
    }
    head.until(1, 2).await;
    session.close().await.unwrap();
    head.check_free("closed").await;
    head.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gives_up_an_answer_by_its_token_or_subscription() {
    let head = Slow::listening("token").await;
    let session = client("client", head.runtime.endpoints()).await;
    let key = |name: &str| format!("jupiter/token/{name}");
    let token = session.liveliness().declare_token(key("client/7"));
    let token = token.await.unwrap();
    let _replies = query(&session, "token", "?client=7", endless(), LONG).await;
    head.until(1, 0).await;
    token.undeclare().await.unwrap();
    head.check_free("undeclared token").await;

    let completions = session.declare_subscriber(key("completion/7"));
    let completions = completions.await.unwrap();
    for _ in 0..3 {
        publish(&session, &key("prompt/7"), endless()).await;
    }
    head.until(1, 0).await;
    completions.undeclare().await.unwrap();
    head.check_free("undeclared subscriber").await;

    for (parameters, expected) in [("?client=8", "client/8"), ("?client=a/b", "client name")] {
        let replies = query(&session, "token", parameters, endless(), LONG).await;
        let message = loop {
            let event = event(&replies).await;
            if event["event"] == "error" {
                break event["message"].as_str().unwrap().to_owned();
            }
        };
        assert!(message.contains(expected), "{message}");
        head.until(0, 0).await;
    }
    session.close().await.unwrap();
    head.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_abandoned_queries_do_not_disturb_another_answer() {
    let head = slow_head("many", 2, SLOWDOWN / 8.0, listening()).await;
    let patient = client("client", head.runtime.endpoints()).await;
    let request = json!({
        "prompt": "Hello", "raw": true, "n_predict": 200, "temperature": 0, "ignore_eos": true,
    });
    let answer = query(&patient, "many", "", request.to_string(), LONG).await;
    head.until(1, 0).await;
    let mut sessions = Vec::new();
    for round in 0..10 {
        let mode = ["peer", "client"][round / 2 % 2];
        let session = client(mode, head.runtime.endpoints()).await;
        let is_closed = round % 2 == 0;
        let timeout = if is_closed {
            LONG
        } else {
            Duration::from_millis(300)
        };
        let mut queries = Vec::new();
        for _ in 0..20 {
            queries.push(query(&session, "many", "", endless(), timeout).await);
        }
        if is_closed {
            head.until_load(|(_, n_waiting)| n_waiting > 0).await;
            session.close().await.unwrap();
        } else {
            for replies in &queries {
                while replies.recv_async().await.is_ok() {}
            }
            sessions.push(session);
        }
        // But for the other answer, if that is not complete.
        head.until_load(|(n_live, n_waiting)| n_live <= 1 && n_waiting == 0)
            .await;
    }
    let mut n_tokens = 0;
    let done = loop {
        let event = event(&answer).await;
        if event["event"] != "token" {
            break event;
        }
        n_tokens += usize::from(event["id"].is_number());
    };
    assert_eq!((&done["event"], n_tokens), (&json!("done"), 200), "{done}");
    head.check_free("200 queries").await;
    patient.close().await.unwrap();
    head.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_a_queue_hears_that_the_head_is_there() {
    let head = Slow::listening("queue").await;
    let session = client("client", head.runtime.endpoints()).await;
    let _first = query(&session, "queue", "", endless(), LONG).await;
    head.until(1, 0).await;
    let second = query(&session, "queue", "", endless(), LONG).await;
    let nothing = json!({ "event": "token", "id": null, "text": "" });
    for _ in 0..2 {
        assert_eq!(event(&second).await, nothing);
    }
    head.until(1, 1).await;
    session.close().wait().unwrap();
    head.check_free("closed").await;
    head.runtime.shutdown().await;
}
