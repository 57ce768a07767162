//! The public side: what a program hears that knows nothing but zenoh.
use std::time::Duration;

use crate::support::{PATIENCE, ask, greedy, head, model};
use jupiter::net::session::{self, Endpoints};
use jupiter::{Prompt, Runtime};
use serde_json::{Value, json};
use zenoh::Session;

async fn serve(cluster: &str) -> (tempfile::TempDir, Runtime, Session) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = head(&model(dir.path(), 9))
        .cluster(cluster)
        .plan("even")
        .listen(["tcp/127.0.0.1:0"])
        .start()
        .await
        .unwrap();
    let connect = runtime.endpoints().to_vec();
    let session = session::open(&Endpoints {
        listen: vec![],
        connect,
    })
    .await
    .unwrap();
    (dir, runtime, session)
}

/// The events of one query.
async fn query(session: &Session, cluster: &str, payload: Vec<u8>) -> Vec<Value> {
    let replies = session
        .get(format!("jupiter/{cluster}/generate"))
        .payload(payload)
        .timeout(PATIENCE)
        .consolidation(zenoh::query::ConsolidationMode::None)
        .await
        .unwrap();
    let mut events = Vec::new();
    while let Ok(reply) = replies.recv_async().await {
        let sample = reply.into_result().unwrap();
        events.push(serde_json::from_slice(&sample.payload().to_bytes()).unwrap());
    }
    events
}

