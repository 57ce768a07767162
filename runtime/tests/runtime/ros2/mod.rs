//! Robots of ROS 2: what a node hears that speaks rmw_zenoh.

mod bridge;
mod load;
mod others;
mod robot;
mod typed;

use std::time::Duration;

use jupiter::{Error, Prompt, Ros2Error, Runtime, Settings};
use serde_json::Value;
use zenoh::sample::SampleKind;

use self::robot::{
    ASK, CANCEL, Cdr, FEEDBACK, GET_RESULT, LIST, Read, Robot, SEND_GOAL, SET, STATUS, STRING,
    TRIGGER, goal, goal_with, session,
};
use crate::support::{PATIENCE, ask, greedy, head, model};

/// Who calls, where it does not matter.
const GID: [u8; 16] = [5; 16];

/// Codes of action_msgs.
const SUCCEEDED: u8 = 4;
const CANCELED: u8 = 5;
const ABORTED: u8 = 6;

/// A runtime that is the router of a robot; `slowdown` times slower than this machine.
async fn start(slowdown: f64) -> (tempfile::TempDir, Runtime, Robot) {
    start_with(slowdown, Settings::default()).await
}

async fn start_with(slowdown: f64, mut settings: Settings) -> (tempfile::TempDir, Runtime, Robot) {
    let dir = tempfile::tempdir().unwrap();
    settings.emulation.slowdown = Some(slowdown);
    settings.ros2.ros2_domain = Some(0);
    let model = model(dir.path(), 9);
    let builder = Runtime::builder().settings(settings).model(model);
    let builder = builder.ctx(512).parallel(2).chunk(32).threads(1);
    let runtime = builder
        .ros2("router@tcp/127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let router = runtime.ros2_endpoints().await;
    let robot = Robot::at(&router[0]).await;
    (dir, runtime, robot)
}

fn topic(name: &str) -> String {
    format!("0/llm/{name}/{STRING}")
}

fn part(name: &str, ty: &str) -> String {
    format!("0/llm/generate/_action/{name}/{ty}")
}

/// Sends a goal; whether it is accepted.
async fn send(robot: &Robot, gid: [u8; 16], goal: Cdr) -> bool {
    let response = robot.call(part("send_goal", SEND_GOAL), gid, goal).await;
    Read::of(&response).byte() == 1
}

/// Status, text, reason and error of a goal, when it has ended.
async fn result(robot: &Robot, id: u8) -> (u8, String, String, String) {
    let request = Cdr::default().raw(&[id; 16]);
    let response = robot
        .call(part("get_result", GET_RESULT), GID, request)
        .await;
    let mut read = Read::of(&response);
    (read.byte(), read.text(), read.text(), read.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_on_a_topic_is_answered_whole_and_in_pieces() {
    let (_dir, runtime, robot) = start(1.0).await;
    let expected = ask(&runtime.client(), Prompt::text("Hi"), greedy(40)).await;
    let answers = robot.subscribe(topic("answer")).await;
    let tokens = robot.subscribe(topic("tokens")).await;
    let request = r#"{"prompt":"Hi","n_predict":40,"temperature":0,"ignore_eos":true}"#;
    for prompt in [request, r#"{"promt":"Hi"}"#, request] {
        robot
            .publish(topic("prompt"), Cdr::default().text(prompt))
            .await;
    }
    // No message at all.
    robot.publish(topic("prompt"), Cdr::default()).await;
    for _ in 0..2 {
        let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.attachment().unwrap().len(), 33);
        let answer = answer.payload().to_bytes();
        assert_eq!(Read::of(&answer).text(), expected.text);
    }
    let (mut text, mut ends, mut index) = (String::new(), Vec::new(), 0);
    while ends.len() < 4 {
        let event = tokio::time::timeout(PATIENCE, tokens.recv_async()).await;
        let event = event.unwrap().unwrap();
        let event = event.payload().to_bytes();
        let event: Value = serde_json::from_str(&Read::of(&event).text()).unwrap();
        if event["event"] == "token" && event["request"] == 1 {
            assert_eq!(event["index"], index);
            index += 1;
            text += event["text"].as_str().unwrap();
        } else if event["event"] != "token" {
            ends.push((event["request"].clone(), event["event"].clone()));
        }
    }
    assert_eq!(text, expected.text);
    ends.sort_by_key(|(n, _)| n.as_u64());
    let expected = [(1, "done"), (2, "error"), (3, "done"), (4, "error")];
    assert_eq!(
        ends,
        expected.map(|(n, end)| (Value::from(n), Value::from(end)))
    );
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_prompt_and_reset_stop_what_was_asked_and_say_so() {
    let mut settings = Settings::default();
    settings.ros2.ros2_barge_in = Some(true);
    let (_dir, runtime, robot) = start_with(60.0, settings).await;
    let tokens = robot.subscribe(topic("tokens")).await;
    let request = r#"{"prompt":"Hi","n_predict":400,"ignore_eos":true}"#;
    let ask = async || {
        let prompt = Cdr::default().text(request);
        robot.publish(topic("prompt"), prompt).await;
    };
    let next = async |kind: &str| loop {
        let event = tokio::time::timeout(PATIENCE, tokens.recv_async()).await;
        let event = event.unwrap().unwrap();
        let event = event.payload().to_bytes();
        let event: Value = serde_json::from_str(&Read::of(&event).text()).unwrap();
        if event["event"] == kind {
            let message = event["message"].as_str().unwrap_or_default();
            break (event["request"].as_u64(), message.to_owned());
        }
    };
    ask().await;
    assert_eq!(next("token").await.0, Some(1));
    ask().await;
    let stopped = next("error").await;
    assert_eq!(stopped, (Some(1), "stopped by a newer prompt".to_owned()));
    let reset = robot
        .call(format!("0/llm/reset/{TRIGGER}"), GID, Cdr::default())
        .await;
    assert_eq!(Read::of(&reset).byte(), 1);
    assert_eq!(
        next("error").await,
        (Some(2), "stopped by reset".to_owned())
    );
    ask().await;
    assert_eq!(next("token").await.0, Some(3));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_knows_the_model_and_sees_the_node() {
    let (_dir, runtime, robot) = start(1.0).await;
    let samples = robot.latched(&topic("model")).await;
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0].key_expr().as_str(), topic("model"));
    assert!(samples[0].source_info().is_some());
    let model = samples[0].payload().to_bytes();
    assert_eq!(Read::of(&model).text(), "model-9");
    let tokens = robot.tokens().await;
    let of = |kind: &str| {
        let kind = format!("/{kind}/%/%llm/jupiter");
        tokens.iter().filter(|token| token.contains(&kind)).count()
    };
    // answer, tokens, model, status, feedback and status of goals; prompt; 3 of the action, ask, reset, 6 of
    // parameters.
    assert_eq!((of("NN"), of("MP"), of("MS"), of("SS")), (1, 6, 1, 11));
    let running = async {
        loop {
            for sample in robot.latched(&topic("status")).await {
                let status = sample.payload().to_bytes();
                let status: Value = serde_json::from_str(&Read::of(&status).text()).unwrap();
                if status["phase"] == "running" && status["n_live"] == 0 {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, running).await.unwrap();
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_streams_and_its_result_is_whole_also_for_who_asks_late() {
    let (_dir, runtime, robot) = start(1.0).await;
    let expected = ask(&runtime.client(), Prompt::text("Hi"), greedy(60)).await;
    let feedback = robot.subscribe(part("feedback", FEEDBACK)).await;
    assert!(send(&robot, GID, goal(1, "Hi", 60)).await);
    assert!(
        !send(&robot, GID, goal(1, "Hi", 60)).await,
        "its id is known"
    );
    let (status, text, reason, error) = result(&robot, 1).await;
    assert_eq!(
        (status, reason.as_str(), error.as_str()),
        (SUCCEEDED, "length", "")
    );
    assert_eq!(text, expected.text);
    assert_eq!(result(&robot, 1).await.1, text, "a late result");
    let mut pieces = String::new();
    for index in 0.. {
        let Ok(Some(piece)) = feedback.try_recv() else {
            break;
        };
        let piece = piece.payload().to_bytes();
        let mut read = Read::of(&piece);
        read.skip(16);
        assert_eq!(read.u32(), index);
        pieces += &read.text();
    }
    assert_eq!(pieces, text);
    let statuses = robot.latched(&part("status", STATUS)).await;
    let statuses = statuses[0].payload().to_bytes();
    assert_eq!(Read::of(&statuses).u32(), 1);
    assert_eq!(statuses.last(), Some(&SUCCEEDED));
    // What cannot be asked for: the reason is in the result.
    assert!(send(&robot, GID, goal(2, "", 60)).await);
    let (status, _, reason, error) = result(&robot, 2).await;
    assert_eq!((status, reason.as_str()), (ABORTED, "error"));
    assert!(error.contains("prompt"), "{error}");
    let options = "{\"ignore_eos\": true, \"priority\": 0, \"deadline_ms\": 1}";
    assert!(send(&robot, GID, goal_with(3, "Hi", 400, options)).await);
    let (status, _, _, error) = result(&robot, 3).await;
    assert!(
        status == ABORTED && error.contains("within 1 ms"),
        "{error}"
    );
    assert_eq!(result(&robot, 99).await.0, 0, "a goal that nobody sent");
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_ends_when_it_is_cancelled_and_when_its_robot_is_gone() {
    let (_dir, runtime, robot) = start(60.0).await;
    let feedback = robot.subscribe(part("feedback", FEEDBACK)).await;
    let begun = async || {
        let piece = tokio::time::timeout(PATIENCE, feedback.recv_async()).await;
        piece.unwrap().unwrap();
    };
    assert!(send(&robot, GID, goal(1, "Hi", 400)).await);
    begun().await;
    let cancel = |id: u8| {
        Cdr::default()
            .raw(&[id; 16])
            .put(&0_i32.to_le_bytes())
            .put(&0_u32.to_le_bytes())
    };
    let key = part("cancel_goal", CANCEL);
    let response = robot.call(key.clone(), GID, cancel(1)).await;
    let mut read = Read::of(&response);
    assert_eq!((read.byte(), read.u32()), (0, 1));
    let (status, text, reason, _) = result(&robot, 1).await;
    assert_eq!((status, reason.as_str()), (CANCELED, "canceled"));
    assert!(!text.is_empty());
    let code = async |id| Read::of(&robot.call(key.clone(), GID, cancel(id)).await).byte();
    assert_eq!((code(1).await, code(9).await), (3, 2));

    let other = Robot::at(&runtime.ros2_endpoints().await[0]).await;
    let (token, gid) = other.client_token().await;
    while feedback.try_recv().is_ok_and(|piece| piece.is_some()) {}
    assert!(send(&other, gid, goal(2, "Hi", 400)).await);
    begun().await;
    drop(token);
    other.session.close().await.unwrap();
    assert_eq!(result(&robot, 2).await.0, CANCELED);
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_answer_and_survive_what_is_none_of_theirs() {
    let (_dir, runtime, robot) = start(1.0).await;
    let expected = ask(&runtime.client(), Prompt::text("Hi"), greedy(9)).await;
    let key = format!("0/llm/ask/{ASK}");
    let options = r#"{"n_predict": 9, "temperature": 0, "ignore_eos": true}"#;
    let asked = robot
        .call(key.clone(), GID, Cdr::default().text("Hi").text(options))
        .await;
    let mut read = Read::of(&asked);
    assert_eq!((read.byte(), read.text()), (1, expected.text));
    let asked = robot
        .call(
            key.clone(),
            GID,
            Cdr::default().text("Hi").text("{\"n_predict\": 0}"),
        )
        .await;
    let mut read = Read::of(&asked);
    assert_eq!((read.byte(), read.text()), (0, String::new()));
    assert!(read.text().contains("n_predict"));
    // Cut, and a length of 4 GB.
    for message in [Cdr::default(), Cdr::default().put(&u32::MAX.to_le_bytes())] {
        let answer = robot.call(key.clone(), GID, message).await;
        assert_eq!(Read::of(&answer).byte(), 0, "not ok");
    }
    let reset = robot
        .call(format!("0/llm/reset/{TRIGGER}"), GID, Cdr::default())
        .await;
    assert_eq!(Read::of(&reset).byte(), 1);
    let list = Cdr::default()
        .put(&0_u32.to_le_bytes())
        .put(&0_u64.to_le_bytes());
    let listed = robot
        .call(format!("0/llm/jupiter/list_parameters/{LIST}"), GID, list)
        .await;
    let mut read = Read::of(&listed);
    assert_eq!(
        (read.u32(), read.text(), read.text()),
        (2, "model".to_owned(), "ctx_size".to_owned())
    );
    // One parameter: name, type, then an empty value of it.
    let set = Cdr::default()
        .put(&1_u32.to_le_bytes())
        .text("model")
        .raw(&[4, 0])
        .raw(&[0; 128]);
    let set = robot
        .call(format!("0/llm/jupiter/set_parameters/{SET}"), GID, set)
        .await;
    let mut read = Read::of(&set);
    assert_eq!((read.u32(), read.byte()), (1, 0));
    assert!(read.text().contains("read only"));
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_one_name_are_refused_and_a_router_that_comes_late_is_found() {
    let (dir, runtime, _robot) = start(1.0).await;
    let router = runtime.ros2_endpoints().await.remove(0);
    let path = model(dir.path(), 9);
    let node = |place: &str| {
        let mut settings = Settings::default();
        settings.ros2.ros2_domain = Some(0);
        head(&path)
            .settings(settings)
            .model(&path)
            .ctx(512)
            .threads(1)
            .ros2(place)
    };
    let error = node(&router).start().await.err().unwrap();
    assert!(
        matches!(&error, Error::Ros2(Ros2Error::TwoNodes { name, .. }) if name == "/llm/jupiter")
    );
    runtime.shutdown().await;

    let second = node(&router).start().await.unwrap();
    let router = session("router", "listen", &router).await;
    let seen = async {
        let mut tokens = router
            .liveliness()
            .declare_subscriber("@ros2_lv/0/*/*/*/NN/**");
        tokens = tokens.history(true);
        tokens.await.unwrap().recv_async().await.unwrap()
    };
    let token = tokio::time::timeout(Duration::from_secs(30), seen)
        .await
        .unwrap();
    assert!(token.key_expr().as_str().ends_with("/%llm/jupiter"));
    // Another one that began at the same time: the one with the smaller name stays.
    let tokens = router
        .liveliness()
        .declare_subscriber("@ros2_lv/0/*/*/*/NN/**");
    let tokens = tokens.await.unwrap();
    let other = "@ros2_lv/0/0/0/0/NN/%/%llm/jupiter";
    let other = router.liveliness().declare_token(other).await.unwrap();
    let gone = async {
        loop {
            let sample = tokens.recv_async().await.unwrap();
            if sample.kind() == SampleKind::Delete && sample.key_expr() == token.key_expr() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    // It comes back when the name is free.
    drop(other);
    let back = async {
        loop {
            let sample = tokens.recv_async().await.unwrap();
            let is_its = sample.key_expr().as_str().ends_with("/%llm/jupiter");
            if sample.kind() == SampleKind::Put && is_its {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    second.shutdown().await;
    router.close().await.unwrap();
}
