//! Plans by what was measured of the nodes.

use jupiter_models::LayerRange;
use jupiter_models::profile::{ComputeProfile, Crowding, LayerProfile, Noise, RowCurve};

use super::super::super::{NodeProfile, PlacedStage};
use super::*;
use crate::planning::profile::{DeviceProfile, LinkProfile};

/// Enough for everything.
pub(super) const PLENTY: u64 = 1 << 20;

impl World {
    /// Node `i` joins with `ms` for a row of a layer and `memory` bytes free.
    pub(super) fn joins(&mut self, i: u32, ms: f64, memory: u64) {
        self.joins_with(i, ms, 0.0, memory);
    }

    /// The same, with `context_ms` for a row and a token before it.
    pub(super) fn joins_with(&mut self, i: u32, ms: f64, context_ms: f64, memory: u64) {
        let node = NodeId(format!("n{i}"));
        let rows = RowCurve::new(&[(1, ms), (64, 64.0 * ms)]);
        let others = (0..4).filter(|&other| other != i);
        let link = |from: u32, to: u32| LinkProfile {
            from: NodeId(format!("n{from}")),
            to: NodeId(format!("n{to}")),
            latency_ms: 0.01,
            bytes_per_ms: 1e6,
        };
        self.core.measured(NodeProfile {
            device: Some(DeviceProfile {
                node,
                kind: format!("kind {ms} {memory}"),
                machine: String::new(),
                compute: ComputeProfile {
                    layers: vec![LayerProfile {
                        rows,
                        context_ms,
                        tile_context_ms: context_ms,
                    }],
                    step_ms: 0.0,
                    embedding_ms: 0.0,
                    head: RowCurve::new(&[(1, 0.001)]),
                    crowding: Crowding::default(),
                    noise: Noise::default(),
                },
                free_memory_bytes: memory,
            }),
            links: others
                .flat_map(|other| [link(i, other), link(other, i)])
                .collect(),
        });
        self.node_up(i);
    }

    /// Node and layers of each stage.
    pub(super) fn placed(&self) -> Vec<(String, u32, u32)> {
        let stages = self.core.status().stages.into_iter();
        stages
            .map(|s| (s.node.0, s.layers.start, s.layers.end))
            .collect()
    }

    /// The next step takes `busy_us` at each of the stages.
    fn slow_step(&mut self, busy_us: &[u64]) {
        let header = self.pipeline.pop_front().unwrap();
        self.report_with(&header, busy_us);
    }

    /// Computes a step, which takes `busy_us` at each of the stages, and reports it.
    pub(super) fn report_with(&mut self, header: &StepHeader, busy_us: &[u64]) {
        let mut report = self.compute(header);
        report.timings = busy_us
            .iter()
            .enumerate()
            .map(|(stage, &busy_us)| StageTiming {
                stage: stage as u32,
                began_us: 0,
                waited_us: 0,
                busy_us,
            })
            .collect();
        self.core.report(report, self.now);
        self.settle();
    }
}

pub(super) fn planned(wait_nodes: u32) -> World {
    let mut world = World::new(0, SplitPolicy::Planned);
    world.core.config.wait_nodes = wait_nodes;
    world
}

fn stages(list: &[(&str, u32, u32)]) -> Vec<(String, u32, u32)> {
    list.iter()
        .map(|&(node, start, end)| (node.to_owned(), start, end))
        .collect()
}

#[test]
fn layers_follow_what_was_measured() {
    let mut world = planned(2);
    world.joins(0, 1.0, PLENTY);
    assert_eq!(world.placed(), []);
    world.joins(1, 3.0, PLENTY);
    let mut placed = world.placed();
    placed.sort();
    assert_eq!(placed.len(), 2, "{placed:?}");
    let of_slow = placed.iter().find(|(node, ..)| node == "n1").unwrap();
    assert_eq!(of_slow.2 - of_slow.1, 1, "{placed:?}");
    let prompt: Vec<Token> = (0..23).collect();
    let mut events = world.ask(1, &prompt, 20);
    world.run();
    assert_text(&mut events, &prompt, 20);
}

#[test]
fn a_node_that_helps_little_moves_nothing_and_one_that_helps_does() {
    let mut world = planned(1);
    world.joins(0, 1.0, PLENTY);
    assert_eq!(world.placed(), stages(&[("n0", 0, 4)]));
    world.joins(1, 100.0, PLENTY);
    assert_eq!(world.placed(), stages(&[("n0", 0, 4)]));
    let plan = world.core.status().plan.unwrap();
    assert_eq!(plan.excluded.len(), 1, "{plan:?}");
    world.joins(2, 1.0, PLENTY);
    assert_eq!(world.placed().len(), 2, "{:?}", world.placed());
}

