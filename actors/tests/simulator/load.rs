//! Many answers at a time.

use jupiter_actors::planner::{Schedule, SplitPolicy};
use jupiter_actors::planning::cost::{Pipeline, Work};
use jupiter_actors::simulator::{
    Lengths, Outcome, Points, Scenario, SimRequest, Simulation, arrivals,
};

use super::common::{at_once, cluster, copies, jetsons, planner, run, scenario};

#[test]
fn several_streams_fill_the_stages_that_one_leaves_idle() {
    let tps = |n: u32| run(&scenario(jetsons(), n, at_once(n as usize, 8, 200))).tps();
    let (one, four, eight) = (tps(1), tps(4), tps(8));
    assert!(four > 3.0 * one && four < 4.01 * one, "{one} {four}");
    assert!(eight > four, "{four} {eight}");
    let busy = run(&scenario(jetsons(), 8, at_once(24, 8, 200)));
    let least = busy.stages.iter().map(|stage| busy.busy_share(stage));
    assert!(least.fold(1.0, f64::min) > 0.85, "{:?}", busy.stages);
}

/// Nanoseconds of the slowest stage or link for some work.
fn slowest_ns(scenario: &Scenario, work: Work) -> u64 {
    let stages = Simulation::new(scenario).unwrap().stages();
    let pipeline = Pipeline::new(&scenario.cluster, stages);
    let servers = (0..pipeline.n_servers()).map(|server| pipeline.server_ns(server, work));
    servers.max().unwrap()
}

#[test]
fn many_streams_go_at_the_pace_of_the_slowest_stage_and_never_faster() {
    for file in [
        "devices-jetson-nx-100mbps.toml",
        "devices-jetson-mixed-1000mbps.toml",
    ] {
        for n in [5, 12] {
            let scenario = scenario(cluster(file), n, at_once(n as usize, 1, 300));
            let tokens_per_s = |rows: u32| {
                let ns = slowest_ns(&scenario, Work::decode(rows, 0));
                f64::from(rows) * 1e9 / ns as f64
            };
            // Whatever shares a micro-batch.
            let most = (1..=n).map(tokens_per_s).fold(0.0, f64::max);
            let got = run(&scenario).tps();
            assert!(got < most, "{file} {n}: {got} {most}");
            assert!(got > 0.8 * tokens_per_s(1), "{file} {n}: {got}");
        }
    }
}

/// What eight streams that decode, and a prompt of 3,000 tokens that comes then, see under a rule.
fn interrupted(schedule: Schedule, tbt_target_ms: u64) -> Outcome {
    let streams = at_once(8, 8, 120);
    let prompt = SimRequest {
        arrives_ns: 20_000_000_000,
        ..SimRequest::at_once(3000, 1)
    };
    let mut scenario = scenario(jetsons(), 12, [streams, vec![prompt]].concat());
    scenario.planner.schedule = schedule;
    scenario.planner.tbt_target_ms = Some(tbt_target_ms);
    run(&scenario)
}

#[test]
fn a_long_prompt_leaves_the_others_what_was_promised() {
    for target_ms in [2000, 4000] {
        let outcome = interrupted(Schedule::Auto, target_ms);
        let longest_ms = outcome.gaps_ns.last().unwrap() / 1_000_000;
        assert!(
            longest_ms <= target_ms * 3 / 2,
            "{longest_ms} of {target_ms}"
        );
        // It uses what was promised, too.
        assert!(longest_ms > target_ms / 2, "{longest_ms} of {target_ms}");
    }
    let chunked = interrupted(Schedule::Chunked, 2000);
    let longest_ms = chunked.gaps_ns.last().unwrap() / 1_000_000;
    assert!(longest_ms > 4000, "{longest_ms}");
}

#[test]
fn requests_wait_for_their_turn_and_the_queue_has_an_end() {
    let scenario = scenario(jetsons(), 2, at_once(300, 8, 4));
    let outcome = Simulation::new(&scenario).unwrap().run().unwrap();
    // Two are computed and 256 wait.
    assert_eq!(outcome.n_errors(), 300 - 258);
    assert_eq!(outcome.n_tokens(), 258 * 4);
    let error = outcome.requests[299].error.as_deref().unwrap();
    assert!(error.contains("256 requests are waiting"), "{error}");
    let times: Vec<_> = outcome.requests.iter().filter_map(|r| r.ttft_ns).collect();
    assert!(times.is_sorted(), "first come, first served");
    assert!(times[257] > 50 * times[0]);
}

