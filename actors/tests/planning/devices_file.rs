//! Devices files: the published Jetsons, and files that cannot be.

use std::path::Path;

use jupiter_actors::planning::cost::{Pipeline, Work, prefill_ns};
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::profile::Cluster;
use jupiter_models::LayerRange;

/// Tokens of the papers' prompts.
const PROMPT: u32 = 260;
/// Tokens generated.
const GENERATED: u32 = 64;

fn jetson(file: &str) -> DevicesFile {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let text = std::fs::read_to_string(dir.join(file)).unwrap();
    toml::from_str(&text).unwrap()
}

/// Milliseconds a token of a plain pipeline: prefill, decode.
fn plain(cluster: &Cluster, n_layers: &[u32]) -> (f64, f64) {
    let mut start = 0;
    let mut stages = Vec::new();
    for (device, &n) in n_layers.iter().enumerate() {
        stages.push((device, LayerRange::new(start, start + n)));
        start += n;
    }
    let pipeline = Pipeline::new(cluster, &stages);
    let steps = (PROMPT..PROMPT + GENERATED).map(|context| Work::decode(1, context));
    let decode_ns: u64 = steps.map(|work| pipeline.pass_ns(work)).sum();
    (
        prefill_ns(&pipeline, &[PROMPT]) as f64 / 1e6 / f64::from(PROMPT),
        decode_ns as f64 / 1e6 / f64::from(GENERATED),
    )
}

fn check(got: f64, published: f64, percent: f64) {
    let off = (got / published - 1.0).abs() * 100.0;
    assert!(off <= percent, "{got:.2} against {published}: {off:.1} %");
}

#[test]
fn a_plain_pipeline_of_the_jetsons_takes_what_edgeshard_took() {
    // Calibrated with: A's decode at 1000 and 100 Mbps, its prefill at 1000, B's end to end at 1000.
    // The others follow.
    let env_a = |file| plain(&jetson(file).into_cluster().unwrap(), &[8, 8, 8, 8]);
    let (prefill, decode) = env_a("devices-jetson-nx-1000mbps.toml");
    check(prefill, 28.6, 0.5);
    check(decode, 484.0, 0.5);
    let (prefill, decode) = env_a("devices-jetson-nx-100mbps.toml");
    check(prefill, 30.6, 1.0);
    check(decode, 507.0, 1.0);
    let env_b = |file| {
        let (prefill, decode) = plain(&jetson(file).into_cluster().unwrap(), &[3, 7, 7, 15]);
        (f64::from(PROMPT) * prefill + f64::from(GENERATED) * decode) / 1e3
    };
    check(env_b("devices-jetson-mixed-1000mbps.toml"), 55.7, 1.0);
    check(env_b("devices-jetson-mixed-100mbps.toml"), 59.3, 5.0);
}

/// Two devices that differ in memory only, and a Planner elsewhere.
const TWO: &str = r#"
head = "robot"
[model]
layers = [
    { count = 2, weight_bytes = 10, kv_bytes_per_token = 1 },
    { count = 1, class = 1, weight_bytes = 20, kv_bytes_per_token = 2 },
]
embedding_bytes = 5
head_bytes = 5
tied_head = true
buffer_bytes = 1
n_embd = 8
bytes_per_value = 1.0625
[network]
latency_ms = 1
mbps = 100
[[link]]
between = ["a", "robot"]
latency_ms = 4
[[link]]
between = ["a", "b"]
one_way = true
mbps = 10
[[kind]]
name = "pc"
free_memory_bytes = 100
layers = [{ rows = [[1, 2], [4, 5.5]], context_ms = 0.01 }, { rows = [[1, 3]] }]
head = [[1, 2]]
embedding_ms = 0.5
step_ms = 0.25
[[device]]
node = "a"
kind = "pc"
[[device]]
node = "b"
kind = "pc"
free_memory_bytes = 50
"#;

#[test]
fn kinds_runs_of_layers_and_single_links_become_a_cluster() {
    let file: DevicesFile = toml::from_str(TWO).unwrap();
    let cluster = file.into_cluster().unwrap();
    let classes: Vec<_> = cluster.model().layers.iter().map(|l| l.class).collect();
    assert_eq!(classes, [0, 0, 1]);
    assert!(cluster.model().tied_head);
    let [a, b] = cluster.devices() else {
        panic!("{:?}", cluster.devices());
    };
    assert_eq!((a.free_memory_bytes, b.free_memory_bytes), (100, 50));
    assert_eq!(a.compute, b.compute);
    assert_eq!((a.compute.step_ms, a.compute.embedding_ms), (0.25, 0.5));
    assert_eq!(a.compute.layers[0].rows.ns(4), 5_500_000);
    // Links: a's way from and to the Planner, and the bytes from a to b.
    let of = |stages: [usize; 2]| {
        let [first, last] = stages;
        let layers = [LayerRange::new(0, 1), LayerRange::new(1, 3)];
        let pipeline = Pipeline::new(&cluster, vec![(first, layers[0]), (last, layers[1])]);
        let rows = Work::chunk(1000, 0);
        (
            pipeline.entry_ns(),
            pipeline.server_ns(1, rows),
            pipeline.return_ns(),
        )
    };
    // 8500 bytes at 10 and at 100 Mbit/s.
    assert_eq!(of([0, 1]), (4_000_000, 6_800_000, 1_000_000));
    assert_eq!(of([1, 0]), (1_000_000, 680_000, 4_000_000));
}

#[test]
fn files_that_cannot_be_are_refused_in_one_line() {
    let check = |from: &str, to: &str, message: &str| {
        assert!(TWO.contains(from), "{from}");
        let error = match toml::from_str::<DevicesFile>(&TWO.replacen(from, to, 1)) {
            Ok(file) => file.into_cluster().unwrap_err().to_string(),
            Err(error) => error.message().to_owned(),
        };
        assert!(error.starts_with(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    check(
        "kind = \"pc\"",
        "kind = \"tx3\"",
        "kind tx3 of device a is not described: add a [[kind]] of that name",
    );
    check(
        "[[device]]",
        "[[kind]]\nname = \"pc\"\nfree_memory_bytes = 1\nlayers = []\nhead = []\n[[device]]",
        "kind pc is described twice",
    );
    check(
        "[\"a\", \"b\"]",
        "[\"a\", \"c\"]",
        "a [[link]] names c, which is neither a device nor the head",
    );
    check(
        "mbps = 10\n",
        "mbps = nan\n",
        "mbps is NaN, expected more than 0",
    );
    check(
        "mbps = 100",
        "mbps = -100",
        "mbps is -100, expected more than 0",
    );
    check(
        "count = 2",
        "count = 9_000_000_000_000",
        "more than 1024 layers: check their counts",
    );
    check(
        "[[device]]",
        "[[device]]\nnode = \"a\"\nkind = \"pc\"\n[[device]]",
        "node a appears twice",
    );
    check(
        "[[1, 2], [4, 5.5]]",
        "[[1, 2], [4, 0]]",
        "profile of a: layers[0].rows[1].ms is 0, expected more than 0",
    );
    check(
        "latency_ms = 1\n",
        "latency = 1\n",
        "unknown field `latency`",
    );
    check("mbps = 100\n", "", "missing field `mbps`");
}
