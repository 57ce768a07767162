//! The examples start and answer, as their first lines say, with the default model.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// An example that `cargo test` has built beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    profile.join("examples").join(name)
}

/// What it says and how it ends.
fn example(name: &str, arguments: &[&str]) -> Output {
    let program = program(name);
    Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// A program that runs beside the test, and no longer.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A session that finds nobody by itself.
async fn session(settings: &[(&str, &str)]) -> zenoh::Session {
    let mut config = zenoh::Config::default();
    for (key, value) in [&[("scouting/multicast/enabled", "false")], settings].concat() {
        config.insert_json5(key, value).unwrap();
    }
    zenoh::open(config).await.unwrap()
}

#[test]
fn the_chatbot_and_the_embedded_library_answer_alike() {
    let question = "What is a lidar?";
    let chatbot = example("chatbot", &["--prompt", question]);
    let told = String::from_utf8_lossy(&chatbot.stderr);
    assert!(chatbot.status.success(), "{told}");
    assert!(told.contains("stage 1: "), "{told}");
    let answer = String::from_utf8(chatbot.stdout).unwrap();
    assert!(!answer.trim().is_empty(), "{told}");

    let embedded = example("embedded", &[question]);
    let told = String::from_utf8_lossy(&embedded.stderr);
    assert!(embedded.status.success(), "{told}");
    let same = String::from_utf8(embedded.stdout).unwrap();
    assert!(same.starts_with(answer.trim_end()), "{same}");
}

/// A head that takes prompts and is frozen then.
#[tokio::test(flavor = "multi_thread")]
async fn the_zenoh_client_does_not_wait_for_ever() {
    let head = session(&[("listen/endpoints", r#"["tcp/127.0.0.1:0"]"#)]).await;
    let prompts = head.declare_subscriber("jupiter/frozen/prompt/*");
    let _prompts = prompts.await.unwrap();
    let connect = head.info().locators().await[0].to_string();
    let arguments = ["--cluster", "frozen", "--silence", "1", "--connect"].map(str::to_owned);
    let client = tokio::task::spawn_blocking(move || {
        let arguments = arguments.iter().map(String::as_str);
        let arguments: Vec<&str> = arguments.chain([connect.as_str(), "Hello"]).collect();
        example("zenoh_client", &arguments)
    });
    let client = client.await.unwrap();
    let told = String::from_utf8_lossy(&client.stderr);
    assert!(!client.status.success(), "{told}");
    assert!(told.contains("has said nothing for 1 s"), "{told}");
    head.close().await.unwrap();
}

/// The node listens where it says, and answers a prompt of a robot.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_ros2_answers_a_robot() {
    let node = Command::new(program("ros2_node"))
        .args(["--at", "router@tcp/127.0.0.1:0"])
        .env("ROS_DOMAIN_ID", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut node = Running(node.unwrap());
    let mut ready = String::new();
    let stdout = node.0.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut ready).unwrap();
    let router = ready.trim().strip_prefix("ready ").unwrap();
    let endpoints = format!("[\"{router}\"]");
    let robot = session(&[("mode", "\"client\""), ("connect/endpoints", &endpoints)]).await;
    let text = "std_msgs::msg::dds_::String_/RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18";
    let answers = robot.declare_subscriber(format!("0/llm/answer/{text}"));
    let answers = answers.await.unwrap();
    let prompts = robot.declare_publisher(format!("0/llm/prompt/{text}"));
    let prompts = prompts.await.unwrap();
    while !prompts.matching_status().await.unwrap().matching() {
        tokio::task::yield_now().await;
    }
    // A message: 4 bytes of header, the number of bytes with the final 0, the text.
    prompts
        .put(b"\0\x01\0\0\x11\0\0\0What is a lidar?\0".as_slice())
        .await
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), answers.recv_async());
    let answer = answer.await.unwrap().unwrap();
    let answer = answer.payload().to_bytes();
    assert!(String::from_utf8_lossy(&answer[8..]).contains("lidar"));
    robot.close().await.unwrap();
}
