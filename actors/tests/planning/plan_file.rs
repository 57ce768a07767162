//! Plan files: what is written is read again, and what does not hold is refused.

use jupiter_actors::NodeId;
use jupiter_actors::planning::chunks::{ChunkGrid, ChunkTable};
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Objective, PlanRequest, Workload, plan};
use jupiter_actors::planning::plan_file::PlanFile;
use jupiter_actors::planning::profile::Cluster;
use jupiter_models::LayerRange;
use jupiter_models::gguf::KvDtype;
use serde_json::{Value, json};

use crate::profile::parts;

const HASH: &str = "0123456789abcdef";

/// A plan for eight layers: neither device can hold more than seven.
fn written() -> (PlanFile, Vec<(NodeId, LayerRange)>) {
    let (model, mut devices, links) = parts();
    for device in &mut devices {
        device.free_memory_bytes = 760 << 20;
        device.compute.noise.waited = 0.5;
    }
    let cluster = Cluster::new(model, devices, &links, None).unwrap();
    let request = PlanRequest {
        objective: Objective::Throughput,
        load: Workload {
            prompt: 100,
            rows: 2,
            context: 50,
        },
        memory: MemoryDemand {
            n_ctx: 128,
            n_seq: 1,
            kv: KvDtype::F16,
        },
    };
    let plan = plan(&cluster, &request).unwrap();
    let table = ChunkTable::new(&plan.pipeline(&cluster), ChunkGrid::default()).unwrap();
    let stages = plan.placement.iter();
    let stages = stages.map(|s| (s.node.clone(), s.layers)).collect();
    (
        PlanFile::new(&cluster, &plan, &table, &request, HASH).unwrap(),
        stages,
    )
}

#[test]
fn a_plan_is_read_as_it_was_written() {
    let (file, stages) = written();
    let text = serde_json::to_string(&file).unwrap();
    let read: PlanFile = serde_json::from_str(&text).unwrap();
    assert_eq!(read, file);
    assert_eq!(read.check(HASH, 8), Ok(stages));
    // The shape that others rely on.
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["placement"][0]["node"], json!("a"));
    assert_eq!(value["placement"][0]["layers"], json!([0, 6]));
    assert!(value["placement"][0]["memory_bytes"].is_u64());
    assert_eq!(value["excluded"], json!([]));
    assert_eq!(value["objective"], json!("throughput"));
    assert_eq!(value["measured"].as_array().unwrap().len(), 2);
    assert_eq!(value["measured"][0]["node"], json!("a"));
    assert_eq!(value["measured"][0]["is_doubtful"], json!(true));
    let rows: u64 = value["chunks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(rows, 100);
    for figure in ["ttft_ms", "tbt_ms", "tps"] {
        assert!(value["predicted"][figure].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn plans_that_cannot_be_followed_are_refused_in_one_line() {
    let (file, _) = written();
    let check = |change: &dyn Fn(&mut PlanFile), message: &str| {
        let mut file = file.clone();
        change(&mut file);
        let error = file.check(HASH, 8).unwrap_err().to_string();
        assert_eq!(error, format!("plan file: {message}"));
    };
    check(
        &|file| file.model = "fedcba9876543210".into(),
        "it is for the model fedcba987654, not for 0123456789ab: name that model's file, or plan \
         again with `jupiter plan -m FILE --json`",
    );
    check(
        &|file| file.n_layer = Some(9),
        "n_layer is 9, the model has 8 layers: plan again",
    );
    check(
        &|file| file.placement[0].layers = [1, 6],
        "no stage holds the layers 0..1: give them to a or the one before it",
    );
    check(
        &|file| file.placement[1].layers = [7, 8],
        "no stage holds the layers 6..7: give them to b or the one before it",
    );
    check(
        &|file| file.placement[1].layers = [5, 8],
        "b begins at layer 5, which the stage before it holds, too: let it begin at 6",
    );
    check(
        &|file| file.placement[1].layers = [6, 6],
        "b has no layers (6..6): remove it from the placement",
    );
    for end in [7, 9] {
        check(
            &|file| file.placement[1].layers = [6, end],
            &format!(
                "its stages end at layer {end}, the model's layers at 8: change the last stage, \
                 or plan again"
            ),
        );
    }
    check(
        &|file| file.placement.clear(),
        "its stages end at layer 0, the model's layers at 8: change the last stage, or plan again",
    );
    check(
        &|file| file.placement[1].node = NodeId("a".into()),
        "a is there twice: a device holds one range of layers",
    );
    check(
        &|file| file.chunks = vec![60, 50],
        "its chunks hold 110 tokens for a prompt of 100: they must add up, none of them empty",
    );
    check(
        &|file| file.chunks = vec![100, 0],
        "its chunks hold 100 tokens for a prompt of 100: they must add up, none of them empty",
    );
    check(&|file| file.rows = 0, "rows is 0, expected 1 to 4096");
    check(
        &|file| file.micro_batches = 5000,
        "micro_batches is 5000, expected 1 to 4096",
    );
}

#[test]
fn fields_that_nobody_knows_are_named() {
    let (file, _) = written();
    for place in ["", "/placement/0", "/predicted"] {
        let mut value = serde_json::to_value(&file).unwrap();
        value.pointer_mut(place).unwrap()["colour"] = json!("red");
        let error = serde_json::from_value::<PlanFile>(value).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("unknown field `colour`"), "{error}");
    }
}
