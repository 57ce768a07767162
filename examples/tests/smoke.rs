//! The examples start and answer, as their first lines say, with the default model.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

/// Runs an example that `cargo test` has built beside this test.
fn example(name: &str, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join(name);
    Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
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
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("listen/endpoints", r#"["tcp/127.0.0.1:0"]"#),
        ("scouting/multicast/enabled", "false"),
    ] {
        config.insert_json5(key, value).unwrap();
    }
    let head = zenoh::open(config).await.unwrap();
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
