//! Prompts that become messages of other types.

use jupiter::{Error, Ros2Error, Runtime, Settings};
use jupiter_models::synth::ScriptedSpec;
use serde_json::Value;

use super::robot::{Cdr, FEEDBACK, Read, Robot, goal_of};
use super::{ABORTED, GID, SUCCEEDED, part, result, send, topic};
use crate::support::{PATIENCE, head, model};

const FLOAT: &str = "std_msgs::msg::dds_::Float32_/RIHS01_7170d3d8f841f7be3172ce5f4f59f3a4d7f63b0447e8b33327601ad64d83d6e2";

fn typed(topics: &[&str], limits: &[&str]) -> Settings {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let mut settings = Settings::default();
    settings.ros2.ros2_domain = Some(0);
    settings.ros2.ros2_topic = owned(topics);
    settings.ros2.ros2_limit = owned(limits);
    settings
}

/// The next answer, as JSON.
async fn answer(robot: &Robot, prompt: &str) -> Value {
    let answers = robot.subscribe(topic("answer")).await;
    let prompt = Cdr::default().text(prompt);
    robot.publish(topic("prompt"), prompt).await;
    let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
    let answer = answer.unwrap().unwrap();
    let answer = answer.payload().to_bytes();
    serde_json::from_str(&Read::of(&answer).text()).unwrap()
}

/// A model that says these tokens, and the robot that it has a topic for.
async fn saying(tokens: &[&str], limit: &str) -> (tempfile::TempDir, Runtime, Robot) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scripted.gguf");
    ScriptedSpec::saying(tokens).write(&path).unwrap();
    let settings = typed(&["level=std_msgs/Float32"], &[limit]);
    let builder = head(&path).settings(settings).model(&path).ctx(2048);
    let builder = builder.threads(1).ros2("router@tcp/127.0.0.1:0");
    let runtime = builder.start().await.unwrap();
    let robot = Robot::at(&runtime.ros2_endpoints().await[0]).await;
    (dir, runtime, robot)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_says_is_published_within_limits_or_not_at_all() {
    let level = ["{\"", "/llm/level", "\":{\"data", "\":8", "0}}"];
    for (tokens, limit, expected) in [
        (&level[..], "data=-1..80", Some(80.0..=80.0)),
        // What it would say has no place in the grammar.
        (&level, "data=-1..50", Some(-1.0..=50.0)),
        (
            &["{\"", "none", "\":\"not", " mine", "\"}"],
            "data=0..1",
            None,
        ),
    ] {
        let (_dir, runtime, robot) = saying(tokens, limit).await;
        let levels = robot.subscribe(format!("0/llm/level/{FLOAT}")).await;
        for prompt in ["Fill it.", r#"{"prompt":"Fill it.","n_predict":2}"#] {
            let is_cut = prompt.starts_with('{');
            let answer = answer(&robot, prompt).await;
            match expected.as_ref().filter(|_| !is_cut) {
                Some(range) => {
                    let level = answer["/llm/level"]["data"].as_f64().unwrap();
                    assert!(range.contains(&level), "{answer}");
                    let message = tokio::time::timeout(PATIENCE, levels.recv_async()).await;
                    let message = message.unwrap().unwrap();
                    let message = message.payload().to_bytes();
                    assert_eq!(message[4..], (level as f32).to_le_bytes());
                }
                None => {
                    let why = answer["none"].as_str().unwrap();
                    let due = if is_cut { "n_predict" } else { "not mine" };
                    assert!(why.contains(due), "{why}");
                    assert!(levels.try_recv().unwrap().is_none());
                }
            }
        }
        let own = answer(&robot, r#"{"prompt":"x","grammar":"root ::= \"a\""}"#).await;
        assert!(own["none"].as_str().unwrap().contains("grammar"), "{own}");
        runtime.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_of_the_default_model_is_a_velocity_within_the_limits_of_its_topic() {
    let twist = "geometry_msgs/msg/Twist";
    let settings = typed(&[&format!("/cmd_vel={twist}")], &["linear.x=-0.1..0.1"]);
    let builder = Runtime::builder().settings(settings).threads(1);
    let runtime = builder.ros2("router@tcp/127.0.0.1:0").start();
    let runtime = runtime.await.unwrap();
    let robot = Robot::at(&runtime.ros2_endpoints().await[0]).await;
    let feedback = robot.subscribe(part("feedback", FEEDBACK)).await;
    let asked = async |id: u8, prompt: &str, ty: &str| {
        assert!(send(&robot, GID, goal_of((id, prompt), 0, ty, "")).await);
        result(&robot, id).await
    };
    let (status, text, _, error) = asked(1, "Drive two metres backwards.", twist).await;
    assert_eq!((status, error.as_str()), (SUCCEEDED, ""));
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["linear"]["x"], -0.1);
    let piece = feedback.recv_async().await.unwrap();
    let piece = piece.payload().to_bytes();
    let mut read = Read::of(&piece);
    read.skip(16);
    assert_eq!((read.u32(), read.text()), (0, text));
    for (id, prompt, ty, expected) in [
        (2, "What is a lidar?", twist, "lidar"),
        (3, "Stop.", "std_msgs/msg/Bool", "-m"),
    ] {
        let (status, _, _, error) = asked(id, prompt, ty).await;
        assert!(status == ABORTED && error.contains(expected), "{error}");
    }
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_topic_or_a_limit_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = model(dir.path(), 9);
    let twist = "/cmd_vel=geometry_msgs/msg/Twist";
    for (topics, limits, expected) in [
        (
            &["/a=no_msgs/msg/No"][..],
            &[][..],
            "no_msgs/msg/No is not known",
        ),
        (&[twist], &["linear.w=0..1"], "has no `w`, but x, y, z"),
        (&[twist], &["linear.x=1..0"], "larger"),
        (&[], &["linear.x=0..1"], "no such topic"),
    ] {
        let builder = Runtime::builder().settings(typed(topics, limits));
        let builder = builder.model(&path).ctx(512).threads(1);
        let error = builder.ros2("router@tcp/127.0.0.1:0").start().await;
        let error = error.err().unwrap();
        let line = error.to_string();
        assert!(
            matches!(
                &error,
                Error::Ros2(Ros2Error::Topic { .. } | Ros2Error::Limit { .. })
            ),
            "{line}"
        );
        assert!(line.contains(expected) && !line.contains('\n'), "{line}");
    }
}
