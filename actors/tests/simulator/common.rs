//! Clusters of the published devices, and what is asked of them.

use jupiter_actors::NodeId;
use jupiter_actors::planner::{PlanGoal, PlannerConfig, Schedule, SplitPolicy};
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::placement::Objective;
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use jupiter_actors::request::{DraftChoice, SpeculationParams};
use jupiter_actors::simulator::{Outcome, Scenario, SimRequest, Simulation};
use jupiter_models::engine::EngineParams;
use jupiter_models::hidden::HiddenDtype;

/// A devices file of the repository.
pub(crate) fn devices(file: &str) -> DevicesFile {
    let path = format!("{}/../configs/{file}", env!("CARGO_MANIFEST_DIR"));
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The cluster of a devices file, the Planner beside its first device.
pub(crate) fn cluster(file: &str) -> Cluster {
    devices(file).into_cluster().unwrap().with_head_on(0)
}

/// Four equal devices.
pub(crate) fn jetsons() -> Cluster {
    cluster("devices-jetson-nx-1000mbps.toml")
}

/// So many copies of the first device of a cluster, with layers for all of them.
pub(crate) fn copies(of: &Cluster, n: usize) -> Cluster {
    let mut model = of.model().clone();
    model.layers = vec![model.layers[0].clone(); n.max(model.layers.len())];
    let device = |i: usize| DeviceProfile {
        node: NodeId(format!("n{i:02}")),
        ..of.devices()[0].clone()
    };
    let devices: Vec<DeviceProfile> = (0..n).map(device).collect();
    let way = of.link_between(0, 1).unwrap();
    let link = |from: usize, to: usize| LinkProfile {
        from: devices[from].node.clone(),
        to: devices[to].node.clone(),
        ..way.clone()
    };
    let pairs = (0..n).flat_map(|from| (0..n).map(move |to| (from, to)));
    let links: Vec<_> = pairs
        .filter(|(a, b)| a != b)
        .map(|(a, b)| link(a, b))
        .collect();
    let head = devices[0].node.clone();
    Cluster::new(model, devices, &links, Some(head)).unwrap()
}

/// The Planner's configuration for a cluster, its head on the first device.
pub(crate) fn planner(cluster: &Cluster, split: SplitPolicy, n_parallel: u32) -> PlannerConfig {
    let engine = EngineParams {
        n_ctx: 1024 * n_parallel,
        n_seq_max: n_parallel + 32 + 7,
        n_batch: 128,
        n_threads: 1,
        ..EngineParams::default()
    };
    PlannerConfig {
        model: String::new(),
        model_profile: cluster.model().clone(),
        head: cluster.devices()[0].node.clone(),
        split,
        goal: PlanGoal::new(Objective::Ttft, engine.n_ctx, n_parallel),
        adapts: true,
        wait_nodes: cluster.devices().len() as u32,
        n_parallel,
        n_branches: 32,
        cache_cells: None,
        past: None,
        chunk: engine.n_batch,
        schedule: Schedule::Auto,
        tbt_target_ms: None,
        engine,
        speculation: SpeculationParams {
            source: DraftChoice::None,
            ..SpeculationParams::default()
        },
        heads: None,
        draft: None,
        payload_dtype: HiddenDtype::F16,
        step_timeout_ms: 600_000,
        node_wait_ms: 60_000,
        retry_ms: 1_000,
    }
}

/// `n` requests at once.
pub(crate) fn at_once(n: usize, n_prompt: u32, n_predict: u32) -> Vec<SimRequest> {
    vec![SimRequest::at_once(n_prompt, n_predict); n]
}

pub(crate) fn scenario(cluster: Cluster, n_parallel: u32, requests: Vec<SimRequest>) -> Scenario {
    Scenario {
        planner: planner(&cluster, SplitPolicy::Planned, n_parallel),
        cluster,
        requests,
        guesses: None,
        traces: false,
    }
}

pub(crate) fn run(scenario: &Scenario) -> Outcome {
    let outcome = Simulation::new(scenario).unwrap().run().unwrap();
    let errors: Vec<_> = outcome
        .requests
        .iter()
        .filter_map(|r| r.error.clone())
        .collect();
    assert_eq!(errors, [""; 0]);
    outcome
}
