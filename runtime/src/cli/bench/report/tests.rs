#![allow(clippy::unwrap_used)]

use super::*;

fn run(elapsed_ms: f64, busy_ms: &[f64]) -> Run {
    Run {
        elapsed_ms,
        busy_ms: busy_ms.to_vec(),
        steps: Vec::new(),
    }
}

fn measured() -> Measured {
    let stage = |layers, rss_bytes| Stage {
        node: "robot".into(),
        layers,
        rss_bytes,
        engine_bytes: 1024,
    };
    Measured {
        model: "m.gguf".into(),
        model_bytes: 1 << 20,
        stages: vec![stage((0, 4), 2048), stage((4, 16), 4096)],
        processes: true,
        n_threads: 1,
        chunk: 128,
        pp: Some(Test {
            name: "pp1000".into(),
            n_tokens: 1000,
            pipeline: vec![run(500.0, &[300.0, 450.0]), run(400.0, &[200.0, 360.0])],
            baseline: vec![run(1000.0, &[]), run(800.0, &[])],
        }),
        tg: Some(Test {
            name: "tg10".into(),
            n_tokens: 10,
            pipeline: vec![run(100.0, &[40.0, 50.0])],
            baseline: Vec::new(),
        }),
        n_streams: 1,
        speculation: None,
        outline: None,
        outline_steps: Vec::new(),
        plan: None,
        predictions: Predictions::default(),
        guessed_ms: None,
        hop_ms: Some(0.25),
    }
}

#[test]
fn the_json_object_has_the_promised_shape_and_takes_the_best_run_of_each() {
    let report = serde_json::to_value(measured().report()).unwrap();
    assert_eq!(report["model"], "m.gguf");
    assert_eq!(report["stages"][1]["layers"], serde_json::json!([4, 16]));
    assert_eq!(report["stages"][1]["busy_ms"], 410.0);
    assert_eq!(report["stages"][1]["rss_bytes"], 4096);
    assert_eq!(report["pp"]["tps"], 2500.0);
    assert_eq!(report["pp"]["baseline_tps"], 1250.0);
    assert_eq!(report["pp"]["ratio"], 2.0);
    assert_eq!(report["pp"]["runs"], serde_json::json!([2000.0, 2500.0]));
    assert_eq!(report["pp"]["efficiency"], 0.9);
    assert_eq!(report["tg"]["baseline_tps"], serde_json::Value::Null);
    assert_eq!(report["hop_ms"], 0.25);
}

#[test]
fn the_table_shows_mean_deviation_and_ratio() {
    let text = measured().tables();
    assert!(text.contains("2250.00 ± 353.55"), "{text}");
    assert!(text.contains("|  2.00 |"), "{text}");
    assert!(text.contains("2 processes"), "{text}");
}

#[test]
fn work_without_time_or_runs_gives_no_infinities() {
    let empty = Test {
        name: "pp1".into(),
        n_tokens: 1,
        pipeline: vec![],
        baseline: vec![],
    };
    let numbers = empty.report();
    assert_eq!(
        (numbers.tps, numbers.mean_tps, numbers.efficiency),
        (0.0, 0.0, 0.0)
    );
    assert_eq!(tokens_per_second(5, 0.0), 0.0);
}
