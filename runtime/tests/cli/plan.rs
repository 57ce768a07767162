//! `jupiter plan`, and the plans that `serve` follows.

use std::path::Path;

use serde_json::{Value, json};

use super::default_model::Process;
use super::{FOLDER, jupiter, text};

fn events(process: &mut Process) -> impl Iterator<Item = Value> + use<> {
    let lines = process.lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// A worker of the shared model for the head at `endpoint`.
fn worker(cluster: &str, node: &str, endpoint: &str) -> Process {
    let model = ["worker", "-m", "m.gguf", "-t", "1", "--json"];
    let place = ["--cluster", cluster, "--node", node, "--connect", endpoint];
    Process::start(&[&model[..], &place].concat())
}

/// An endpoint that was free a moment ago.
fn free_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp/{}", listener.local_addr().unwrap())
}

#[test]
fn machines_that_are_not_there_are_planned_for() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let file = configs.join("devices-jetson-mixed-100mbps.toml");
    let devices = ["plan", "--devices", file.to_str().unwrap(), "-p", "260"];
    let table = jupiter(&devices);
    assert!(table.status.success(), "{}", text(&table.stderr));
    let table = text(&table.stdout);
    for part in ["weights", "RTT ms", "time to first token", "alone: "] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let plan = jupiter(&[&devices[..], &["--json"]].concat());
    let plan: Value = serde_json::from_str(&text(&plan.stdout)).unwrap();
    let placement = plan["placement"].as_array().unwrap();
    assert_eq!(placement[0]["layers"][0], 0);
    assert_eq!(placement.last().unwrap()["layers"][1], 32);
    let rows = plan["chunks"].as_array().unwrap();
    let n_rows: u64 = rows.iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(n_rows, 260);
    for figure in ["ttft_ms", "tbt_ms", "tps"] {
        assert!(plan["predicted"][figure].as_f64().unwrap() > 0.0, "{plan}");
    }
}

#[test]
fn a_plan_of_measured_machines_is_served_as_it_stands() {
    let cluster = format!("plan-{}", std::process::id());
    let endpoint = free_endpoint();
    let head = [
        "-m",
        "m.gguf",
        "-t",
        "1",
        "-c",
        "512",
        "--cluster",
        &cluster,
    ];
    let place = [
        "--listen",
        &endpoint,
        "--workers",
        "2",
        "--host-stages=false",
    ];
    let _workers = ["a", "b"].map(|node| worker(&cluster, node, &endpoint));
    let plan = jupiter(&[&["plan", "--json"][..], &head, &place].concat());
    assert!(plan.status.success(), "{}", text(&plan.stderr));
    let mut plan: Value = serde_json::from_str(&text(&plan.stdout)).unwrap();

    // Whatever was best, this is what a person decided.
    plan["placement"] = json!([
        { "node": "b", "layers": [0, 2], "memory_bytes": 1 },
        { "node": "a", "layers": [2, 6], "memory_bytes": 1 },
    ]);
    let file = FOLDER.join("plan.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let serve = ["serve", "--json", "--plan", "plan.json"];
    let mut serving = Process::start(&[&serve[..], &head, &place].concat());
    let running = events(&mut serving).find(|event| event["phase"] == "running");
    let running = running.unwrap();
    let stages = running["stages"].as_array().unwrap();
    let placed: Vec<_> = stages.iter().map(|s| (&s["node"], &s["layers"])).collect();
    let (b, a) = (json!("b"), json!("a"));
    let (first, second) = (json!([0, 2]), json!([2, 6]));
    assert_eq!(placed, [(&b, &first), (&a, &second)]);
}

#[test]
fn plans_that_cannot_be_followed_are_one_line() {
    let stage = |start: u32, end: u32| json!({ "node": format!("n{start}"), "layers": [start, end], "memory_bytes": 1 });
    let plan = |model: &str, placement: Vec<Value>| {
        json!({
            "model": model, "objective": "ttft", "prompt": 4, "placement": placement,
            "excluded": [], "chunks": [4], "rows": 1, "micro_batches": 1,
            "predicted": { "ttft_ms": 1.0, "tbt_ms": 1.0, "tps": 1.0 },
        })
    };
    let other = plan("0123456789abcdef", vec![stage(0, 6)]);
    std::fs::write(FOLDER.join("other.json"), other.to_string()).unwrap();
    std::fs::write(FOLDER.join("none.json"), "no plan").unwrap();
    std::fs::write(FOLDER.join("devices.toml"), "[model]\nn_embd = 0\n").unwrap();
    for (arguments, named) in [
        (
            ["serve", "-m", "m.gguf", "--plan", "other.json"],
            "it is for the model",
        ),
        (
            ["serve", "-m", "m.gguf", "--plan", "none.json"],
            "jupiter plan --json",
        ),
        (["serve", "-m", "m.gguf", "--plan", "no.json"], "no.json"),
        (
            ["worker", "--connect", "a:1", "--slowdown", "0.5"],
            "--slowdown",
        ),
        (
            ["worker", "--connect", "a:1", "--memory-limit", "lots"],
            "600M",
        ),
        (
            ["worker", "--connect", "a:1", "--link-rate", "fast"],
            "100mbit",
        ),
        (
            ["plan", "--devices", "devices.toml", "-p", "8"],
            "devices.toml",
        ),
    ] {
        let output = jupiter(&arguments);
        let told = text(&output.stderr);
        let errors: Vec<&str> = told.lines().filter(|l| l.starts_with("error")).collect();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(
            errors.len() == 1 && errors[0].contains(named),
            "{arguments:?}: {told}"
        );
    }
}
