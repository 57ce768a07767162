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