/// Token ids and text of an answer that ends as it should.
fn read(events: &[Value]) -> (Vec<i64>, String) {
    let (last, tokens) = events.split_last().unwrap();
    assert_eq!(last["event"], "done", "{last}");
    assert!(tokens.iter().all(|event| event["event"] == "token"));
    let ids = tokens
        .iter()
        .filter_map(|event| event["id"].as_i64())
        .collect();
    (
        ids,
        tokens
            .iter()
            .filter_map(|event| event["text"].as_str())
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_streams_its_answer() {
    let (_dir, runtime, session) = serve("query").await;
    let expected = ask(&runtime.client(), Prompt::text("Hi"), greedy(12)).await;
    let request = json!({ "prompt": "Hi", "n_predict": 12, "temperature": 0, "ignore_eos": true });
    let events = query(&session, "query", request.to_string().into_bytes()).await;
    let (ids, text) = read(&events);
    assert_eq!(
        ids,
        expected
            .tokens
            .iter()
            .map(|&id| i64::from(id))
            .collect::<Vec<_>>()
    );
    assert_eq!(text, expected.text);
    assert_eq!(events.last().unwrap()["n_eval"], 12);
    session.close().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_an_idle_head_fills_its_context() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = head(&model(dir.path(), 9))
        .cluster("all")
        .ctx(256)
        .parallel(4)
        .plan("even")
        .listen(["tcp/127.0.0.1:0"])
        .start()
        .await
        .unwrap();
    let (listen, connect) = (vec![], runtime.endpoints().to_vec());
    let session = session::open(&Endpoints { listen, connect }).await.unwrap();
    let request = json!({ "prompt": "Hi", "n_predict": -1, "stop": null, "ignore_eos": true });
    let events = query(&session, "all", request.to_string().into_bytes()).await;
    let done = events.last().unwrap();
    let count = |of: &str| done[of].as_u64().unwrap();
    assert_eq!(count("n_prompt") + count("n_eval"), 256, "{done}");
    assert_eq!(
        (&done["reason"], &done["limit"]),
        (&json!("length"), &json!("context"))
    );
    session.close().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_answer_of_points_name_their_branch() {
    let runtime = Runtime::builder().threads(1).cluster("points").plan("even");
    let runtime = runtime.listen(["tcp/127.0.0.1:0"]).start().await.unwrap();
    let connect = runtime.endpoints().to_vec();
    let listen = vec![];
    let session = session::open(&Endpoints { listen, connect }).await.unwrap();
    let request = json!({ "prompt": "How do I change the battery?", "outline": "on" });
    let events = query(&session, "points", request.to_string().into_bytes()).await;
    let of = |kind: &str| {
        events
            .iter()
            .filter(|e| e["event"] == kind)
            .collect::<Vec<_>>()
    };
    let outline = of("outline").pop().unwrap();
    assert_eq!(outline["complete"], true);
    let n_points = outline["points"].as_array().unwrap().len();
    for branch in 0..n_points {
        let own = of("branch").into_iter().filter(|e| e["branch"] == branch);
        let (ends, texts): (Vec<_>, Vec<_>) = own.partition(|e| e["text"].is_null());
        assert!(!texts.is_empty(), "point {branch} has no text");
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0]["reason"], "stop");
    }
    // Who knows only tokens reads the answer in order.
    let text: String = of("token")
        .iter()
        .filter_map(|e| e["text"].as_str())
        .collect();
    assert_eq!(text.lines().count(), n_points, "{text}");
    let done = events.last().unwrap();
    assert_eq!(
        (&done["event"], &done["outline"]["points"]),
        (&json!("done"), &json!(n_points))
    );
    assert_eq!(done["outline"]["class"], "how-to");
    let request = json!({ "prompt": "Hi", "outline": "sometimes" });
    let events = query(&session, "points", request.to_string().into_bytes()).await;
    assert!(events[0]["message"].as_str().unwrap().contains("sometimes"));
    session.close().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_query_is_its_only_event() {
    let (_dir, runtime, session) = serve("wrong").await;
    for (payload, expected) in [
        (vec![0xff, 0xfe], "UTF-8"),
        (b"plain".to_vec(), "not what is expected"),
        (br#"{"prompt":""}"#.to_vec(), "empty"),
        (br#"{"prompt":"x","temprature":1}"#.to_vec(), "temprature"),
        (br#"{"prompt":"x","grammar":"("}"#.to_vec(), "rammar"),
        (vec![b'a'; (1 << 20) + 1], "1048576"),
    ] {
        let events = query(&session, "wrong", payload).await;
        assert_eq!(events.len(), 1, "{events:?}");
        let message = events[0]["message"].as_str().unwrap();
        assert_eq!(events[0]["event"], "error");
        assert!(
            message.contains(expected) && !message.contains('\n'),
            "{expected}: {message}"
        );
    }
    session.close().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn published_prompts_are_answered_in_turn_on_their_topic() {
    let (_dir, runtime, session) = serve("topic").await;
    let completions = session
        .declare_subscriber("jupiter/topic/completion/7")
        .await
        .unwrap();
    let prompts = session
        .declare_publisher("jupiter/topic/prompt/7")
        .await
        .unwrap();
    while !prompts.matching_status().await.unwrap().matching() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = json!({ "prompt": "Hi", "n_predict": 9, "temperature": 0, "ignore_eos": true });
    for payload in [
        request.to_string().into_bytes(),
        b"\xff".to_vec(),
        request.to_string().into(),
    ] {
        prompts.put(payload).await.unwrap();
    }
    let mut answers = vec![Vec::new()];
    while answers.len() <= 3 {
        let sample = tokio::time::timeout(PATIENCE, completions.recv_async())
            .await
            .unwrap();
        let event: Value = serde_json::from_slice(&sample.unwrap().payload().to_bytes()).unwrap();
        let is_last = event["event"] != "token";
        answers.last_mut().unwrap().push(event);
        if is_last {
            answers.push(Vec::new());
        }
    }
    assert_eq!(read(&answers[0]).0.len(), 9);
    assert_eq!(answers[1][0]["event"], "error");
    assert_eq!(read(&answers[0]), read(&answers[2]));
    session.close().await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_meant_for_the_head_is_left_alone() {
    let (_dir, runtime, session) = serve("wild").await;
    let epoch = runtime.status().await.unwrap().epoch;
    let request = json!({ "prompt": "Hi", "n_predict": 9, "temperature": 0, "ignore_eos": true });
    let request = request.to_string();
    for selector in [
        "**",
        "jupiter/wild/**",
        "jupiter/*/generate",
        "jupiter/wild/head/*",
    ] {
        let replies = session.get(selector).payload(request.clone());
        let replies = replies.timeout(PATIENCE).await.unwrap();
        assert!(replies.recv_async().await.is_err(), "{selector}");
    }
    // No frame for the head, its node or its stages: that would be a fault.
    for key in ["**", "jupiter/wild/**", "jupiter/wild/stage/*/*"] {
        session.put(key, "x").await.unwrap();
    }
    session.delete("jupiter/wild/head").await.unwrap();
    let completions = session
        .declare_subscriber("jupiter/wild/completion/**")
        .await
        .unwrap();
    let prompts = session
        .declare_publisher("jupiter/wild/prompt/7")
        .await
        .unwrap();
    while !prompts.matching_status().await.unwrap().matching() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    prompts.delete().await.unwrap();
    session
        .put("jupiter/wild/prompt/*", request.clone())
        .await
        .unwrap();
    let liveliness = session.liveliness();
    let token = liveliness.declare_token("jupiter/wild/node/*/alive/*");
    let _token = token.await.unwrap();

    prompts.put(request).await.unwrap();
    let mut events = Vec::new();
    while events
        .last()
        .is_none_or(|event: &Value| event["event"] == "token")
    {
        let sample = tokio::time::timeout(PATIENCE, completions.recv_async()).await;
        let sample = sample.unwrap().unwrap();
        assert_eq!(sample.key_expr().as_str(), "jupiter/wild/completion/7");
        events.push(serde_json::from_slice(&sample.payload().to_bytes()).unwrap());
    }
    assert_eq!(read(&events).0.len(), 9);
    assert_eq!(events.last().unwrap()["n_replays"], 0);
    assert_eq!(runtime.status().await.unwrap().epoch, epoch);
    session.close().await.unwrap();
    runtime.shutdown().await;
}
