//! The command as a person uses it: what it prints, how it ends, and what it leaves behind.

#![allow(clippy::unwrap_used)]

mod answers;
mod default_model;
mod ends;
mod files;
mod hub;
mod inputs;
mod kernels;
mod load;
mod plan;
mod simulate;
mod templates;
mod thoughts;
mod top;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything; far more than a slow machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A model that all tests share, in a folder with the cache.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
    std::fs::create_dir_all(&folder).unwrap();
    let output = jupiter_in(&folder, &["synth", "--type", "f32", "-o", "m.gguf"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder
});

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jupiter"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null());
    command.env("JUPITER_CACHE", folder.join("cache"));
    command
}

fn jupiter_in(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn jupiter(arguments: &[&str]) -> Output {
    jupiter_in(&FOLDER, arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The token ids of a `run --json`, and its last event.
fn events(stdout: &str) -> (Vec<i64>, Value) {
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids = lines
        .iter()
        .filter_map(|event| event["id"].as_i64())
        .collect();
    (ids, lines.last().unwrap().clone())
}

/// Waits for `done`, and fails the test when it does not come.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bad_input_is_one_line_and_an_exit_code() {
    std::fs::write(FOLDER.join("not.gguf"), "not a model").unwrap();
    let model = std::fs::read(FOLDER.join("m.gguf")).unwrap();
    std::fs::write(FOLDER.join("short.gguf"), &model[..model.len() / 2]).unwrap();
    std::fs::write(FOLDER.join("bad.toml"), "ctx_sise = 1").unwrap();
    let run = ["run", "-m", "m.gguf", "-p", "Hello"];
    let with = |more: &[&'static str]| [&run, more].concat();
    for (arguments, code, named) in [
        (vec!["run", "-m", "no.gguf", "-p", "x"], 1, "no.gguf"),
        (vec!["run", "-m", "not.gguf", "-p", "x"], 1, "GGUF"),
        (vec!["run", "-m", "short.gguf", "-p", "x"], 1, "short.gguf"),
        (vec!["run"], 2, "-p TEXT"),
        (vec!["run", "-m", "m.gguf", "-p", " "], 1, "empty"),
        (with(&["-f", "x"]), 2, "not both"),
        (with(&["-n", "0"]), 2, "at least 1 token"),
        (with(&["--priority", "9"]), 2, "priority is 9: send 0"),
        (with(&["--deadline-ms", "0"]), 2, "deadline_ms is 0"),
        (with(&["--deadline", "answer"]), 2, "add --deadline-ms"),
        (with(&["--stages", "7"]), 1, "1 to 6 stages"),
        (with(&["--stages", "7", "--processes"]), 1, "1 to 6 stages"),
        (with(&["--split", "2,3"]), 1, "covers 5 layers"),
        (with(&["--processes"]), 2, "--stages"),
        (with(&["-c", "8"]), 1, "-c/--ctx-size"),
        (with(&["-c", "4000000000"]), 1, "ctx_size"),
        (with(&["--grammar", "root = x"]), 1, "grammar"),
        (with(&["--config", "bad.toml"]), 1, "`ctx_size`"),
        (with(&["--no-such-flag"]), 2, "--no-such-flag"),
        (vec!["worker"], 2, "--connect"),
        (vec!["split"], 2, "--stages"),
        (vec!["synth", "--embd", "33", "-o", "x.gguf"], 1, "embd"),
        (
            vec!["bench", "-m", "m.gguf", "-p", "0", "-n", "0"],
            2,
            "-p or -n",
        ),
        (
            vec!["bench", "-m", "m.gguf", "--timeline", "t.svg"],
            2,
            ".html or .json",
        ),
        (
            vec!["bench", "-m", "m.gguf", "--timeline", "no/such/t.html"],
            1,
            "no/such/t.html",
        ),
    ] {
        let output = jupiter(&arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(
            told.starts_with("error: ") && told.contains(named),
            "{arguments:?}: {told}"
        );
        assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    }
}

#[test]
fn a_timeline_holds_every_step_at_every_stage_of_the_best_runs() {
    let bench =
        "bench -m m.gguf --stages 2 --processes --chunk 8 -p 24 -n 4 -r 2 --timeline t.json";
    let output = jupiter(&bench.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let trace = std::fs::read(FOLDER.join("t.json")).unwrap();
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let rows_of = |test: u64, lane: &str| -> Vec<(u64, u64)> {
        let of_test = || events.iter().filter(move |event| event["pid"] == test);
        let mut named = of_test().filter(|e| {
            let name = e["args"]["name"].as_str();
            e["name"] == "thread_name" && name.is_some_and(|name| name.starts_with(lane))
        });
        let thread = &named.next().unwrap()["tid"];
        let spans = of_test().filter(|e| e["ph"] == "X" && e["tid"] == *thread);
        let rows = |e: &Value, of: &str| e["args"][of].as_u64().unwrap();
        spans
            .map(|e| (rows(e, "prompt rows"), rows(e, "decode rows")))
            .collect()
    };
    for lane in ["stage 0", "stage 1"] {
        assert_eq!(rows_of(0, lane), [(8, 0); 3], "{lane}");
        // The prompt of one token, and the four that are measured.
        let generated = [(1, 0), (0, 1), (0, 1), (0, 1), (0, 1)];
        assert_eq!(rows_of(1, lane), generated, "{lane}");
    }
    let taken = events.iter().filter(|event| event["ph"] == "X");
    assert!(
        taken
            .map(|e| e["dur"].as_f64().unwrap())
            .all(|us| us >= 0.0)
    );
}

#[test]
fn stages_give_the_text_of_the_whole_model_also_in_processes() {
    let run = |more: &[&str]| {
        let run = [
            "run", "-m", "m.gguf", "-p", "Hello", "-n", "24", "--temp", "0", "--json",
        ];
        let output = jupiter(&[&run, more].concat());
        assert!(
            output.status.success(),
            "{more:?}: {}",
            text(&output.stderr)
        );
        events(&text(&output.stdout))
    };
    let (whole, done) = run(&[]);
    assert_eq!((whole.len(), &done["event"]), (24, &Value::from("done")));
    for (more, n_stages) in [
        (&["--stages", "2"][..], 2),
        (&["--split", "1,4,1", "-t", "1"], 3),
        (&["--stages", "2", "--processes"], 2),
    ] {
        let (ids, done) = run(more);
        assert_eq!(ids, whole, "{more:?}");
        assert_eq!(done["stages"].as_array().unwrap().len(), n_stages, "{done}");
        assert!(
            done["stages"][0]["busy_ms"].as_f64().unwrap() > 0.0,
            "{done}"
        );
    }
}

#[test]
fn chat_over_a_pipe_answers_each_line() {
    let arguments = [
        "chat", "-m", "m.gguf", "-n", "4", "--temp", "0", "--stages", "2",
    ];
    let mut chat = command(&FOLDER, &arguments);
    chat.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut chat = chat.spawn().unwrap();
    chat.stdin
        .take()
        .unwrap()
        .write_all(b"Hello\n/reset\nHello\n")
        .unwrap();
    let output = chat.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers = text(&output.stdout);
    let (first, second) = answers.trim_end().split_at(answers.trim_end().len() / 2);
    assert_eq!(
        first.trim(),
        second.trim(),
        "after a reset the same question has the same answer"
    );
}

#[cfg(target_os = "linux")]
mod processes {
    use super::*;

    /// Less than the parent's patience with stage processes that do not end by themselves.
    const GENTLE_END: Duration = Duration::from_secs(4);

    /// Process ids of the living children of `parent`.
    pub(crate) fn children(parent: &Child) -> Vec<u32> {
        let mut pids = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", parent.id()))
            .into_iter()
            .flatten()
        {
            let of_task = std::fs::read_to_string(task.unwrap().path().join("children"));
            let of_task = of_task.unwrap_or_default();
            pids.extend(
                of_task
                    .split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
        }
        pids
    }

    fn is_alive(pid: u32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.starts_with("State:") && !line.contains('Z'))
    }

    pub(crate) fn signal(name: &str, pid: u32) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid.to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// The command with signals as `setting` says, an option of GNU `env`. Whatever signals the tests
    /// were started to ignore, those that it does not name are as for a program from a shell.
    pub(crate) fn with_signals(setting: Option<&str>, arguments: &[&str]) -> Command {
        let plain = command(&FOLDER, arguments);
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,HUP,TERM").args(setting);
        command.arg(plain.get_program()).args(plain.get_args());
        command.current_dir(plain.get_current_dir().unwrap());
        let set = plain.get_envs();
        command.envs(set.filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null());
        command
    }

    /// A long answer by two stage processes, and its lines.
    fn long_answer() -> (Child, impl Iterator<Item = String>) {
        let run = [
            "run", "-m", "m.gguf", "-p", "Hello", "-n", "1500", "--temp", "0",
        ];
        let more = [
            "--ignore-eos",
            "--stages",
            "2",
            "--processes",
            "-t",
            "1",
            "--json",
        ];
        let mut run = with_signals(None, &[&run[..], &more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(run.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        (run, lines)
    }

    #[test]
    fn an_answer_goes_on_when_a_stage_is_killed() {
        let (mut run, mut lines) = long_answer();
        let mut stdout: String = lines.by_ref().take(100).map(|line| line + "\n").collect();
        signal("KILL", children(&run)[0]);
        stdout.extend(lines.map(|line| line + "\n"));
        let (ids, done) = events(&stdout);
        assert!(run.wait().unwrap().success(), "{done}");
        assert_eq!(ids.len(), 1500);
        assert!(done["n_replays"].as_u64().unwrap() >= 1, "{done}");
    }

    #[test]
    fn stage_processes_end_with_their_parent_however_that_ends() {
        for (name, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
            let (mut run, mut lines) = long_answer();
            lines.next().unwrap();
            let stages = children(&run);
            assert_eq!(stages.len(), 2);
            let start = Instant::now();
            signal(name, run.id());
            assert_eq!(run.wait().unwrap().code(), code, "SIG{name}");
            assert!(
                start.elapsed() < GENTLE_END,
                "SIG{name}: the stage processes were killed"
            );
            wait_until("the stage processes to end", || {
                !stages.iter().any(|pid| is_alive(*pid))
            });
        }
    }
}

#[test]
fn a_slice_is_written_under_a_readable_name_and_nothing_else() {
    let output = jupiter(&[
        "split", "-m", "m.gguf", "--split", "2,4", "-o", "slices", "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut files: Vec<PathBuf> = std::fs::read_dir(FOLDER.join("slices"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["m-0-2.gguf", "m-2-6.gguf"]);
}
