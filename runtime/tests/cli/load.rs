//! `jupiter bench --load`: requests at random times.

use serde_json::Value;

use super::{jupiter, text};

/// The reports of a load on the shared model.
fn measured(more: &[&str]) -> Vec<Value> {
    let bench = [
        "bench",
        "-m",
        "m.gguf",
        "--stages",
        "2",
        "--requests",
        "6",
        "--lengths",
        "fixed:12,5",
        "--json",
    ];
    let output = jupiter(&[&bench, more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let reports = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    reports.collect()
}

#[test]
fn each_rate_brings_a_report_as_a_simulation_does() {
    let reports = measured(&["--load", "20,1000", "-np", "3", "--schedule", "throttle"]);
    assert_eq!(reports.len(), 2);
    for (report, rate) in reports.iter().zip([20.0, 1000.0]) {
        assert_eq!(report["rate"], rate);
        assert_eq!(report["schedule"], "throttle");
        assert_eq!(report["requests"], 6);
        assert_eq!(report["errors"], 0, "{report}");
        assert_eq!(report["tokens"], 30, "{report}");
        assert_eq!(report["preemptions"], 0);
        // All prompts, and all tokens but the last of each.
        assert_eq!(report["rows"], 6 * 12 + 6 * 4, "{report}");
        let stages = report["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 2);
        for times in ["ttft_ms", "tbt_ms"] {
            let of = |name: &str| report[times][name].as_f64().unwrap();
            assert!(of("mean") > 0.0 && of("p50") <= of("p99"), "{report}");
        }
    }
}

#[test]
fn what_prompts_share_is_in_the_cache() {
    let reports = measured(&["--load", "2", "-np", "1", "--shared", "40", "--processes"]);
    // The second prompt and all behind it begin with what the one before it left there.
    let cached = reports[0]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= 5 * 40, "{}", reports[0]);
}

#[test]
fn loads_that_cannot_be_are_a_line() {
    let bench = ["bench", "-m", "m.gguf", "--load"];
    for (more, code, named) in [
        (&["0"][..], 1, "the rate is 0, expected more than 0"),
        (&["1,-2"], 1, "the rate is -2"),
        (&["x"], 2, "x"),
        (&["1", "--requests", "0"], 2, "--requests"),
        (&["1", "--lengths", "fixed:0,1"], 2, "a number of tokens"),
        (&["1", "--lengths", "lognormal:1"], 2, "fixed:260,64"),
        (&["1", "--shared", "9000", "-c", "512"], 1, "--shared 9000"),
        (
            &["1", "--lengths", "fixed:600,1", "-c", "512"],
            1,
            "raise -c",
        ),
        (&["1", "--schedule", "fast"], 2, "throttle"),
        (&["1", "--tbt-target", "0"], 2, "--tbt-target"),
        (&["1", "--baseline"], 2, "--baseline"),
    ] {
        let output = jupiter(&[&bench, more].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {told}");
        assert!(told.contains(named), "{more:?}: {told}");
        assert!(output.stdout.is_empty(), "{more:?}");
    }
}
