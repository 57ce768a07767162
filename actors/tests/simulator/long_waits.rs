//! Long times in which nothing happens, and steps that take longer than they may.

use jupiter_actors::planner::SplitPolicy;
use jupiter_actors::simulator::{
    Lengths, Scenario, SimRequest, Simulation, SimulationError, arrivals,
};

use super::common::{at_once, copies, devices, jetsons, run, scenario};

const S: u64 = 1_000_000_000;

/// A request now and one after a pause.
fn after_a_pause(seconds: u64) -> Vec<SimRequest> {
    let first = SimRequest::at_once(20, 3);
    let arrives_ns = seconds * S;
    vec![
        first,
        SimRequest {
            arrives_ns,
            ..first
        },
    ]
}

#[test]
fn who_comes_after_a_day_or_after_years_is_answered_as_the_first_one_was() {
    // What the first one left in the cache would make the second one a little slower.
    let answered = |requests| {
        let mut scenario = scenario(jetsons(), 1, requests);
        scenario.planner.cache_cells = Some(0);
        run(&scenario)
    };
    let alone = answered(at_once(1, 20, 3));
    for seconds in [700, 86_400, 1_000_000_000] {
        let outcome = answered(after_a_pause(seconds));
        assert_eq!(outcome.requests[0], alone.requests[0]);
        assert_eq!(outcome.requests[1].ttft_ns, alone.requests[0].ttft_ns);
        assert_eq!(outcome.elapsed_ns, seconds * S + alone.elapsed_ns);
    }
    let short = Lengths::Fixed {
        n_prompt: 20,
        n_predict: 3,
    };
    let seldom = arrivals(1e-6, 100, short, 1).unwrap();
    assert!(run(&scenario(jetsons(), 1, seldom)).seconds() > 1e7);
}

/// Links on which a message takes a quarter of an hour, and a Planner that waits for it.
fn slow_links(step_timeout_ms: u64) -> Scenario {
    let mut file = devices("devices-jetson-nx-1000mbps.toml");
    file.network.latency_ms = 900_000.0;
    let cluster = file.into_cluster().unwrap().with_head_on(0);
    let mut scenario = scenario(cluster, 1, at_once(2, 20, 3));
    scenario.planner.split = SplitPolicy::PerNode;
    scenario.planner.step_timeout_ms = step_timeout_ms;
    scenario
}

#[test]
fn messages_that_are_long_under_way_are_waited_for() {
    let outcome = run(&slow_links(10_000_000));
    assert_eq!(outcome.n_tokens(), 6);
    // Four links there and back, for each of the tokens.
    assert!(
        outcome.seconds() > 6.0 * 4.0 * 900.0,
        "{}",
        outcome.seconds()
    );
}

#[test]
fn steps_that_the_planner_gives_up_are_known_before_the_start() {
    match Simulation::new(&slow_links(600_000)) {
        Err(error @ SimulationError::TooSlow(_)) => {
            let told = error.to_string();
            assert!(told.contains("a step of 1 row takes 3600 s"), "{told}");
            assert!(told.contains("lets it take 600 s"), "{told}");
        }
        _ => panic!("every step is late"),
    }
    // One row takes a second, a chunk of 128 of them more.
    let mut scenario = scenario(jetsons(), 1, at_once(1, 300, 1));
    let late_rows = |scenario: &Scenario| {
        let late = Simulation::new(scenario).unwrap().late_step();
        late.map(|late| late.n_rows)
    };
    assert_eq!(late_rows(&scenario), None);
    scenario.planner.step_timeout_ms = 2_000;
    assert_eq!(late_rows(&scenario), Some(128));
    scenario.planner.chunk = 8;
    assert_eq!(late_rows(&scenario), None);
}

#[test]
fn short_times_that_are_too_long_are_told_as_they_are() {
    let mut scenario = scenario(jetsons(), 1, at_once(1, 300, 1));
    scenario.planner.step_timeout_ms = 50;
    match Simulation::new(&scenario) {
        Err(error @ SimulationError::TooSlow(_)) => {
            let told = error.to_string();
            assert!(told.contains("lets it take 50 ms"), "{told}");
        }
        _ => panic!("one row takes longer"),
    }
}

#[test]
fn a_stage_is_busy_with_steps_that_are_given_up_only_until_then() {
    let alone = copies(&jetsons(), 1);
    for (cluster, split) in [
        (jetsons(), SplitPolicy::Planned),
        (alone, SplitPolicy::PerNode),
    ] {
        let mut scenario = scenario(cluster, 1, at_once(1, 1000, 1));
        scenario.planner.split = split;
        scenario.planner.engine.n_batch = 1000;
        scenario.planner.chunk = 1000;
        scenario.planner.step_timeout_ms = 2_000;
        let simulation = Simulation::new(&scenario).unwrap();
        let late = simulation.late_step().unwrap();
        assert!(late.takes > 2 * late.timeout, "{late}");
        let outcome = simulation.run().unwrap();
        assert_eq!(outcome.n_errors(), 1);
        for stage in &outcome.stages {
            let share = outcome.busy_share(stage);
            assert!((0.0..=1.0).contains(&share), "{}: {share}", stage.node);
        }
    }
}
