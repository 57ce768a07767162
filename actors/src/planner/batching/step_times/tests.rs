use super::*;

pub(in crate::planner) fn timing(stage: u32, busy_us: u64) -> StageTiming {
    StageTiming {
        stage,
        began_us: 0,
        waited_us: 0,
        busy_us,
    }
}

pub(in crate::planner) fn asked(decode_batch_size: u32, n_batches: u32) -> CostsOf {
    CostsOf {
        max_rows: 4,
        context: 0,
        cells: 0,
        decode_batch_size,
        n_batches,
    }
}

fn near(ns: u64, us: f64) -> bool {
    (ns as f64 / 1e3 - us).abs() < 0.02 * us
}

#[test]
fn what_steps_took_beats_the_typical_curve() {
    let mut times = StepTimes::new(None, 2);
    for _ in 0..100 {
        let took = [timing(0, 100), timing(1, 200)];
        times.observe(
            Work::decode(1, 0),
            &took,
            Some(Duration::from_micros(400)),
            HeadsTiming::default(),
        );
    }
    let costs = times.costs(&asked(1, 1));
    let one = costs.of(1).cloned().unwrap_or_default();
    assert!(
        near(one.servers[0], 100.0) && near(one.servers[1], 200.0),
        "{one:?}"
    );
    assert!(near(one.around, 400.0) && near(one.alone, 400.0), "{one:?}");
    // Four rows were never seen: as the curve says, from what one row takes.
    let four = costs.of(4).cloned().unwrap_or_default();
    assert!(near(four.servers[1], 200.0 * 12.4 / 11.2), "{four:?}");
    for _ in 0..100 {
        let took = [timing(0, 400), timing(1, 800)];
        times.observe(
            Work::decode(4, 0),
            &took,
            Some(Duration::from_micros(1300)),
            HeadsTiming::default(),
        );
    }
    let costs = times.costs(&asked(1, 1));
    let alone = costs.of(4).map_or(0, |of| of.alone);
    assert!((1_200_000..1_400_000).contains(&alone), "{alone}");
}

#[test]
fn stages_that_compute_together_may_take_longer() {
    let mut times = StepTimes::new(None, 2);
    for _ in 0..100 {
        let took = [timing(0, 100), timing(1, 100)];
        times.observe(
            Work::decode(1, 0),
            &took,
            Some(Duration::from_micros(200)),
            HeadsTiming::default(),
        );
        times.observe(
            Work::decode(1, 0),
            &[timing(0, 150), timing(1, 150)],
            None,
            HeadsTiming::default(),
        );
    }
    let costs = times.costs(&asked(1, 1));
    let one = costs.of(1).cloned().unwrap_or_default();
    assert!(near(one.alone, 200.0) && near(one.around, 300.0), "{one:?}");
    assert!(near(one.servers[0], 150.0), "{one:?}");
}

#[test]
fn streams_that_share_a_step_or_fill_the_pipeline_are_counted() {
    let mut times = StepTimes::new(None, 2);
    times.observe(
        Work::decode(1, 0),
        &[timing(0, 100), timing(1, 100)],
        None,
        HeadsTiming::default(),
    );
    let servers = |asked: &CostsOf, rows| times.costs(asked).of(rows).cloned();
    let alone = servers(&asked(1, 1), 4).unwrap_or_default();
    let shared = servers(&asked(4, 1), 1).unwrap_or_default();
    assert_eq!(alone.servers, shared.servers);
    let full = servers(&asked(1, 3), 1).unwrap_or_default();
    assert_eq!(full.alone, full.servers[0] * 3);
}

#[test]
fn heads_cost_what_they_add_to_the_way() {
    let mut times = StepTimes::new(None, 1);
    let plain = HeadsTiming::default();
    let guessed = |told_us| HeadsTiming {
        told_us,
        guessed_us: 50,
    };
    for (latency, heads) in [(130, plain), (180, guessed(0)), (980, guessed(800))] {
        let latency = Some(Duration::from_micros(latency));
        times.observe(Work::decode(1, 0), &[timing(0, 100)], latency, heads);
    }
    let costs = times.costs(&asked(1, 1));
    assert!((costs.heads_ns - 50e3).abs() < 1.0);
    let draft = DraftCost {
        step_ns: costs.heads_ns,
        ..DraftCost::default()
    };
    let (plain, around) = costs.with(draft, |cost| ((cost.alone_ns)(1), (cost.around_ns)(1)));
    assert!(
        near(plain, 130.0) && near(around, 180.0),
        "{plain} {around}"
    );
}
