//! Random small clusters. Values are small whole numbers, so that ties are frequent.
use jupiter_actors::NodeId;
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Objective, PlanRequest, Workload};
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use jupiter_models::LayerRange;
use jupiter_models::architecture::{Cuts, LayerKind};
use jupiter_models::gguf::KvDtype;
use jupiter_models::profile::{
    ComputeProfile, Crowding, LayerProfile, LayerShape, ModelProfile, Noise, RowCurve,
};
use proptest::prelude::*;

/// Bytes of 32 values in f16, so that a q8_0 cache of few values is smaller, too.
const MEMORY_UNIT: u64 = 64;

/// Row counts at which random curves have points.
const ROWS: [u32; 6] = [1, 2, 3, 4, 8, 16];

fn curve(scale: u32) -> impl Strategy<Value = RowCurve> {
    prop::collection::vec(1..=scale, ROWS.len()).prop_map(|ms| {
        RowCurve::new(&std::iter::zip(ROWS, ms.into_iter().map(f64::from)).collect::<Vec<_>>())
    })
}

fn device(n_kinds: usize) -> impl Strategy<Value = DeviceProfile> {
    let layer = (curve(20), 0u32..3, 0u32..3).prop_map(|(rows, context, tile)| LayerProfile {
        rows,
        context_ms: f64::from(context) * 0.01,
        tile_context_ms: f64::from(tile) * 0.01,
    });
    (
        prop::collection::vec(layer, n_kinds),
        0u32..3,
        0u32..4,
        curve(30),
        1u64..100,
    )
        .prop_map(|(layers, embedding, step, head, free)| DeviceProfile {
            node: NodeId(String::new()),
            kind: String::new(),
            machine: String::new(),
            compute: ComputeProfile {
                layers,
                step_ms: f64::from(step),
                embedding_ms: f64::from(embedding) * 0.5,
                head,
                crowding: Crowding::default(),
                noise: Noise::default(),
            },
            free_memory_bytes: free * MEMORY_UNIT,
        })
}

fn model(n_layer: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = ModelProfile> {
    let layer = (0usize..2, 1u64..16, 0u64..4).prop_map(|(class, weight, kv)| LayerShape {
        class,
        weight_bytes: weight * MEMORY_UNIT,
        kv_bytes_per_token: kv * MEMORY_UNIT,
        state_bytes: 0,
    });
    (
        prop::collection::vec(layer, n_layer),
        0u64..20,
        0u64..20,
        any::<bool>(),
        0u64..5,
        cuts(),
    )
        .prop_map(
            |(layers, embedding, head, tied_head, buffer, cuts)| ModelProfile {
                layers,
                embedding_bytes: embedding * MEMORY_UNIT,
                head_bytes: head * MEMORY_UNIT,
                tied_head,
                buffer_bytes: buffer * MEMORY_UNIT,
                n_embd: 8,
                bytes_per_value: 1.0,
                cuts,
            },
        )
}

/// Mostly anywhere; else by rules as architectures have them.
fn cuts() -> impl Strategy<Value = Cuts> {
    let rules = (
        1u32..4,
        1u32..4,
        prop::collection::vec(1u32..4, 0..2),
        0u32..5,
    );
    let by_rules = rules.prop_map(|(step, min_layers, special_lengths, kind)| Cuts {
        step,
        min_layers,
        special_lengths,
        kinds: vec![LayerKind {
            what: "of a kind".into(),
            layers: vec![kind, 2],
        }],
        ..Cuts::default()
    });
    prop_oneof![
        16 => Just(Cuts::default()),
        3 => by_rules,
        1 => Just(Cuts::never("it is one".into())),
    ]
}

/// How devices and links of a cluster are alike.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Not at all.
    Unequal,
    /// Devices are of types, and so are links.
    Types,
    /// Devices differ, links do not.
    OneLink,
    /// Devices are of types, but all links differ, even the two directions of one.
    Twins,
}

/// Where the Planner of a random cluster sits.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// Beside the first stage.
    Beside,
    /// On a device.
    Device(usize),
    /// On a node without layers.
    Outside,
}

fn head(n_devices: usize) -> impl Strategy<Value = Head> {
    prop_oneof![
        Just(Head::Beside),
        (0..n_devices).prop_map(Head::Device),
        Just(Head::Outside),
    ]
}

