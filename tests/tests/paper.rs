//! A cell of Jupiter's table.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use jupiter_tests::paper::baselines::{Baseline, least_prefill_s};
use jupiter_tests::paper::cells::{Cell, Environment};
use jupiter_tests::paper::published::{Model, SYSTEMS};
use jupiter_tests::paper::{PROMPT, Row, picture, report};

fn cell(model: Model, environment: Environment, mbps: u32) -> Cell {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    Cell::new(&configs, model, environment, mbps).unwrap()
}

#[test]
fn what_was_calibrated_is_met_and_the_rest_is_predicted() {
    let slow = cell(Model::Llama7B, Environment::A, 100);
    let baselines: Vec<_> = (0..SYSTEMS.len())
        .map(|system| Baseline::calibrated(system, &slow))
        .collect();
    let is_near = |got: f64, published: f64, share: f64| (got / published - 1.0).abs() < share;
    for (baseline, published) in baselines.iter().zip(slow.published) {
        let got = baseline.seconds(&slow).unwrap();
        // A plain pipeline is calibrated at 1000 Mbps.
        let share = if baseline.name() == "EdgeShard" {
            0.05
        } else {
            1e-6
        };
        assert!(
            is_near(got, published.unwrap(), share),
            "{baseline:?} {got}"
        );
    }
    let fast = cell(Model::Llama7B, Environment::A, 1000);
    let edgeshard = baselines[4].seconds(&fast).unwrap();
    assert!(
        is_near(edgeshard, fast.published[4].unwrap(), 1e-6),
        "{edgeshard}"
    );
    let large = cell(Model::Llama13B, Environment::A, 100);
    assert_eq!(baselines[0].seconds(&large), None, "out of memory");
}

#[test]
fn ours_is_faster_than_what_was_published_and_is_drawn() {
    let cell = cell(Model::Llama7B, Environment::A, 1000);
    let row = Row::simulated(&cell, [None; 5]).unwrap();
    let [line, launched, kernels, roofline] = row.ours;
    assert!(line.total_s < cell.jupiter, "{line:?}");
    for (faster, slower) in [(launched, line), (kernels, line), (roofline, kernels)] {
        assert!(faster.prefill_s < slower.prefill_s && faster.total_s < slower.total_s);
    }
    for ours in row.ours {
        assert!(ours.prefill_s < ours.outline_s && ours.outline_s < ours.total_s);
        assert!(ours.bound_s < ours.total_s && ours.busy < 1.0, "{ours:?}");
    }
    let parts = row.parts;
    let with_both = launched.total_s;
    assert!(with_both < parts.points_s.min(parts.guesses_s), "{parts:?}");
    assert!(parts.points_s.max(parts.guesses_s) < parts.plain_s);
    assert!(line.prefill_s < row.plain_prefill_s / 1.9);
    let least_s = least_prefill_s(&cell, PROMPT);
    assert!(
        (0.85..1.0).contains(&(least_s / line.prefill_s)),
        "{least_s} {line:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper.svg");
    picture::draw(&path, std::slice::from_ref(&row)).unwrap();
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("7B, A, 1000 Mbps")
    );
    let page = report::page(&[row], &[]);
    for part in ["| 7B, A, 1000 Mbps |", "## Bounds", "**Calibrated**"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(picture::draw(&folder.path().join("no/folder.svg"), &[]).is_err());
}
