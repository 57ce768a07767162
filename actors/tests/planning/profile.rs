//! Bad profiles and requests: each error names the node and the field.
use jupiter_actors::NodeId;
use jupiter_actors::planning::PlanError;
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Objective, PlanRequest, Workload, plan};
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use jupiter_models::gguf::KvDtype;
use jupiter_models::profile::{
    ComputeProfile, Crowding, LayerProfile, LayerShape, ModelProfile, Noise, RowCurve,
};

pub(crate) type Parts = (ModelProfile, Vec<DeviceProfile>, Vec<LinkProfile>);

fn device(node: &str) -> DeviceProfile {
    DeviceProfile {
        node: NodeId(node.into()),
        kind: "pc".into(),
        machine: String::new(),
        compute: ComputeProfile {
            layers: vec![LayerProfile {
                rows: RowCurve::new(&[(1, 1.0), (64, 9.0)]),
                context_ms: 0.001,
                tile_context_ms: 0.001,
            }],
            step_ms: 0.0,
            embedding_ms: 0.0,
            head: RowCurve::new(&[(1, 2.0)]),
            crowding: Crowding::default(),
            noise: Noise::default(),
        },
        free_memory_bytes: 1 << 30,
    }
}

fn link(from: &str, to: &str) -> LinkProfile {
    LinkProfile {
        from: NodeId(from.into()),
        to: NodeId(to.into()),
        latency_ms: 0.5,
        bytes_per_ms: 12_500.0,
    }
}

pub(crate) fn parts() -> Parts {
    let layer = LayerShape {
        class: 0,
        weight_bytes: 100 << 20,
        kv_bytes_per_token: 4096,
        state_bytes: 0,
    };
    let model = ModelProfile {
        layers: vec![layer; 8],
        embedding_bytes: 10 << 20,
        head_bytes: 10 << 20,
        tied_head: false,
        buffer_bytes: 20 << 20,
        n_embd: 1024,
        bytes_per_value: 2.0,
        cuts: Default::default(),
    };
    (
        model,
        vec![device("a"), device("b")],
        vec![link("a", "b"), link("b", "a")],
    )
}

#[test]
fn bytes_for_a_cache_are_whole_cells_of_all_layers() {
    let (model, ..) = parts();
    let cells = |bytes, k, v| MemoryDemand::cells_in(bytes, &model, k, v);
    // Eight layers of 4 KiB.
    assert_eq!(cells(1 << 20, KvDtype::F16, KvDtype::F16), 32);
    assert_eq!(cells((1 << 20) - 1, KvDtype::F16, KvDtype::F16), 31);
    assert_eq!(cells(1 << 20, KvDtype::Q8_0, KvDtype::Q8_0), 60);
    assert_eq!(cells(0, KvDtype::F16, KvDtype::F16), 0);
    assert_eq!(cells(u64::MAX, KvDtype::F16, KvDtype::F16), u32::MAX);
}

