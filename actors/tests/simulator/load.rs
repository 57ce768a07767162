//! Many answers at a time.

use jupiter_actors::planner::SplitPolicy;
use jupiter_actors::planning::cost::{Pipeline, Work};
use jupiter_actors::simulator::{Lengths, Points, Scenario, SimRequest, Simulation, arrivals};

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

#[test]
fn a_prompt_holds_up_others_by_one_chunk() {
    let streams = at_once(3, 8, 120);
    let prompt = SimRequest {
        arrives_ns: 20_000_000_000,
        ..at_once(1, 900, 1)[0]
    };
    let alone = scenario(jetsons(), 4, streams.clone());
    let largest = slowest_ns(&alone, Work::chunk(alone.planner.chunk, 900));
    let longest = |scenario: &Scenario| *run(scenario).gaps_ns.last().unwrap();
    let alone_ns = longest(&alone);
    let with_prompt = scenario(jetsons(), 4, [streams, vec![prompt]].concat());
    let took_ns = run(&with_prompt).requests[3].ttft_ns.unwrap();
    let held_up_ns = longest(&with_prompt) - alone_ns;
    assert!(
        held_up_ns > 0 && took_ns > 7 * largest,
        "{took_ns} {largest}"
    );
    // On its way through four stages a row meets the same chunk again and again; it never waits for
    // two at one of them.
    assert!(held_up_ns < 4 * largest, "{held_up_ns} {largest}");
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
        run(&scenario(jetsons(), 8, requests)).ttft()
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
