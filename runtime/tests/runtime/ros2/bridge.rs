//! Robots of a DDS: what a bridge to zenoh hears.

use jupiter::Settings;

use super::robot::{Cdr, Read, goal};
use super::start_with;
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn robots_behind_a_bridge_ask_by_topic_service_and_action() {
    let mut settings = Settings::default();
    settings.ros2.ros2_bridge = Some(true);
    let (_dir, runtime, robot) = start_with(1.0, settings).await;
    let answers = robot.subscribe("llm/answer".to_owned()).await;
    let feedback = "llm/generate/_action/feedback".to_owned();
    let feedback = robot.subscribe(feedback).await;
    let prompt = r#"{"prompt":"Hi","n_predict":9,"ignore_eos":true}"#;
    let prompt = Cdr::default().text(prompt);
    robot.publish("llm/prompt".to_owned(), prompt).await;
    let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
    let answer = answer.unwrap().unwrap();
    assert!(answer.attachment().is_none());
    assert!(!Read::of(&answer.payload().to_bytes()).text().is_empty());

    // The bridge's attachment is none of rmw_zenoh's, and the dummy of an empty request is left out.
    let call = async |key: &str, request: Cdr| {
        let replies = robot.session.get(key).payload(request.bytes());
        let replies = replies.attachment([b"rqh".as_slice(), &[7; 17]].concat());
        let reply = replies.timeout(PATIENCE).await.unwrap().recv_async().await;
        let sample = reply.unwrap().into_result().unwrap();
        sample.payload().to_bytes().to_vec()
    };
    let reset = call("llm/reset", Cdr::default()).await;
    assert_eq!(Read::of(&reset).byte(), 1);
    let accepted = call("llm/generate/_action/send_goal", goal(1, "Hi", 20)).await;
    assert_eq!(Read::of(&accepted).byte(), 1);
    let id = Cdr::default().raw(&[1; 16]);
    let result = call("llm/generate/_action/get_result", id).await;
    let mut result = Read::of(&result);
    assert_eq!(result.byte(), 4);
    let piece = tokio::time::timeout(PATIENCE, feedback.recv_async()).await;
    let piece = piece.unwrap().unwrap().payload().to_bytes().to_vec();
    let mut piece = Read::of(&piece);
    piece.skip(20);
    let (text, first) = (result.text(), piece.text());
    assert!(!first.is_empty() && text.starts_with(&first), "{text}");

    assert_eq!(robot.latched("llm/model").await.len(), 1);
    let zid = "@/*/@ros2_lv/AS/llm§generate/jupiter_msgs§action§Generate";
    let tokens = robot.session.liveliness().get(zid).await.unwrap();
    assert!(tokens.recv_async().await.is_ok(), "the action is announced");
    runtime.shutdown().await;
}
