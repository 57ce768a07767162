//! Latency over load.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use jupiter_actors::planner::Schedule;
use jupiter_actors::simulator::Lengths;
use jupiter_tests::load::{OfferedLoad, Point, SCHEDULES, picture, read, simulate, table};

#[test]
fn what_is_simulated_is_drawn_and_what_was_measured_is_read() {
    let devices =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/devices-jetson-mixed-1000mbps.toml");
    let load = OfferedLoad {
        n_requests: 12,
        lengths: Lengths::Fixed {
            n_prompt: 100,
            n_predict: 10,
        },
        n_parallel: 4,
        chunk: 128,
        tbt_target: None,
        seed: 1,
    };
    let of = |schedule: Schedule| {
        let outcome = simulate(&devices, &load, 0.05, schedule).unwrap();
        assert_eq!((outcome.n_errors(), outcome.n_tokens()), (0, 120));
        Point::of(&outcome, 0.05, schedule)
    };
    let points = SCHEDULES.map(of);
    assert!(table(&points).contains("|     0.05 | throttle |"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("load.svg");
    picture::draw(&path, &points).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.contains("throttle (gLLM)"), "{svg}");
    assert!(picture::draw(&path, &[]).is_err());
    let line = r#"{"rate":2.0,"schedule":"chunked","requests":1,"tps":9.5,
        "ttft_ms":{"mean":1,"p50":1,"p95":2,"p99":3},"tbt_ms":{"mean":1,"p50":1,"p95":2,"p99":4},
        "goodput":1.5}"#;
    let measured = folder.path().join("measured.jsonl");
    std::fs::write(&measured, line.replace('\n', "") + "\n").unwrap();
    let point = read(&measured).unwrap()[0];
    assert_eq!((point.schedule, point.tbt_ms.p99), (Schedule::Chunked, 4.0));
    std::fs::write(&measured, "{}\n").unwrap();
    let error = format!("{:#}", read(&measured).unwrap_err());
    assert!(error.contains("line 1"), "{error}");
}
