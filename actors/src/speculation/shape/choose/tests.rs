//! Shapes on the typical row curve (eight rows in 1.34 times the time of one), two stages.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::planning::typical::rows_ns;

const LIMITS: ShapeLimits = ShapeLimits {
    rows: 8,
    in_flight: 3,
    depth: 32,
    branches: 4,
};

fn servers_ns(rows: u32) -> Vec<u64> {
    vec![rows_ns(rows); 2]
}

fn choose(rates: &AcceptanceRates, limits: ShapeLimits) -> Choice {
    let around_ns = |rows| 2 * rows_ns(rows);
    let cost = StepCost {
        servers_ns: &servers_ns,
        around_ns: &around_ns,
        alone_ns: &around_ns,
    };
    Chooser::default().choose(rates, &cost, limits).unwrap()
}

#[test]
fn a_tile_of_rows_pays_and_fewer_with_more_in_flight() {
    let rates = AcceptanceRates::known(&[0.8]).unwrap();
    match choose(
        &rates,
        ShapeLimits {
            in_flight: 1,
            ..LIMITS
        },
    ) {
        Choice::Tree { nodes, prediction } => {
            assert_eq!(nodes.len(), 7);
            assert!((prediction.ratio - 3.107).abs() < 0.01);
            assert!((prediction.tokens_per_step - 4.1611).abs() < 1e-4);
        }
        other => panic!("{other:?}"),
    }
    match choose(&rates, LIMITS) {
        Choice::Pipelined { shape, .. } => {
            assert_eq!(
                shape,
                LineShape {
                    rows: 4,
                    in_flight: 2
                }
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_steps_in_flight_have_to_bring_more_than_estimates_are_worth() {
    let one = ShapeLimits {
        in_flight: 1,
        ..LIMITS
    };
    let (mut n_trees, mut n_lines) = (0, 0);
    for percent in 1..100 {
        let rates = AcceptanceRates::known(&[f64::from(percent) / 100.0]).unwrap();
        let tree = choose(&rates, one);
        match choose(&rates, LIMITS) {
            Choice::Pipelined { prediction, .. } => {
                n_lines += 1;
                assert!(prediction.ratio > (1.0 + MARGIN) * tree.ratio());
            }
            other => {
                n_trees += u32::from(matches!(other, Choice::Tree { .. }));
                assert_eq!(other, tree);
            }
        }
    }
    // A tree that promises too little is nothing that lines are compared with.
    let of = |ratio| Prediction {
        ratio,
        tokens_per_step: 1.0,
    };
    let tree = |ratio| Choice::Tree {
        nodes: Vec::new(),
        prediction: of(ratio),
    };
    let lines = |ratio| Choice::Pipelined {
        shape: LineShape {
            rows: 2,
            in_flight: 2,
        },
        prediction: of(ratio),
    };
    assert_eq!(better(tree(1.04), lines(1.08)), lines(1.08));
    assert_eq!(better(tree(1.06), lines(1.08)), tree(1.06));
    let plain = Choice::Plain { probe: false };
    assert_eq!(better(tree(1.04), lines(1.04)), plain);
    assert!(n_trees > 0 && n_lines > 0, "{n_trees} {n_lines}");
}

#[test]
fn nothing_pays_for_a_bad_source_and_it_is_asked_now_and_then() {
    let rates = AcceptanceRates::known(&[0.05]).unwrap();
    let around_ns = |rows| 2 * rows_ns(rows);
    let cost = StepCost {
        servers_ns: &servers_ns,
        around_ns: &around_ns,
        alone_ns: &around_ns,
    };
    let mut chooser = Chooser::default();
    let probes = (0..100).filter(|_| {
        chooser.choose(&rates, &cost, LIMITS).unwrap() == Choice::Plain { probe: true }
    });
    assert_eq!(probes.count(), 100 / PROBE_EVERY as usize);
}

#[test]
fn an_unknown_source_is_tried_and_left_after_failures_and_found_again() {
    let mut rates = AcceptanceRates::default();
    let limits = ShapeLimits {
        in_flight: 1,
        ..LIMITS
    };
    assert!(choose(&rates, limits).ratio() > 1.0 + MARGIN);
    // A guess costs so little that it pays when one in nine is right: that takes some failures to
    // rule out, and they take little more than steps without guesses.
    let mut lost_steps = 0.0;
    let n_failures = (0..100).find(|_| {
        let choice = choose(&rates, limits);
        if let Choice::Tree { nodes, .. } = &choice {
            lost_steps += rows_ns(nodes.len() as u32 + 1) as f64 / rows_ns(1) as f64 - 1.0;
        }
        rates.observe(1, 1, None);
        choice.ratio() == 1.0
    });
    assert!(n_failures.is_some_and(|n| n <= 20), "{n_failures:?}");
    assert!(lost_steps < 2.0, "{lost_steps}");
    for _ in 0..50 {
        rates.observe(1, 1, None);
    }
    let back = (1..100).find(|_| {
        rates.observe(1, 1, Some(0));
        choose(&rates, limits).ratio() > 1.0
    });
    assert!(back.is_some_and(|n| n <= 60), "{back:?}");
}

#[test]
fn second_guesses_make_a_tree_when_they_are_right_often() {
    let mut rates = AcceptanceRates::default();
    for i in 0..200 {
        for depth in 1..=8 {
            rates.observe(depth, 2, Some(usize::from(i % 5 >= 3)));
        }
    }
    let cheap = |_| vec![1_000; 2];
    let around_ns = |rows: u32| 2_000 + 20 * u64::from(rows);
    let cost = StepCost {
        servers_ns: &cheap,
        around_ns: &around_ns,
        alone_ns: &around_ns,
    };
    let limits = ShapeLimits {
        in_flight: 1,
        ..LIMITS
    };
    let shape = |branches| match best_tree(&rates, &cost, ShapeLimits { branches, ..limits }) {
        Ok(Choice::Tree { nodes, .. }) => nodes,
        other => panic!("{other:?}"),
    };
    assert!(shape(4).iter().any(|node| node.rank == 1));
    let leaves = |nodes: &[ShapeNode]| {
        let is_leaf = |&at: &usize| nodes.iter().all(|node| node.parent != Some(at));
        (0..nodes.len()).filter(is_leaf).count()
    };
    assert!((2..=3).contains(&leaves(&shape(3))));
    assert_eq!(leaves(&shape(1)), 1);
    let limits = ShapeLimits { rows: 0, ..LIMITS };
    assert!(Chooser::default().choose(&rates, &cost, limits).is_err());
}

#[test]
fn of_a_drafted_tree_stays_what_pays() {
    let mut tree = DraftTree::new();
    tree.insert(&[1, 2, 3, 4, 5], &[0.9, 0.9, 0.9, 0.1, 0.1])
        .unwrap();
    tree.insert(&[7, 8], &[0.05, 0.9]).unwrap();
    let around_ns = |rows| 2 * rows_ns(rows);
    let cost = StepCost {
        servers_ns: &servers_ns,
        around_ns: &around_ns,
        alone_ns: &around_ns,
    };
    let said = |node: &Node, _| node.probability.unwrap();
    let (part, prediction) = best_part(&tree, said, &cost, LIMITS).unwrap().unwrap();
    let mut line = DraftTree::new();
    line.insert(&[1, 2, 3], &[0.9, 0.9, 0.9]).unwrap();
    assert_eq!(part, line);
    assert!((prediction.tokens_per_step - 3.439).abs() < 1e-9);
    assert_eq!(best_part(&tree, |_, _| 0.01, &cost, LIMITS), Ok(None));
    assert!(best_part(&tree, |_, _| f64::NAN, &cost, LIMITS).is_err());
    let shallow = ShapeLimits { depth: 0, ..LIMITS };
    assert_eq!(best_part(&tree, said, &cost, shallow), Ok(None));
}
