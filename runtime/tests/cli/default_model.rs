//! The command without `-m`. The model may be trained anew: what it says is not looked at, only
//! whether it has the form of an answer.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use super::{FOLDER, command, events, jupiter, jupiter_in, text};

const QUESTION: &str = "What is a lidar?";
/// How the line begins that tells of the default model.
const NOTICE: &str = "No model given (-m FILE)";

/// Ends with the test, however that ends.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::of(&mut command(&FOLDER, arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().unwrap()).lines()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(output: &Output) -> String {
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    told
}

#[test]
fn a_question_is_answered_with_a_sentence() {
    let output = jupiter(&["run", "-p", QUESTION]);
    let told = told(&output);
    assert_eq!(told.matches(NOTICE).count(), 1, "{told}");
    let answer = text(&output.stdout);
    let answer = answer.trim();
    assert!(answer.starts_with(char::is_uppercase), "{answer}");
    assert!(answer.ends_with('.'), "{answer}");
    assert!(answer.split_whitespace().count() > 3, "{answer}");
}

#[test]
fn a_model_that_is_named_needs_no_notice() {
    let output = jupiter(&["run", "-m", "m.gguf", "-p", QUESTION, "-n", "1"]);
    assert!(!told(&output).contains(NOTICE));
}

#[test]
fn stages_give_the_text_of_the_whole_model() {
    // One thread each, so that nothing but the cut differs.
    let run = ["run", "-p", QUESTION, "-n", "64", "-t", "1", "--json"];
    let ask = |more: &[&str]| {
        let output = jupiter(&[&run, more].concat());
        let told = told(&output);
        assert!(!told.contains("no guesses"), "{told}");
        let (ids, done) = events(&text(&output.stdout));
        (ids, done["stages"].as_array().unwrap().len())
    };
    let (whole, n_stages) = ask(&[]);
    assert_eq!(n_stages, 1);
    assert!(!whole.is_empty());
    assert_eq!(ask(&["--stages", "2"]), (whole.clone(), 2));
    assert_eq!(ask(&["--stages", "2", "--processes"]), (whole, 2));
}

#[test]
fn a_head_and_a_worker_have_the_same_model_without_a_word() {
    let cluster = format!("default-model-{}", std::process::id());
    let shared = ["--cluster", &cluster, "-t", "1", "--json"];
    let serve = [
        "serve",
        "--listen",
        "tcp/127.0.0.1:0",
        "--workers",
        "1",
        "--plan",
        "even",
    ];
    let mut head = Process::start(&[&serve[..], &shared].concat());
    let mut events = head
        .lines()
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let listening = events.next().unwrap();
    let endpoint = listening["endpoints"][0].as_str().unwrap();
    let _worker = Process::start(&[&["worker", "--connect", endpoint][..], &shared].concat());
    let plan = events.find(|event| event["phase"] == "running").unwrap();
    let stages = plan["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2, "{plan}");
    assert_ne!(stages[0]["node"], stages[1]["node"], "{plan}");
}

/// The copies of the model in a cache folder.
fn copies(cache: &Path) -> Vec<PathBuf> {
    let versions = std::fs::read_dir(cache.join("default")).unwrap();
    versions
        .map(|version| version.unwrap().path().join("robot-q8_0.gguf"))
        .collect()
}

#[test]
fn an_altered_copy_is_named_and_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let split = || jupiter_in(dir.path(), &["split", "--stages", "2"]);
    let first = told(&split());
    assert_eq!(first.lines().count(), 1, "{first}");
    let copies = copies(&dir.path().join("cache"));
    let [copy] = &copies[..] else {
        panic!("{copies:?}")
    };
    let whole = std::fs::read(copy).unwrap();
    std::fs::write(copy, &whole[..whole.len() / 2]).unwrap();
    let second = told(&split());
    assert!(second.contains(copy.to_str().unwrap()), "{second}");
    assert_eq!(std::fs::read(copy).unwrap(), whole);
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_the_remedies() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    std::fs::write(&cache, "no folder").unwrap();
    let output = jupiter_in(dir.path(), &["run", "-p", QUESTION]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    let error = told.lines().last().unwrap();
    for part in [
        "error: ",
        cache.to_str().unwrap(),
        "JUPITER_CACHE",
        "-m FILE",
    ] {
        assert!(error.contains(part), "{part}: {told}");
    }
}

/// The sockets of a process that reach beyond its machine, or could.
#[cfg(target_os = "linux")]
fn internet_sockets(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    let inodes: Vec<String> = targets
        .filter_map(|target| {
            let target = target.to_str()?.strip_prefix("socket:[")?;
            Some(target.strip_suffix(']')?.to_owned())
        })
        .collect();
    let tables = ["tcp", "tcp6", "udp", "udp6"];
    let lines = tables.iter().flat_map(|table| {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
        let table = table.unwrap_or_default();
        table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    });
    // The tenth column is the inode.
    let ours = |line: &String| {
        let inode = line.split_whitespace().nth(9);
        inode.is_some_and(|inode| inodes.iter().any(|ours| ours == inode))
    };
    lines.filter(ours).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn chat_answers_without_any_network() {
    let mut chat = Process::start(&["chat", "--stages", "2"]);
    let mut stdin = chat.0.stdin.take().unwrap();
    let mut lines = chat.lines();
    for _ in 0..2 {
        writeln!(stdin, "{QUESTION}").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(!answer.trim().is_empty());
        assert_eq!(internet_sockets(chat.0.id()), Vec::<String>::new());
    }
    drop(stdin);
    assert!(chat.0.wait().unwrap().success());
}

#[test]
fn an_answer_of_points_is_plain_text_in_order_when_piped() {
    let question = "How do I change the battery?";
    let run = ["run", "-p", question, "--outline", "on", "-t", "1"];
    let output = jupiter(&run);
    let (told, answer) = (told(&output), text(&output.stdout));
    assert!(told.contains(" points side by side | "), "{told}");
    assert!(
        !answer.replace('\n', "").contains(char::is_control),
        "{answer:?}"
    );
    let n_points = answer.lines().count();
    assert!(n_points >= 3, "{answer}");
    for (i, line) in answer.lines().enumerate() {
        assert!(line.starts_with(&format!("{}. ", i + 1)), "{answer}");
    }
    let output = jupiter(&[&run[..], &["--json"]].concat());
    let tokens: String = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "token")
        .map(|event| event["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(format!("{tokens}\n"), answer);
}
