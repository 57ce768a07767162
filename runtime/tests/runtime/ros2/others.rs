//! Robots of other distributions, with other names, and such that ask llama_ros otherwise.

use jupiter::config::Ros2Distro;
use jupiter::{Runtime, Settings};
use jupiter_models::synth::ScriptedSpec;

use super::robot::{Cdr, Read, Robot};
use super::{GID, SUCCEEDED};
use crate::support::{PATIENCE, head};

/// What Humble writes where others have a hash.
const NO_HASH: &str = "TypeHashNotSupported";

/// A runtime whose model says "I am here.", and a robot of Humble.
async fn start(mut settings: Settings) -> (tempfile::TempDir, Runtime, Robot) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scripted.gguf");
    let said = ["I", " am", " here", "."];
    ScriptedSpec::saying(&said).write(&path).unwrap();
    settings.ros2.ros2_domain = Some(0);
    settings.ros2.ros2_distro = Some(Ros2Distro::Humble);
    let builder = head(&path).settings(settings).model(&path).ctx(2048);
    let builder = builder.threads(1).ros2("router@tcp/127.0.0.1:0");
    let runtime = builder.start().await.unwrap();
    let robot = Robot::at(&runtime.ros2_endpoints().await[0]).await;
    (dir, runtime, robot)
}

fn key(name: &str, ty: &str) -> String {
    format!("0/{name}/{ty}/{NO_HASH}")
}

#[tokio::test(flavor = "multi_thread")]
async fn humble_has_no_hashes_and_names_can_be_others() {
    let mut settings = Settings::default();
    let remaps = ["prompt:=/robot/ask", "/llm/answer:=said"];
    settings.ros2.ros2_remap = remaps.map(str::to_owned).to_vec();
    let (_dir, runtime, robot) = start(settings).await;
    let string = "std_msgs::msg::dds_::String_";
    let answers = robot.subscribe(key("llm/said", string)).await;
    let prompt = Cdr::default().text("Where are you?");
    robot.publish(key("robot/ask", string), prompt).await;
    let answer = tokio::time::timeout(PATIENCE, answers.recv_async()).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(Read::of(&answer.payload().to_bytes()).text(), "I am here.");
    let tokens = robot.tokens().await;
    let of_ask = tokens.iter().filter(|token| token.contains("%robot%ask"));
    assert_eq!(of_ask.count(), 1, "{tokens:?}");
    assert!(
        tokens.iter().all(|token| !token.contains("RIHS01")),
        "{tokens:?}"
    );
    assert!(
        !tokens.iter().any(|token| token.contains("%llm%prompt")),
        "{tokens:?}"
    );
    runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_llama_ros_is_answered_under_its_names() {
    let package = tempfile::tempdir().unwrap();
    let package = package.path().join("llama_msgs");
    for (path, text) in [
        (
            "action/GenerateResponse.action",
            "string prompt\npictures/Picture[] images\nstring[] stop\nbool reset\n\
             SamplingConfig sampling_config\n---\nResponse response\n---\n\
             PartialResponse partial_response",
        ),
        ("../pictures/msg/Picture.msg", "uint8[] data"),
        (
            "msg/SamplingConfig.msg",
            "float32 temp 0.8\nint32 n_prev 64",
        ),
        ("msg/Response.msg", "string text\nint32[] tokens"),
        ("msg/PartialResponse.msg", "string text\nint32 token"),
    ] {
        let path = package.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut settings = Settings::default();
    // What the first names is in the second.
    let other = package.join("../pictures");
    settings.ros2.ros2_interfaces = vec![package, other];
    settings.ros2.ros2_name = Some("/llama/llama_node".to_owned());
    let (_dir, runtime, robot) = start(settings).await;
    let part = |name: &str, ty: &str| {
        let ty = format!("llama_msgs::action::dds_::GenerateResponse_{ty}_");
        key(&format!("llama/generate_response/_action/{name}"), &ty)
    };
    let feedback = robot.subscribe(part("feedback", "FeedbackMessage")).await;
    let goal = Cdr::default()
        .raw(&[1; 16])
        .text("Where are you?")
        .put(&0_u32.to_le_bytes()) // images
        .put(&0_u32.to_le_bytes()) // stop
        .raw(&[0]) // reset
        .put(&0_f32.to_le_bytes())
        .put(&64_i32.to_le_bytes());
    let accepted = robot.call(part("send_goal", "SendGoal"), GID, goal).await;
    assert_eq!(Read::of(&accepted).byte(), 1);
    let request = Cdr::default().raw(&[1; 16]);
    let result = robot
        .call(part("get_result", "GetResult"), GID, request)
        .await;
    let mut result = Read::of(&result);
    assert_eq!(result.byte(), SUCCEEDED);
    assert_eq!(result.text(), "I am here.");
    let first = tokio::time::timeout(PATIENCE, feedback.recv_async()).await;
    let first = first.unwrap().unwrap().payload().to_bytes().to_vec();
    // Behind the header and the goal's id.
    let mut first = Read(&first, 20);
    assert!("I am here.".starts_with(&first.text()));
    runtime.shutdown().await;
}