#[test]
fn the_more_come_the_longer_they_wait() {
    let ttft = |rate: f64| {
        let requests = arrivals(rate, 60, Lengths::ShareGpt, 3).unwrap();
        // Who would wait for more than five minutes is refused.
        let simulation = Simulation::new(&scenario(jetsons(), 8, requests))
            .unwrap()
            .run();
        simulation.unwrap().ttft()
    };
    let (seldom, often) = (ttft(0.002), ttft(0.2));
    assert!(often.p95 > 5.0 * seldom.p95, "{seldom:?} {often:?}");
    assert!(seldom.p50 <= seldom.p95 && seldom.p95 <= seldom.p99);
}

#[test]
fn points_are_written_side_by_side() {
    let asked = |n_predict, points| SimRequest {
        points,
        ..SimRequest::at_once(260, n_predict)
    };
    let points = |n_points, n_predict| Points {
        n_points,
        n_prompt: 12,
        n_predict,
        with_lines: false,
    };
    let answered = |request| {
        let scenario = scenario(jetsons(), 4, vec![request]);
        run(&scenario).requests.remove(0)
    };
    let plain = answered(asked(150, None));
    let outlined = answered(asked(25, Some(points(5, 25))));
    assert_eq!((plain.n_tokens, outlined.n_tokens), (150, 125));
    // The outline alone takes as long as a sixth of the answer.
    assert!(outlined.ttft_ns > plain.ttft_ns);
    assert!(
        outlined.total_ns < plain.total_ns / 2,
        "{outlined:?} {plain:?}"
    );
    let with_lines = answered(asked(
        25,
        Some(Points {
            with_lines: true,
            ..points(5, 25)
        }),
    ));
    assert_eq!(with_lines.n_tokens, 125);
    assert!(with_lines.ttft_ns < with_lines.outline_ns, "{with_lines:?}");
    assert!(outlined.ttft_ns > outlined.outline_ns, "{outlined:?}");
    let bare = answered(asked(0, Some(points(5, 25))));
    assert_eq!(bare.n_tokens, 125);
    assert!(bare.total_ns < outlined.total_ns);
}

#[test]
fn sixty_four_devices_are_simulated() {
    let cluster = copies(&jetsons(), 64);
    let requests = arrivals(2.0, 40, Lengths::ShareGpt, 1).unwrap();
    let n_tokens: u64 = requests.iter().map(|r| u64::from(r.n_predict)).sum();
    let scenario = Scenario {
        planner: planner(&cluster, SplitPolicy::PerNode, 16),
        cluster,
        requests,
        guesses: None,
        traces: false,
    };
    let outcome = run(&scenario);
    assert_eq!(outcome.stages.len(), 64);
    assert_eq!(outcome.n_tokens(), n_tokens);
}

/// Under each rule, the same requests.
fn under_load(rate: f64, n_requests: u32, lengths: Lengths) -> [Outcome; 3] {
    [Schedule::Chunked, Schedule::Throttle, Schedule::Auto].map(|schedule| {
        let requests = arrivals(rate, n_requests, lengths, 1).unwrap();
        let cluster = cluster("devices-jetson-mixed-1000mbps.toml");
        let mut scenario = scenario(cluster, 16, requests);
        scenario.planner.schedule = schedule;
        run(&scenario)
    })
}

#[test]
fn ten_thousand_requests_are_answered_under_each_rule() {
    let lengths = Lengths::LogNormal {
        n_prompt: 30,
        n_predict: 4,
    };
    let outcomes = under_load(0.5, 10_000, lengths);
    let n_tokens = outcomes.each_ref().map(Outcome::n_tokens);
    assert!(
        n_tokens.iter().all(|n| *n == n_tokens[0] && *n > 30_000),
        "{n_tokens:?}"
    );
}

#[test]
fn on_unequal_devices_a_budget_in_time_beats_one_in_tokens() {
    // Where the others begin to fall behind.
    let [chunked, throttle, auto] = under_load(0.03, 300, Lengths::ShareGpt);
    for other in [chunked, throttle] {
        let (ours, theirs) = (auto.ttft(), other.ttft());
        assert!(auto.tps() > 0.99 * other.tps());
        assert!(ours.p99 < 0.7 * theirs.p99, "{ours:?} {theirs:?}");
        let (ours, theirs) = (auto.tbt(), other.tbt());
        assert!(ours.p99 < theirs.p99, "{ours:?} {theirs:?}");
    }
}
