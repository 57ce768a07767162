//! What is read as text, and what is told of answers that are cut.

use super::*;

/// A long answer in a small context.
const RUN: [&str; 8] = [
    "run",
    "-m",
    "m.gguf",
    "-p",
    "Hello",
    "--ignore-eos",
    "-c",
    "64",
];

#[test]
fn what_cut_an_answer_is_told_at_its_end() {
    for (n_predict, limit, told) in [
        ("-1", "context", "the context is full"),
        ("64", "context", "the context is full"),
        ("5", "n_predict", "n_predict is reached"),
    ] {
        let run = [&RUN[..], &["-n", n_predict]].concat();
        let output = jupiter(&run);
        let line = text(&output.stderr);
        assert!(line.ends_with(&format!("| length: {told}\n")), "{line}");
        let output = jupiter(&[&run[..], &["--json"]].concat());
        let (ids, done) = events(&text(&output.stdout));
        assert_eq!(
            (&done["reason"], &done["limit"]),
            (&"length".into(), &limit.into())
        );
        let n_prompt = done["n_prompt"].as_u64().unwrap() as usize;
        let n_most = n_predict.parse::<usize>().unwrap_or(usize::MAX);
        assert_eq!(ids.len(), n_most.min(64 - n_prompt), "{done}");
    }
}

#[test]
fn a_chat_makes_room_and_says_so() {
    let arguments = [
        "chat",
        "-m",
        "m.gguf",
        "-c",
        "130",
        "--temp",
        "0",
        "--ignore-eos",
        "-sys",
        "Be brief.",
    ];
    let mut chat = command(&FOLDER, &arguments);
    chat.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut chat = chat.spawn().unwrap();
    let long = "word ".repeat(200);
    let lines = format!("Hello\nAnd now?\n{long}\nAnd now?\n");
    let mut stdin = chat.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    let output = chat.wait_with_output().unwrap();
    let told = text(&output.stderr);
    let expected = [
        "(the answer was cut, as the context is full: raise -c/--ctx-size",
        "(the context of 130 tokens leaves too little room for an answer: forgot the oldest exchange;",
        "(the answer was cut, as the context is full",
        "error: the prompt has ",
        "(the context of 130 tokens leaves too little room for an answer: forgot the oldest exchange;",
        "(the answer was cut, as the context is full",
    ];
    let is_its = |line: &&str| line.starts_with(['(', 'e']);
    let lines: Vec<&str> = told.lines().filter(is_its).collect();
    assert_eq!(lines.len(), expected.len(), "{told}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{told}");
    }
    // One of the messages has no answer.
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_prompt() {
    let answer = |name: &str, bytes: &[u8]| {
        std::fs::write(FOLDER.join(name), bytes).unwrap();
        let run = [
            "run", "-m", "m.gguf", "--temp", "0", "-n", "8", "--json", "-f", name,
        ];
        let output = jupiter(&run);
        events(&text(&output.stdout))
    };
    let (plain, done) = answer("plain.txt", b"Hello");
    let (marked, of_marked) = answer("marked.txt", b"\xef\xbb\xbfHello\r\n");
    assert_eq!(marked, plain);
    assert_eq!(of_marked["n_prompt"], done["n_prompt"]);
    let (_, error) = answer("utf16.txt", b"\xff\xfeH\0i\0");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("utf16.txt: UTF-16 text"), "{message}");
}
