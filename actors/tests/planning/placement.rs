//! Placements against all placements there are.
use jupiter_actors::planning::PlanError;
use jupiter_actors::planning::cost::Pipeline;
use jupiter_actors::planning::memory::{MemoryDemand, StageMemory};
use jupiter_actors::planning::placement::figures::{Value, figures, value};
use jupiter_actors::planning::placement::{Objective, PlanRequest, Reason, plan};
use jupiter_actors::planning::profile::Cluster;
use jupiter_models::LayerRange;
use jupiter_models::gguf::KvDtype;
use proptest::prelude::*;

use crate::common::{all_placements, cluster, request};

type Stages = Vec<(usize, LayerRange)>;

fn fits(cluster: &Cluster, demand: &MemoryDemand, stages: &Stages, free: &[u64]) -> bool {
    let (model, memory) = (cluster.model(), StageMemory::new(cluster.model(), demand));
    stages.iter().all(|&(device, layers)| {
        memory.bytes(layers) <= free[device] && model.cuts.allows(layers, model.n_layer())
    })
}

fn free(cluster: &Cluster) -> Vec<u64> {
    cluster
        .devices()
        .iter()
        .map(|d| d.free_memory_bytes)
        .collect()
}

/// All placements that fit and cut where they may, with their values.
fn brute_force(cluster: &Cluster, request: &PlanRequest) -> Vec<(Value, Stages)> {
    let all = all_placements(cluster.devices().len(), cluster.n_layer());
    all.into_iter()
        .filter(|stages| fits(cluster, &request.memory, stages, &free(cluster)))
        .map(|stages| {
            let pipeline = Pipeline::new(cluster, &stages);
            (value(&pipeline, request.objective, &request.load), stages)
        })
        .collect()
}

/// Whether some placement fits.
fn some_fits(cluster: &Cluster, demand: &MemoryDemand, free: &[u64]) -> bool {
    all_placements(free.len(), cluster.n_layer())
        .iter()
        .any(|stages| fits(cluster, demand, stages, free))
}

/// Devices of one class are interchangeable: here, those of one type that are equally far from the
/// Planner.
fn class(cluster: &Cluster, device: usize) -> (&str, u64, u64) {
    let all = LayerRange::new(0, cluster.n_layer() as u32);
    let alone = Pipeline::new(cluster, vec![(device, all)]);
    let kind = &cluster.devices()[device].kind;
    (kind, alone.entry_ns(), alone.return_ns())
}

fn check_plan(cluster: &Cluster, request: &PlanRequest) -> Result<bool, TestCaseError> {
    let all = brute_force(cluster, request);
    let planned = match plan(cluster, request) {
        Ok(planned) => planned,
        Err(PlanError::DoesNotFit(shortage)) => {
            prop_assert!(all.is_empty(), "{shortage}");
            check_shortage(cluster, request, &shortage)?;
            return Ok(false);
        }
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    };
    prop_assert!(!planned.types_merged);
    let stages = planned.stages();
    let (best, best_stages) = all.iter().min_by_key(|(value, _)| *value).unwrap();
    let ours = value(&planned.pipeline(cluster), request.objective, &request.load);
    prop_assert_eq!(ours, *best, "{:?} instead of {:?}", stages, best_stages);
    prop_assert!(fits(cluster, &request.memory, &stages, &free(cluster)));
    prop_assert!(all.iter().any(|(_, other)| *other == stages));
    prop_assert_eq!(
        planned.predicted,
        figures(&planned.pipeline(cluster), &request.load)
    );
    prop_assert_eq!(
        planned.excluded.len() + stages.len(),
        cluster.devices().len()
    );
    // One machine alone.
    let alone = all
        .iter()
        .filter(|(_, stages)| stages.len() == 1)
        .min_by_key(|(value, _)| *value);
    prop_assert_eq!(planned.alone.is_some(), alone.is_some());
    if let (Some(ours), Some((_, stages))) = (&planned.alone, alone) {
        prop_assert_eq!(
            ours.predicted,
            figures(&Pipeline::new(cluster, stages), &request.load)
        );
    }
    // Reasons are true, too.
    for excluded in &planned.excluded {
        let index = cluster
            .devices()
            .iter()
            .position(|d| d.node == excluded.node)
            .unwrap();
        let class = class(cluster, index);
        let count = |stages: &Stages| {
            let same = stages
                .iter()
                .filter(|stage| self::class(cluster, stage.0) == class);
            same.count()
        };
        let with = all
            .iter()
            .filter(|(_, other)| count(other) > count(&stages));
        let with = with.map(|(value, _)| value.main_ns).min();
        let is_exact = request.objective != Objective::Ttft;
        match excluded.reason {
            Reason::TooLittleMemory { .. } | Reason::NoPlace => prop_assert_eq!(with, None),
            Reason::Slower {
                with_ms,
                without_ms,
                network_ms,
                compute_ms,
            } => {
                prop_assert!(with_ms > without_ms);
                prop_assert!((with_ms - without_ms - network_ms - compute_ms).abs() < 2e-5);
                let exact = with.unwrap() as f64 / 1e6;
                prop_assert!(
                    !is_exact || (with_ms - exact).abs() < 2e-5,
                    "{with_ms} {exact}"
                );
            }
            Reason::NoFaster { .. } => prop_assert!(!is_exact || with == Some(ours.main_ns)),
        }
    }
    Ok(true)
}