fn check(change: impl Fn(&mut Parts), message: &str) {
    let mut parts = parts();
    change(&mut parts);
    let (model, devices, links) = parts;
    let error = Cluster::new(model, devices, &links, None).unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn measured_values_that_cannot_be_name_node_and_field() {
    let b = "profile of b:";
    let ms = "expected more than 0, at most 1000 s: measure it again";
    for (value, shown) in [
        (0.0, "0"),
        (-1.0, "-1"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        check(
            |p| p.1[1].compute.layers[0].rows.points[1].ms = value,
            &format!("{b} layers[0].rows[1].ms is {shown}, {ms}"),
        );
        check(
            |p| p.1[1].compute.head.points[0].ms = value,
            &format!("{b} head[0].ms is {shown}, {ms}"),
        );
        check(
            |p| p.2[1].bytes_per_ms = value,
            &format!(
                "link b -> a: bytes_per_ms is {shown}, expected a number above a millionth: \
                 measure it again"
            ),
        );
    }
    for (value, shown) in [(-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        check(
            |p| p.1[1].compute.layers[0].context_ms = value,
            &format!("{b} layers[0].context_ms is {shown}, expected 0 to 1 ms: measure it again"),
        );
        check(
            |p| p.1[1].compute.embedding_ms = value,
            &format!("{b} embedding_ms is {shown}, expected 0 to 1000 s: measure it again"),
        );
        check(
            |p| p.1[1].compute.step_ms = value,
            &format!("{b} step_ms is {shown}, expected 0 to 1000 s: measure it again"),
        );
        check(
            |p| p.2[0].latency_ms = value,
            &format!("link a -> b: latency_ms is {shown}, expected 0 to 1000 s: measure it again"),
        );
    }
    check(
        |p| p.1[1].free_memory_bytes = 0,
        "profile of b: free_memory_bytes is 0, expected 1 byte to 1 PiB: measure it again",
    );
}

#[test]
fn what_is_missing_is_named() {
    check(
        |p| p.1[1].compute.layers.clear(),
        "profile of b: layers[0] is missing, expected one profile a cost class: measure it again",
    );
    check(
        |p| p.0.layers[3].class = 1,
        "profile of a: layers[1] is missing, expected one profile a cost class: measure it again",
    );
    check(
        |p| p.1[0].compute.head.points.clear(),
        "profile of a: head is missing, expected at least one point: measure it again",
    );
    check(
        |p| p.1[0].compute.head.points[0].rows = 2,
        "profile of a: head[0].rows is 2, expected 1: a lone row is measured first: measure it \
         again",
    );
    check(
        |p| p.1[0].compute.layers[0].rows.points[1].rows = 1,
        "profile of a: layers[0].rows[1].rows is 1, expected more than the point before: measure \
         it again",
    );
    check(
        |p| p.2.truncate(1),
        "link b -> a: profile is missing, expected both directions of every pair: measure it again",
    );
    check(
        |p| p.1.clear(),
        "no device to plan for: start `jupiter worker` on one",
    );
    check(
        |p| p.1[1] = device("a"),
        "node a appears twice: give every worker a name of its own",
    );
    check(
        |p| p.0.layers.clear(),
        "model profile: the number of layers is 0, expected 1 to 1024",
    );
    check(
        |p| p.0.layers[2].weight_bytes = 0,
        "model profile: weight_bytes of layer 2 is 0, expected 1 byte to 1 PiB",
    );
    check(
        |p| p.0.bytes_per_value = f64::NAN,
        "model profile: bytes_per_value is NaN, expected more than 0, at most 8",
    );
}

#[test]
fn a_head_that_is_no_device_needs_links_to_all_of_them() {
    let (model, devices, mut links) = parts();
    let cluster = |links: &[LinkProfile], head: &str| {
        let head = Some(NodeId(head.into()));
        Cluster::new(model.clone(), devices.clone(), links, head).map(|_| ())
    };
    assert_eq!(cluster(&links, "b"), Ok(()));
    links.extend([link("c", "a"), link("a", "c"), link("c", "b")]);
    assert_eq!(
        cluster(&links, "c").unwrap_err().to_string(),
        "link b -> c: profile is missing, expected both directions of every pair: measure it again"
    );
    links.push(link("b", "c"));
    assert_eq!(cluster(&links, "c"), Ok(()));
}

fn request() -> PlanRequest {
    PlanRequest {
        objective: Objective::Ttft,
        load: Workload {
            prompt: 256,
            rows: 1,
            context: 0,
        },
        memory: MemoryDemand {
            n_ctx: 4096,
            n_seq: 1,
            kv: KvDtype::F16,
        },
    }
}

#[test]
fn a_model_that_does_not_fit_says_what_is_missing_and_what_would_fit() {
    let check = |free_mib: u64, n_ctx: u32, message: &str| {
        let (model, mut devices, links) = parts();
        devices[1].free_memory_bytes = free_mib << 20;
        devices[0].free_memory_bytes = 500 << 20;
        let cluster = Cluster::new(model, devices, &links, None).unwrap();
        let mut request = request();
        request.memory.n_ctx = n_ctx;
        assert_eq!(plan(&cluster, &request).unwrap_err().to_string(), message);
    };
    check(
        500,
        8192,
        "the model does not fit: it needs 820 MiB for weights, 256 MiB for the KV cache of 8192 \
         tokens and 20 MiB of buffers on each device, while 1000 MiB are free in all; a lacks \
         190 MiB. It would fit with n_ctx 4480, or a q8_0 KV cache, or one more device with \
         284 MiB free",
    );
    check(
        300,
        1024,
        "the model does not fit: it needs 820 MiB for weights, 32 MiB for the KV cache of 1024 \
         tokens and 20 MiB of buffers on each device, while 800 MiB are free in all; b lacks 146 \
         MiB. It would fit with one more device with 228 MiB free",
    );
}

#[test]
fn requests_outside_of_what_can_be_planned_are_refused() {
    let (model, devices, links) = parts();
    let cluster = Cluster::new(model, devices, &links, None).unwrap();
    let check = |change: fn(&mut PlanRequest), message: &str| {
        let mut request = request();
        change(&mut request);
        assert_eq!(plan(&cluster, &request).unwrap_err().to_string(), message);
    };
    check(
        |r| r.load.prompt = 0,
        "prompt is 0, expected 1 to 2^20 tokens",
    );
    check(|r| r.load.rows = 5000, "rows is 5000, expected 1 to 4096");
    check(|r| r.memory.n_ctx = 0, "n_ctx is 0, expected at least 1");
}

/// A cluster of `n` devices that all differ a little, of `n_types` types.
fn many(n: usize, n_types: usize) -> Cluster {
    let (model, _, _) = parts();
    let devices: Vec<_> = (0..n)
        .map(|i| {
            let mut device = device(&format!("n{i}"));
            device.kind = format!("type{}", i % n_types);
            device.free_memory_bytes = (300 << 20) + ((i as u64) << 16);
            device.compute.layers[0].rows.points[1].ms += 0.1 * i as f64;
            device
        })
        .collect();
    let mut links = Vec::new();
    for from in 0..n {
        for to in (0..n).filter(|&to| to != from) {
            links.push(link(&format!("n{from}"), &format!("n{to}")));
        }
    }
    Cluster::new(model, devices, &links, None).unwrap()
}

#[test]
fn many_devices_of_few_types_count_as_equal_and_too_many_are_refused() {
    let cluster = many(16, 4);
    let plan = plan(&cluster, &request()).unwrap();
    assert!(plan.types_merged);
    for stage in &plan.placement {
        assert!(stage.memory_bytes <= stage.free_memory_bytes);
    }
    assert_eq!(plan.placement.len() + plan.excluded.len(), 16);
    let too_many = [(12, 12), (64, 9), (129, 1)];
    for (n_devices, n_types) in too_many {
        let cluster = many(n_devices, n_types);
        let error = jupiter_actors::planning::placement::plan(&cluster, &request()).unwrap_err();
        assert_eq!(error, PlanError::TooManyDevices { n_devices, n_types });
    }
}

#[test]
fn sixty_four_devices_are_planned_for() {
    for (n_types, side_by_side) in [(1, false), (2, false), (4, true), (8, true)] {
        let plan = plan(&many(64, n_types), &request()).unwrap();
        assert_eq!(plan.side_by_side, side_by_side, "{n_types} types");
        assert_eq!(plan.placement.len() + plan.excluded.len(), 64);
        for stage in &plan.placement {
            assert!(stage.memory_bytes <= stage.free_memory_bytes);
        }
    }
}

#[test]
fn the_largest_values_that_pass_the_checks_overflow_nothing() {
    let (mut model, mut devices, mut links) = parts();
    let layer = LayerShape {
        weight_bytes: 1 << 50,
        kv_bytes_per_token: 1 << 30,
        ..model.layers[0].clone()
    };
    model.layers = vec![layer; 1024];
    for device in &mut devices {
        device.compute.layers[0].rows = RowCurve::new(&[(1, 1e6)]);
        device.compute.layers[0].context_ms = 1.0;
        device.compute.layers[0].tile_context_ms = 1.0;
        device.compute.head = RowCurve::new(&[(1, 1e6)]);
        device.compute.embedding_ms = 1e6;
        device.compute.step_ms = 1e6;
        device.free_memory_bytes = 1 << 50;
    }
    for link in &mut links {
        link.latency_ms = 1e6;
        link.bytes_per_ms = 1e-6;
    }
    let mut large = request();
    large.load = Workload {
        prompt: 1 << 20,
        rows: 4096,
        context: 1 << 20,
    };
    large.memory = MemoryDemand {
        n_ctx: u32::MAX,
        n_seq: u32::MAX,
        kv: KvDtype::Q8_0,
    };
    let cluster = Cluster::new(model.clone(), devices.clone(), &links, None).unwrap();
    assert!(matches!(
        plan(&cluster, &large),
        Err(PlanError::DoesNotFit(_))
    ));
    for layer in &mut model.layers {
        (layer.weight_bytes, layer.kv_bytes_per_token) = (1 << 39, 0);
    }
    let cluster = Cluster::new(model, devices, &links, None).unwrap();
    for objective in [Objective::Ttft, Objective::Tbt, Objective::Throughput] {
        let plan = plan(&cluster, &PlanRequest { objective, ..large }).unwrap();
        let pipeline = plan.pipeline(&cluster);
        let grid = jupiter_actors::planning::chunks::ChunkGrid::default();
        let table = jupiter_actors::planning::chunks::ChunkTable::new(&pipeline, grid).unwrap();
        assert_eq!(table.chunks(8192).unwrap().rows.iter().sum::<u32>(), 8192);
    }
}
