//! `jupiter top`, of a head that serves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::{FOLDER, command, jupiter, text};

#[test]
fn one_frame_of_a_serving_head_is_text_and_without_one_a_line_says_so() {
    let serve = [
        "serve",
        "-m",
        "m.gguf",
        "--cluster",
        "top",
        "--listen",
        "tcp/127.0.0.1:0",
        "-t",
        "1",
        "--plan",
        "even",
        "--json",
    ];
    let mut head = command(&FOLDER, &serve)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(head.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let endpoint = first["endpoints"][0].as_str().unwrap().to_owned();
    let is_running = |line: String| line.contains(r#""phase":"running""#);
    assert!(lines.any(|line| is_running(line.unwrap())));
    let top = |cluster: &str| {
        let connect = ["--once", "--interval-ms", "60", "--connect", &endpoint];
        jupiter(&[&["top", "--cluster", cluster][..], &connect].concat())
    };
    let told = top("top");
    let frame = text(&told.stdout);
    assert!(told.status.success(), "{}", text(&told.stderr));
    for part in [
        "running, epoch",
        "nodes: 1; requests: 0 running",
        "0 of ",
        "tokens/s",
        "0..",
        "prio",
    ] {
        assert!(frame.contains(part), "{part}: {frame}");
    }
    let other = top("other");
    let told = text(&other.stderr);
    assert_eq!(other.status.code(), Some(1));
    assert!(
        told.contains("no head of the cluster other") && told.lines().count() == 1,
        "{told}"
    );
    head.kill().unwrap();
    head.wait().unwrap();
    let gone = top("top");
    assert!(
        text(&gone.stderr).contains("nobody answers at"),
        "{}",
        text(&gone.stderr)
    );
    let piped = jupiter(&["top"]);
    assert_eq!(piped.status.code(), Some(2));
    assert!(text(&piped.stderr).contains("--once"));
}