fn check_shortage(
    cluster: &Cluster,
    request: &PlanRequest,
    shortage: &jupiter_actors::planning::memory::Shortage,
) -> Result<(), TestCaseError> {
    let demand = request.memory;
    let with_extra = |i: usize, extra: u64| {
        let mut more = free(cluster);
        more[i] += extra;
        some_fits(cluster, &demand, &more)
    };
    let index = cluster
        .devices()
        .iter()
        .position(|d| d.node == shortage.node)
        .unwrap();
    prop_assert!(with_extra(index, shortage.missing_bytes));
    for i in 0..cluster.devices().len() {
        prop_assert!(!with_extra(i, shortage.missing_bytes - 1));
    }
    let n_ctx_fits = |n_ctx, kv| {
        some_fits(
            cluster,
            &MemoryDemand {
                n_ctx,
                kv,
                ..demand
            },
            &free(cluster),
        )
    };
    let longest = |kv| {
        (1..=demand.n_ctx)
            .rev()
            .find(|&n_ctx| n_ctx_fits(n_ctx, kv))
    };
    prop_assert_eq!(shortage.n_ctx, longest(demand.kv));
    if demand.kv == KvDtype::F16 {
        prop_assert_eq!(shortage.n_ctx_q8_0, longest(KvDtype::Q8_0));
    }
    let with_device = |bytes| {
        let mut more = free(cluster);
        more.push(bytes);
        some_fits(cluster, &demand, &more)
    };
    prop_assert!(with_device(shortage.extra_device_bytes));
    prop_assert!(!with_device(shortage.extra_device_bytes - 1));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8000))]

    #[test]
    fn no_placement_is_better(cluster in cluster(1..=4, 1..=5), request in request()) {
        check_plan(&cluster, &request)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_placement_is_better_on_longer_models(cluster in cluster(1..=4, 6..=9), request in request()) {
        check_plan(&cluster, &request)?;
    }

    #[test]
    fn no_placement_is_better_on_more_devices(cluster in cluster(5..=5, 4..=6), request in request()) {
        check_plan(&cluster, &request)?;
    }
}

/// The cases above would show nothing if most of them were trivial.
#[test]
fn random_cases_are_of_all_kinds() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    let strategy = (cluster(1..=4, 1..=5), request());
    for _ in 0..1000 {
        let (cluster, request) = strategy.new_tree(&mut runner).unwrap().current();
        let mut count = |what: String| *counts.entry(what).or_default() += 1;
        match plan(&cluster, &request) {
            Err(_) => count("does not fit".into()),
            Ok(planned) => {
                count(format!(
                    "{:?}, {} stages",
                    request.objective,
                    planned.placement.len()
                ));
                for excluded in planned.excluded {
                    count(match excluded.reason {
                        Reason::TooLittleMemory { .. } => "too little memory".into(),
                        Reason::NoPlace => "no place".into(),
                        Reason::Slower { .. } => "slower".into(),
                        Reason::NoFaster { .. } => "no faster".into(),
                    });
                }
            }
        }
    }
    println!("{counts:#?}");
    for (what, at_least) in [
        ("does not fit", 50),
        ("Ttft, 2 stages", 30),
        ("Ttft, 3 stages", 10),
        ("Tbt, 2 stages", 20),
        ("Throughput, 3 stages", 10),
        ("slower", 100),
        ("no faster", 5),
        ("no place", 5),
        ("too little memory", 5),
    ] {
        let n = counts.get(what).copied().unwrap_or(0);
        assert!(
            n >= at_least,
            "{what}: {n} of 1000, {at_least} wanted: {counts:?}"
        );
    }
}