/// A cluster; some devices are copies of others, with the same links, and often all links agree.
pub(crate) fn cluster(
    n_devices: std::ops::RangeInclusive<usize>,
    n_layer: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = Cluster> {
    n_devices.prop_flat_map(move |n| {
        (
            model(n_layer.clone()),
            prop::collection::vec(device(2), n),
            prop::collection::vec(0..n, n),
            prop::collection::vec((0u32..6, 1u32..40), n * n),
            prop::sample::select(vec![Kind::Unequal, Kind::Types, Kind::OneLink, Kind::Twins]),
            1u64..8,
            head(n),
            prop::collection::vec((0u32..6, 0u32..6), n),
        )
            .prop_map(
                move |(model, drawn, copy_of, drawn_links, kind, memory, head, head_ways)| {
                    let source = |i: usize| match kind {
                        Kind::Types | Kind::Twins => copy_of[i],
                        Kind::Unequal | Kind::OneLink => i,
                    };
                    let devices: Vec<_> = (0..n)
                        .map(|i| DeviceProfile {
                            node: NodeId(format!("n{i}")),
                            kind: match kind {
                                Kind::Twins => format!("type{i}"),
                                _ => format!("type{}", source(i)),
                            },
                            free_memory_bytes: drawn[source(i)].free_memory_bytes * memory,
                            ..drawn[source(i)].clone()
                        })
                        .collect();
                    let mut links = Vec::new();
                    for from in 0..n {
                        for to in (0..n).filter(|&to| to != from) {
                            let (at, delay) = match kind {
                                Kind::Unequal | Kind::Types => (source(from) * n + source(to), 0),
                                Kind::OneLink => (0, 0),
                                // No two links alike.
                                Kind::Twins => (from * n + to, 6 * (from * n + to)),
                            };
                            let (latency, speed) = drawn_links[at];
                            let latency = latency + delay as u32;
                            links.push(LinkProfile {
                                from: NodeId(format!("n{from}")),
                                to: NodeId(format!("n{to}")),
                                latency_ms: f64::from(latency),
                                bytes_per_ms: f64::from(speed),
                            });
                        }
                    }
                    let node = |i: usize| NodeId(format!("n{i}"));
                    let head = match head {
                        Head::Beside => None,
                        Head::Device(device) => Some(node(device)),
                        Head::Outside => Some(node(n)),
                    };
                    for device in 0..n {
                        let (there, back) = head_ways[source(device)];
                        for (from, to, latency) in [(n, device, there), (device, n, back)] {
                            links.push(LinkProfile {
                                from: node(from),
                                to: node(to),
                                latency_ms: f64::from(latency),
                                bytes_per_ms: 1.0,
                            });
                        }
                    }
                    Cluster::new(model, devices, &links, head).unwrap()
                },
            )
    })
}

pub(crate) fn request() -> impl Strategy<Value = PlanRequest> {
    (
        prop::sample::select(vec![Objective::Ttft, Objective::Tbt, Objective::Throughput]),
        1u32..80,
        1u32..10,
        0u32..20,
        1u32..6,
        1u32..3,
        any::<bool>(),
    )
        .prop_map(
            |(objective, prompt, rows, context, n_ctx, n_seq, is_f16)| PlanRequest {
                objective,
                load: Workload {
                    prompt,
                    rows,
                    context,
                },
                memory: MemoryDemand {
                    n_ctx,
                    n_seq,
                    kv: if is_f16 { KvDtype::F16 } else { KvDtype::Q8_0 },
                },
            },
        )
}

/// Every placement that there is: ordered subsets of devices with at least one layer each.
pub(crate) fn all_placements(n_devices: usize, n_layer: usize) -> Vec<Vec<(usize, LayerRange)>> {
    fn extend(
        stages: &mut Vec<(usize, LayerRange)>,
        n_devices: usize,
        n_layer: u32,
        all: &mut Vec<Vec<(usize, LayerRange)>>,
    ) {
        let behind = stages.last().map_or(0, |stage| stage.1.end);
        if behind == n_layer {
            all.push(stages.clone());
            return;
        }
        for device in 0..n_devices {
            if stages.iter().any(|stage| stage.0 == device) {
                continue;
            }
            for end in behind + 1..=n_layer {
                stages.push((device, LayerRange::new(behind, end)));
                extend(stages, n_devices, n_layer, all);
                stages.pop();
            }
        }
    }
    let mut all = Vec::new();
    extend(&mut Vec::new(), n_devices, n_layer as u32, &mut all);
    all
}

/// One of all placements of a cluster.
pub(crate) fn stages(cluster: &Cluster, pick: prop::sample::Index) -> Vec<(usize, LayerRange)> {
    let all = all_placements(cluster.devices().len(), cluster.n_layer());
    pick.get(&all).clone()
}
