//! One answer at a time: what the costs of a pipeline say, to the nanosecond where nothing waits.

use jupiter_actors::planner::{SplitPolicy, grid};
use jupiter_actors::planning::chunks::ChunkTable;
use jupiter_actors::planning::cost::{Pipeline, Work};
use jupiter_actors::planning::placement::{PlanRequest, plan};
use jupiter_actors::simulator::{Scenario, Simulation};

use super::common::{at_once, cluster, copies, jetsons, planner, run, scenario};

#[test]
fn the_first_token_comes_when_the_planned_chunks_say() {
    for (file, n_prompt) in [
        ("devices-jetson-nx-100mbps.toml", 260),
        ("devices-jetson-nx-1000mbps.toml", 100),
        ("devices-jetson-mixed-1000mbps.toml", 700),
    ] {
        let scenario = scenario(cluster(file), 1, at_once(1, n_prompt, 1));
        let (config, cluster) = (&scenario.planner, &scenario.cluster);
        let request = PlanRequest {
            objective: config.goal.objective,
            load: config.goal.load,
            memory: config.memory_demand(),
        };
        let planned = plan(cluster, &request).unwrap();
        let grid = grid(config.chunk, config.engine.n_ctx).unwrap();
        let table = ChunkTable::new(&planned.pipeline(cluster), grid).unwrap();
        let expected = table.chunks(n_prompt).unwrap().ttft_ns as f64;
        let got = run(&scenario).requests[0].ttft_ns.unwrap() as f64;
        // The table lets all chunks go at once; the Planner keeps as many under way as stages and
        // one, which costs the ways from and to it.
        assert!((got / expected - 1.0).abs() < 0.02, "{got} {expected}");
    }
}

#[test]
fn a_token_takes_one_way_around_all_stages() {
    for file in [
        "devices-jetson-nx-1000mbps.toml",
        "devices-jetson-mixed-100mbps.toml",
    ] {
        let scenario = scenario(cluster(file), 1, at_once(1, 16, 40));
        let simulation = Simulation::new(&scenario).unwrap();
        let pipeline = Pipeline::new(&scenario.cluster, simulation.stages());
        let around = |context| pipeline.pass_ns(Work::decode(1, context));
        let mut expected: Vec<u64> = (16..55).map(around).collect();
        expected.sort_unstable();
        assert_eq!(simulation.run().unwrap().gaps_ns, expected, "{file}");
    }
}

#[test]
fn a_scenario_has_one_outcome() {
    let scenario = scenario(jetsons(), 4, at_once(9, 50, 20));
    let (first, second) = (run(&scenario), run(&scenario));
    assert_eq!(first.requests, second.requests);
    assert_eq!(first.gaps_ns, second.gaps_ns);
    assert_eq!(first.elapsed_ns, second.elapsed_ns);
}

#[test]
fn a_model_that_fits_nowhere_is_the_planners_own_words() {
    let refused = |scenario: &Scenario| match Simulation::new(scenario) {
        Ok(_) => panic!("there is a place for it"),
        Err(error) => error.to_string(),
    };
    let mut much = scenario(jetsons(), 1, at_once(1, 16, 1));
    much.planner.engine.n_ctx = 1 << 20;
    let told = refused(&much);
    assert!(told.contains("GiB") || told.contains("GB"), "{told}");
    // Without a plan a stage finds it out when it is loaded.
    much.planner.split = SplitPolicy::PerNode;
    let told = refused(&much);
    assert!(told.contains("are free"), "{told}");
    let crowd = scenario(copies(&jetsons(), 129), 1, at_once(1, 16, 1));
    let told = refused(&crowd);
    assert!(told.contains("too many"), "{told}");
    let many = copies(&jetsons(), 33);
    let even = Scenario {
        planner: planner(&many, SplitPolicy::PerNode, 1),
        ..scenario(many, 1, at_once(1, 16, 1))
    };
    assert_eq!(run(&even).stages.len(), 33);
}
