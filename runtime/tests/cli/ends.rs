//! How the command ends: by signals, by itself, and never by a crash.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use jupiter_models::draw::splitmix;

use super::{FOLDER, command, text};
use crate::processes::{children, signal, with_signals};

/// Starts the command with signals as `setting` says, an option of GNU `env`.
fn start(setting: Option<&str>, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = with_signals(setting, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// Whether the process ignores the signal with this number.
fn ignores(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (signal - 1) & 1 == 1
}

const HUP: u32 = 1;
const INT: u32 = 2;
const TERM: u32 = 15;

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let worker = ["worker", "-m", "m.gguf", "--connect", "tcp/127.0.0.1:1"];
    let serve = ["serve", "-m", "m.gguf", "--listen", "tcp/127.0.0.1:0"];
    let run = "run -m m.gguf -p Hello -n 1500 --ignore-eos --json --stages 2 --processes -t 1";
    let run: Vec<&str> = run.split(' ').collect();
    for arguments in [&worker[..], &serve, &run] {
        let nohup = Some("--ignore-signal=HUP,INT");
        let (mut child, mut stdout) = start(nohup, arguments);
        stdout.read_line(&mut String::new()).unwrap();
        for pid in children(&child).into_iter().chain([child.id()]) {
            assert!(ignores(pid, HUP) && ignores(pid, INT), "{arguments:?}");
            assert!(!ignores(pid, TERM), "{arguments:?}");
        }
        signal("HUP", child.id());
        signal("TERM", child.id());
        let status = child.wait().unwrap();
        assert!(
            matches!(status.code(), Some(0 | 130)),
            "{arguments:?}: {status}"
        );
    }
}

#[test]
fn a_worker_waits_for_a_head_whose_name_does_not_resolve_and_says_so_once() {
    let connect = "tcp/no..such.name:7447";
    let arguments = ["worker", "-m", "m.gguf", "--connect", connect];
    let (mut worker, _stdout) = start(None, &arguments);
    let mut stderr = BufReader::new(worker.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert!(told.contains(connect) && told.contains("waiting"), "{told}");
    assert!(worker.try_wait().unwrap().is_none());
    signal("TERM", worker.id());
    assert_eq!(worker.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// ld.so tells when exit handlers run, in which C++ libraries take down what their threads use.
#[test]
fn no_way_out_runs_exit_handlers() {
    for (arguments, code) in [
        (&["devices"][..], 0),
        (&["--help"], 0),
        (&["run"], 2),
        (&["run", "-m", "no.gguf", "-p", "x"], 1),
        (&["run", "-m", "m.gguf", "-p", "Hello", "-n", "2"], 0),
    ] {
        let mut command = command(&FOLDER, arguments);
        let output = command.env("LD_DEBUG", "files").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("calling fini"), "{arguments:?}");
    }
}

/// Signals at moments of a seed. More of them: `JUPITER_INTERRUPTS=400 cargo test interrupted`.
#[test]
fn whoever_is_interrupted_ends_in_order() {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap(),
        _ => default,
    };
    let n = number("JUPITER_INTERRUPTS", 8);
    let first = number("JUPITER_INTERRUPT_SEED", 1);
    let verbs = [
        "run -m m.gguf -p Hello -n 32 --stages 2",
        "chat -m m.gguf -n 32 --stages 2",
        "serve -m m.gguf --listen tcp/127.0.0.1:0",
        "worker -m m.gguf --connect tcp/127.0.0.1:1",
        "run -m m.gguf -p Hello -n 32 --stages 2 --processes",
        "worker -m m.gguf --connect tcp/127.0.0.1:1 --end-with-stdin",
        "run -p Hello -n 32 --speculative draft",
        "plan -m m.gguf --listen tcp/127.0.0.1:0",
    ];
    for seed in first..first + n {
        let draw = |i: u64, below: u64| splitmix(seed.wrapping_mul(8) ^ i << 40) % below;
        let verb = verbs[(seed % verbs.len() as u64) as usize];
        let (name, number) = [("INT", 2), ("TERM", 15), ("HUP", 1)][draw(1, 3) as usize];
        let begun = Instant::now();
        let (mut child, mut stdout) = start(None, &verb.split(' ').collect::<Vec<_>>());
        if verb.starts_with("chat") {
            let stdin = child.stdin.as_mut().unwrap();
            stdin.write_all(b"Hello\nAnd now?\n").unwrap();
        }
        let mut stderr = child.stderr.take().unwrap();
        let told = std::thread::spawn(move || {
            let mut told = Vec::new();
            stderr.read_to_end(&mut told).map(|_| told)
        });
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        // The moment is the fault that is tried, not a wait for something.
        std::thread::sleep(Duration::from_millis(draw(2, 700)));
        // A process that has ended is not waited for yet, so that its id is its own.
        signal(name, child.id());
        let status = child.wait().unwrap();
        let what = format!("seed {seed}: {verb}, SIG{name} after {:?}", begun.elapsed());
        let told = text(&told.join().unwrap().unwrap());
        let in_order = matches!(status.code(), Some(0 | 130)) || status.signal() == Some(number);
        assert!(in_order, "{what}: {status}: {told}");
        assert!(!told.contains("internal error"), "{what}: {told}");
    }
}
