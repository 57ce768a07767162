//! `jupiter simulate`: machines that are not there, under load.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::{FOLDER, command, jupiter, text};

/// The path of a devices file of the repository.
fn devices(name: &str) -> String {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    configs.join(name).to_str().unwrap().to_owned()
}

/// A devices file of the repository with something in it replaced.
fn changed(name: &str, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(devices("devices-jetson-nx-100mbps.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(FOLDER.join(name), text.replace(from, to)).unwrap();
    name.to_owned()
}

fn simulated(arguments: &[&str]) -> Value {
    let output = jupiter(&[&["simulate", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(&text(&output.stdout)).unwrap()
}

/// One line on stderr that names what is wrong, and the exit code.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = jupiter(&[&["simulate"], arguments].concat());
    let told = text(&output.stderr);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert_eq!(told.lines().count(), 1, "{arguments:?}: {told}");
    (output.status.code(), told)
}

#[test]
fn a_report_says_what_a_cluster_would_do() {
    let file = changed(
        "watts.toml",
        "free_memory_bytes = 6_000_000_000",
        "free_memory_bytes = 6_000_000_000\nwatts = { idle = 5, busy = 15 }",
    );
    let asked = ["--devices", &file, "--rate", "0.01", "--requests", "20"];
    let report = simulated(&asked);
    assert_eq!(report["requests"], 20);
    assert_eq!(report["errors"], 0);
    let number = |value: &Value| value.as_f64().unwrap();
    let tps = number(&report["tokens"]) / number(&report["seconds"]);
    assert!(
        (number(&report["tps"]) / tps - 1.0).abs() < 1e-6,
        "{report}"
    );
    for times in ["ttft_ms", "tbt_ms"] {
        let of = |name: &str| number(&report[times][name]);
        assert!(of("mean") > 0.0, "{report}");
        assert!(of("p50") <= of("p95") && of("p95") <= of("p99"), "{report}");
    }
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 4);
    for stage in stages {
        assert!(stage["node"].as_str().unwrap().starts_with("nx"));
        let busy = number(&stage["busy_share"]);
        assert!((0.0..1.0).contains(&busy), "{report}");
        assert!((busy + number(&stage["idle_share"]) - 1.0).abs() < 1e-9);
    }
    // Between all of them idle and all of them busy.
    let watts = number(&report["energy_j"]) / number(&report["seconds"]);
    assert!((20.0..60.0).contains(&watts), "{watts}");
    assert_eq!(simulated(&asked), report, "the same seed");
    let other = simulated(&[&asked[..], &["--seed", "2"]].concat());
    assert_ne!(other["tokens"], report["tokens"]);
}

#[test]
fn tables_and_pictures_are_those_of_a_benchmark() {
    let file = devices("devices-jetson-mixed-100mbps.toml");
    let asked = [
        "simulate",
        "--devices",
        &file,
        "--rate",
        "1",
        "--requests",
        "3",
    ];
    let more = ["--lengths", "fixed:100,16", "--speculative", "oracle:0.8"];
    let picture = ["--timeline", "simulated.html"];
    let output = jupiter(&[&asked[..], &more, &picture].concat());
    let table = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "t/s",
        "to first token",
        "between tokens",
        "idle",
        "goodput: ",
        "in vain",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let html = std::fs::read_to_string(FOLDER.join("simulated.html")).unwrap();
    for part in ["simulated", "stage 0, layers 0..", "link 0 to 1"] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn a_trace_is_played_back() {
    // A blank line is nobody.
    let lines = "{\"arrives_s\": 3, \"n_prompt\": 20, \"n_predict\": 5}\n\
                 \n\
                 {\"arrives_s\": 63, \"n_prompt\": 30, \"n_predict\": 7}\n \n";
    std::fs::write(FOLDER.join("trace.jsonl"), lines).unwrap();
    let file = devices("devices-jetson-nx-1000mbps.toml");
    let report = simulated(&["--devices", &file, "--trace", "trace.jsonl"]);
    assert_eq!(
        (&report["requests"], &report["tokens"]),
        (&2.into(), &12.into())
    );
    let seconds = report["seconds"].as_f64().unwrap();
    assert!((60.0..90.0).contains(&seconds), "{report}");
}

#[test]
fn what_cannot_be_is_one_line_that_says_how_to_mend_it() {
    let good = devices("devices-jetson-nx-100mbps.toml");
    let with = |more: &[&'static str]| [&["--devices", &good], more].concat();
    for (arguments, named) in [
        (
            with(&["--rate", "0"]),
            "the rate is 0, expected more than 0",
        ),
        (with(&["--rate", "-2"]), "the rate is -2"),
        (
            with(&["--rate", "1e-300"]),
            "the rate is 1e-300, expected so many",
        ),
        (
            with(&["--rate", "1e300"]),
            "the rate is 1e300, expected more than 0",
        ),
        (with(&["--rate", "NaN"]), "the rate is NaN"),
        (
            with(&["--rate", "1", "-c", "8", "--lengths", "fixed:9,1"]),
            "raise -c",
        ),
        (with(&["--rate", "1", "-c", "2000000"]), "does not fit"),
        (
            with(&["--rate", "1", "--plan", "even", "--split", "1,2"]),
            "split",
        ),
        (with(&["--rate", "1", "--stages", "40"]), "40 stages"),
        (with(&["--trace", "no.jsonl"]), "no.jsonl"),
    ] {
        let (code, told) = refused(&arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        assert!(
            told.starts_with("error: ") && told.contains(named),
            "{arguments:?}: {told}"
        );
    }
    for (arguments, named) in [
        (with(&[]), "--rate"),
        (with(&["--rate", "1", "--speculative", "ngram"]), "oracle"),
        (with(&["--rate", "1", "--requests", "-3"]), "-3 is not in"),
    ] {
        let output = jupiter(&[&["simulate"], &arguments[..]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(told.contains(named), "{arguments:?}: {told}");
    }
}

#[test]
fn devices_files_and_traces_are_checked() {
    for (name, from, to, named) in [
        ("d0.toml", "mbps = 100", "mbps = -100", "mbps is -100"),
        (
            "d1.toml",
            "latency_ms = 5.5",
            "latency_ms = -1",
            "latency_ms is -1",
        ),
        (
            "d2.toml",
            "latency_ms = 5.5",
            "",
            "missing field `latency_ms`",
        ),
        (
            "d3.toml",
            "[1, 14.78]",
            "[1, -3]",
            "layers[0].rows[0].ms is -3",
        ),
        (
            "d4.toml",
            "[1, 14.78]",
            "[1, 1e300]",
            "layers[0].rows[0].ms is 1e300",
        ),
        ("d10.toml", "mbps = 100", "mbps = 0", "d10.toml: mbps is 0"),
        (
            "d11.toml",
            "latency_ms = 5.5",
            "latency_ms = 1e6",
            "a step of 1 row takes",
        ),
        ("d5.toml", "n_embd = 4096", "n_embd = 0", "n_embd is 0"),
        (
            "d6.toml",
            "name = \"xavier-nx\"",
            "name = \"other\"",
            "kind xavier-nx",
        ),
        ("d7.toml", "count = 32", "count = 100000000", "layers"),
        (
            "d8.toml",
            "free_memory_bytes = 6_000_000_000",
            "free_memory_bytes = 1_000_000",
            "fit",
        ),
        (
            "d9.toml",
            "free_memory_bytes = 6_000_000_000",
            "free_memory_bytes = 6_000_000_000\nwatts = { idle = 9, busy = -1 }",
            "watts of kind xavier-nx",
        ),
    ] {
        let file = changed(name, from, to);
        let (code, told) = refused(&["--devices", &file, "--rate", "1"]);
        assert_eq!(code, Some(1), "{name}: {told}");
        assert!(
            told.contains(name) && told.contains(named),
            "{name}: {told}"
        );
    }
    let good = devices("devices-jetson-nx-100mbps.toml");
    let line = |arrives: &str, n_prompt: &str| {
        format!("{{\"arrives_s\": {arrives}, \"n_prompt\": {n_prompt}, \"n_predict\": 1}}\n")
    };
    for (name, lines, named) in [
        ("t0.jsonl", String::new(), "there is no request"),
        ("t1.jsonl", line("-1", "1"), "line 1: arrives_s is -1"),
        (
            "t2.jsonl",
            line("2", "1") + &line("1", "1"),
            "line 2: arrives_s is 1",
        ),
        ("t3.jsonl", line("0", "0"), "line 1: n_prompt is 0"),
        ("t4.jsonl", line("0", "-7"), "line 1: n_prompt: "),
        (
            "t5.jsonl",
            line("0", "9999999"),
            "line 1: n_prompt is 9999999",
        ),
        ("t6.jsonl", line("1e12", "1"), "line 1: arrives_s is 1"),
        (
            "t8.jsonl",
            line("0", "1") + "\n7",
            "line 3: invalid type: integer `7`",
        ),
        (
            "t9.jsonl",
            line("0", "1") + "\n" + &line("0", "0"),
            "line 3: n_prompt is 0",
        ),
        (
            "t7.jsonl",
            "{}\n".to_owned(),
            "line 1: missing field `arrives_s`",
        ),
    ] {
        std::fs::write(FOLDER.join(name), lines).unwrap();
        let (code, told) = refused(&["--devices", &good, "--trace", name]);
        assert_eq!(code, Some(1), "{name}: {told}");
        assert!(
            told.contains(name) && told.contains(named),
            "{name}: {told}"
        );
    }
}

#[test]
fn a_long_simulation_says_so_before_it_starts() {
    let file = devices("devices-jetson-nx-100mbps.toml");
    let long = [
        "--devices",
        &file,
        "--rate",
        "1",
        "--requests",
        "1000000",
        "--lengths",
    ];
    let arguments = [&["simulate"], &long[..], &["fixed:100,9999"]].concat();
    let mut command = command(&FOLDER, &arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let told = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .next();
    process.kill().unwrap();
    process.wait().unwrap();
    let told = told.unwrap().unwrap();
    assert!(told.contains("hours"), "{told}");
}