#[test]
fn a_model_that_fits_nowhere_waits_for_a_node_that_holds_it() {
    let mut world = planned(1);
    world.joins(0, 1.0, 500);
    let mut events = world.ask(1, &[1, 2, 3], 5);
    assert_error(&mut events, "one more device");
    assert!(matches!(world.core.status().phase, ClusterPhase::Failed(_)));
    world.joins(1, 1.0, 800);
    let mut events = world.ask(2, &[1, 2, 3], 5);
    world.run();
    assert_text(&mut events, &[1, 2, 3], 5);
}

#[test]
fn a_node_that_could_not_be_measured_computes_the_whole_model_alone() {
    let mut world = planned(1);
    world.node_up(0);
    assert_eq!(world.placed(), stages(&[("n0", 0, 4)]));
    let mut events = world.ask(1, &[1, 2, 3], 5);
    world.run();
    assert_text(&mut events, &[1, 2, 3], 5);
    // Two of them have to be told how to share it.
    let mut world = planned(2);
    world.node_up(0);
    world.node_up(1);
    let why = world.core.status().phase;
    assert!(
        matches!(&why, ClusterPhase::Failed(why) if why.contains("--plan even")),
        "{why:?}"
    );
}

#[test]
fn a_load_that_fails_is_planned_around() {
    let mut world = planned(2);
    world.joins(0, 1.0, PLENTY);
    world.joins(1, 1.0, PLENTY);
    let before = world.placed();
    let (stage, (node, start, end)) = before
        .iter()
        .enumerate()
        .find(|(_, (node, ..))| node == "n1")
        .unwrap();
    let down = NodeReport::StageDown {
        epoch: world.epoch,
        stage: stage as u32,
        node: NodeId(node.clone()),
        why: "out of memory".into(),
        restarting: false,
    };
    world.core.node_report(down, world.now);
    world.settle();
    let after = world.placed();
    let layers = |placed: &[(String, u32, u32)]| {
        let of_node = placed.iter().find(|(node, ..)| node == "n1");
        of_node.map_or(0, |(_, start, end)| end - start)
    };
    assert!(layers(&after) < end - start, "{before:?} became {after:?}");
    let mut events = world.ask(1, &[1, 2, 3], 12);
    world.run();
    assert_text(&mut events, &[1, 2, 3], 12);
}

#[test]
fn a_device_that_gets_slow_loses_layers() {
    let mut world = planned(2);
    world.joins(0, 1.0, PLENTY);
    world.joins(1, 1.0, PLENTY);
    let before = world.placed();
    let [(_, _, cut), _] = &before[..] else {
        panic!("{before:?}")
    };
    let is_long = |prompt: &Vec<Token>| expected(prompt, 40).len() == 40;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let mut events = world.ask(1, &prompt, 40);
    // The second stage takes ten times as long as the first beside its profile.
    while let Some(header) = world.pipeline.front() {
        let own_us = 1000 * header.rows.len() as u64 * u64::from(*cut);
        world.slow_step(&[400 * own_us, 4000 * own_us]);
    }
    assert_text(&mut events, &prompt, 40);
    world.tick(1000);
    assert_ne!(
        world.placed(),
        before,
        "the slow device has as much as before"
    );
}

#[test]
fn a_pinned_plan_waits_for_its_nodes_and_returns_when_they_do() {
    let pinned = |node: &str, start, end| PlacedStage {
        node: NodeId(node.into()),
        layers: LayerRange::new(start, end),
    };
    let plan = vec![pinned("n1", 0, 1), pinned("n0", 1, 4)];
    let mut world = World::new(0, SplitPolicy::Pinned(plan));
    world.core.config.wait_nodes = 2;
    world.node_up(0);
    world.node_up(2);
    let why = world.core.status().phase;
    assert!(
        matches!(&why, ClusterPhase::Failed(why) if why.contains("needs node n1")),
        "{why:?}"
    );
    world.node_up(1);
    let wanted = stages(&[("n1", 0, 1), ("n0", 1, 4)]);
    assert_eq!(world.placed(), wanted);
    let mut events = world.ask(1, &[1, 2, 3], 12);
    world.step();
    world.node_down(1);
    assert_eq!(world.placed().len(), 2, "others take its layers");
    world.run();
    assert_text(&mut events, &[1, 2, 3], 12);
    world.node_up(1);
    assert_eq!(world.placed(), wanted);
}
