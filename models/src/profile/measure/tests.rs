//! Devices whose costs are known: the profile has to find them.
#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::clock::fake::FakeClock;
use crate::engine::{EngineMemory, Logits, StepInput, StepOutput};
use crate::gguf::KvDtype;
use crate::hidden::HiddenDtype;
use crate::profile::{LayerShape, TILE_ROWS};
use crate::synth::{self, SynthArch, SynthSpec, SynthType};
use crate::{KvOp, Row};

const N_EMBD: usize = 4;

/// A model whose layers have these classes, only the last one has its own, as in model files.
pub(super) fn model(classes: &[usize], layer_bytes: u64) -> ModelProfile {
    let others = &classes[..classes.len().saturating_sub(1)];
    let own_class = others.iter().max().map_or(0, |most| most + 1);
    let shape = |(il, &class): (usize, &usize)| LayerShape {
        class: if il + 1 < classes.len() {
            class
        } else {
            own_class
        },
        weight_bytes: layer_bytes,
        kv_bytes_per_token: 1024,
        state_bytes: 0,
    };
    ModelProfile {
        layers: classes.iter().enumerate().map(shape).collect(),
        embedding_bytes: 1 << 20,
        head_bytes: 1 << 20,
        tied_head: false,
        buffer_bytes: 0,
        n_embd: N_EMBD as u32,
        bytes_per_value: 4.0,
        cuts: Default::default(),
    }
}

/// What a made-up device takes, in milliseconds.
#[derive(Clone, Copy)]
struct Costs {
    step: f64,
    embedding: f64,
    /// All times, this many times longer.
    slowdown: f64,
    /// What each layer takes longer after others have computed: its weights have to be fetched.
    cold: f64,
}

impl Costs {
    /// Kernels that work in fours, and classes that differ.
    fn layer(&self, class: usize, rows: u32) -> f64 {
        let odd = if rows.is_multiple_of(4) { 0.0 } else { 0.2 };
        self.slowdown * (0.05 * f64::from(rows) + odd) * (1.0 + class as f64)
    }

    /// Attention in tiles is three times cheaper.
    fn context(&self, class: usize, rows: u32) -> f64 {
        let times = if rows < TILE_ROWS { 3.0 } else { 1.0 };
        self.slowdown * times * 1e-4 * (1.0 + 2.0 * class as f64)
    }

    /// The head, and what the last layer does only for rows that want logits.
    fn head(&self, rows: u32) -> f64 {
        self.slowdown * (1.5 + 0.4 * f64::from(rows))
    }
}

struct FakeBench {
    clock: FakeClock,
    model: ModelProfile,
    costs: Costs,
    memory: Memory,
}

/// What others do to the engines of a device.
#[derive(Clone, Default)]
struct Memory {
    /// Whether others have computed since the last step.
    is_cold: Arc<AtomicBool>,
    /// Whether others compute at the same time.
    is_crowded: Arc<AtomicBool>,
    /// Most bytes that they had to read.
    others_bytes: Arc<AtomicU64>,
    free_bytes: Option<u64>,
    /// All steps of this time take three times as long: another program computes, too.
    busy: Range<Duration>,
}

impl FakeBench {
    fn pass(clock: &FakeClock, ms: f64) {
        clock.advance(Duration::from_secs_f64(ms / 1e3));
    }
}

impl Bench for FakeBench {
    fn load(&self, range: LayerRange) -> Result<Box<dyn StageEngine>> {
        Ok(Box::new(FakeEngine {
            clock: self.clock.clone(),
            classes: self.model.layers[range.start as usize..range.end as usize]
                .iter()
                .map(|layer| layer.class)
                .collect(),
            is_first: range.start == 0,
            is_last: range.end == self.model.n_layer(),
            costs: self.costs,
            memory: self.memory.clone(),
            cached: [0; 2],
        }))
    }

    fn embed(&self, tokens: &[Token]) -> Result<HiddenStates> {
        let ms = self.costs.slowdown * self.costs.embedding;
        FakeBench::pass(&self.clock, ms * tokens.len() as f64);
        HiddenStates::new(tokens.len(), N_EMBD, vec![0.0; tokens.len() * N_EMBD])
    }

    fn n_vocab(&self) -> u32 {
        300
    }

    fn wait_for_others(&self, n_bytes: u64) {
        FakeBench::pass(&self.clock, 1.0);
        self.memory.is_cold.store(true, Ordering::Relaxed);
        self.memory
            .others_bytes
            .fetch_max(n_bytes, Ordering::Relaxed);
    }

    /// Another one takes half as much again.
    fn beside(
        &self,
        other: &mut (dyn FnMut() -> Result<()> + Send),
        timed: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        other()?;
        self.memory.is_crowded.store(true, Ordering::Relaxed);
        let timed = timed();
        self.memory.is_crowded.store(false, Ordering::Relaxed);
        timed
    }

    fn free_bytes(&self) -> Option<u64> {
        self.memory.free_bytes
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }
}

struct FakeEngine {
    clock: FakeClock,
    classes: Vec<usize>,
    is_first: bool,
    is_last: bool,
    costs: Costs,
    memory: Memory,
    /// Rows of the filled sequence, and of its fork.
    cached: [u32; 2],
}

impl StageEngine for FakeEngine {
    fn apply(&mut self, op: KvOp) -> Result<()> {
        let [filled, step] = &mut self.cached;
        match op {
            KvOp::Fork { len, .. } => {
                assert_eq!((len, *step), (*filled, 0));
                *step = len;
            }
            KvOp::Drop { .. } => *step = 0,
            KvOp::Truncate { .. } => panic!("{op:?}"),
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.cached = [0; 2];
    }

    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput> {
        let n_rows = rows.len() as u32;
        let cached = &mut self.cached[rows[0].seq_ids[0].0 as usize];
        assert_eq!(rows[0].pos, *cached);
        assert_eq!(matches!(input, StepInput::Tokens), self.is_first);
        let n_logits = rows.iter().filter(|row| row.wants_logits).count() as u32;
        let upon = f64::from(n_rows) * f64::from(*cached);
        let mut ms = self.costs.slowdown * self.costs.step;
        for &class in &self.classes {
            ms += self.costs.layer(class, n_rows) + self.costs.context(class, n_rows) * upon;
        }
        if self.is_first {
            ms += self.costs.slowdown * self.costs.embedding * f64::from(n_rows);
        }
        if self.is_last && n_logits > 0 {
            ms += self.costs.head(n_logits);
        }
        if self.memory.is_cold.swap(false, Ordering::Relaxed) {
            ms += self.costs.cold * self.classes.len() as f64;
        }
        if self.memory.busy.contains(&self.clock.now()) {
            ms *= 3.0;
        }
        if self.memory.is_crowded.load(Ordering::Relaxed) {
            ms *= 1.5;
        }
        FakeBench::pass(&self.clock, ms);
        *cached += n_rows;
        Ok(StepOutput::Logits(Logits::default()))
    }

    fn memory(&self) -> EngineMemory {
        EngineMemory::default()
    }
}

const LIMITS: Limits = Limits {
    n_rows: 512,
    n_cells: 2048,
};

/// The profile, and how long measuring took.
fn measured(model: &ModelProfile, costs: Costs, limits: Limits) -> (ComputeProfile, Duration) {
    measured_beside(model, costs, limits, Memory::default())
}

fn measured_beside(
    model: &ModelProfile,
    costs: Costs,
    limits: Limits,
    memory: Memory,
) -> (ComputeProfile, Duration) {
    let clock = FakeClock::default();
    let bench = FakeBench {
        clock: clock.clone(),
        model: model.clone(),
        costs,
        memory,
    };
    let mut last = 0.0;
    let mut progress = |share: f32| {
        assert!(share > last && share <= 1.0);
        last = share;
    };
    let profile = run(&bench, model, limits, &mut progress).unwrap();
    assert!((last - 1.0).abs() < 1e-6);
    (profile, clock.now())
}

#[track_caller]
fn assert_near(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-4 * expected + 1e-5,
        "{what}: {found}, expected {expected}"
    );
}

const COSTS: Costs = Costs {
    step: 0.1,
    embedding: 0.01,
    slowdown: 1.0,
    cold: 0.0,
};

/// Compares a profile of that many classes with the costs.
fn assert_found(profile: &ComputeProfile, costs: Costs, n_classes: usize) {
    assert_eq!(profile.layers.len(), n_classes);
    for (class, layer) in profile.layers.iter().enumerate() {
        for point in &layer.rows.points {
            assert_near(point.ms, costs.layer(class, point.rows), "layer");
        }
        assert_near(layer.context_ms, costs.context(class, 1), "context");
        // Without steps of many rows they count as those of few.
        let rows = layer.rows.max_rows();
        assert_near(layer.tile_context_ms, costs.context(class, rows), "tiles");
    }
    assert_near(profile.step_ms, costs.slowdown * costs.step, "step");
    let embedding = costs.slowdown * costs.embedding;
    assert_near(profile.embedding_ms, embedding, "embedding");
    for point in &profile.head.points {
        assert_near(point.ms, costs.head(point.rows), "head");
    }
}

#[test]
fn the_costs_of_a_device_are_found() {
    for layer_bytes in [1000, 17 << 20] {
        let (profile, took) = measured(&model(&[0; 16], layer_bytes), COSTS, LIMITS);
        assert_found(&profile, COSTS, 2);
        let rows: Vec<u32> = profile.layers[0]
            .rows
            .points
            .iter()
            .map(|p| p.rows)
            .collect();
        assert_eq!(rows, ROWS);
        assert_eq!(profile.head.max_rows(), 64);
        let crowded = &profile.crowding.points;
        assert!(crowded.len() > 4);
        for point in crowded {
            assert_near(point.times, 1.5, "crowding");
        }
        assert!(took <= Duration::from_secs(20), "{took:?}");
    }
}

#[test]
fn classes_are_told_apart_where_they_are_mixed() {
    let turns = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1];
    let five = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let head = [0, 1, 1, 1, 1, 1];
    for classes in [&turns[..], &five, &head] {
        for layer_bytes in [1000, 20 << 20] {
            let (profile, _) = measured(&model(classes, layer_bytes), COSTS, LIMITS);
            assert_found(&profile, COSTS, 3);
        }
    }
}

#[test]
fn models_of_one_and_two_layers_are_measured_as_they_are() {
    let costs = Costs { step: 0.0, ..COSTS };
    for classes in [&[0][..], &[0; 2], &[0; 3]] {
        let (profile, _) = measured(&model(classes, 1000), costs, LIMITS);
        let n_classes = classes.len().min(2);
        assert_found(&profile, costs, n_classes);
    }
}

#[test]
fn steps_of_streams_are_measured_behind_those_of_other_stages() {
    let costs = Costs { cold: 0.5, ..COSTS };
    let memory = Memory::default();
    let others = memory.others_bytes.clone();
    let model = model(&[0; 16], 17 << 20);
    let (profile, took) = measured_beside(&model, costs, LIMITS, memory);
    for point in &profile.layers[0].rows.points {
        let cold = if point.rows <= 16 { costs.cold } else { 0.0 };
        assert_near(point.ms, costs.layer(0, point.rows) + cold, "layer");
    }
    // As cold beside another one as alone.
    assert!(profile.crowding.points.len() > 4);
    for point in &profile.crowding.points {
        assert_near(point.times, 1.5, "crowding");
    }
    // What is not in the layers: the same with and without logits, with and without context.
    assert_near(profile.head.points[0].ms, costs.head(1), "head");
    assert_near(profile.layers[0].context_ms, costs.context(0, 1), "context");
    assert_near(profile.step_ms, costs.step, "step");
    // The weights of all but the two layers of the shortest slice, and the head.
    assert_eq!(others.load(Ordering::Relaxed), (14 * 17 + 1) << 20);
    assert!(took <= Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_busy_second_changes_nothing_whenever_it_is() {
    // Layers that slide, layers that do not, and a large head, as in gemma3.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gemma3.gguf");
    let spec = SynthSpec {
        n_layer: 12,
        n_embd: 64,
        n_ff: 128,
        n_vocab: 4096,
        ty: SynthType::Q8_0,
        ..SynthSpec::new(SynthArch::Gemma3)
    };
    synth::write(&spec, &path, &mut |_, _| {}).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let params = EngineParams::default();
    let mut model = ModelProfile::from_gguf(&file, &params, HiddenDtype::F32).unwrap();
    assert!(model.head_bytes > 5 * model.layers[0].weight_bytes);
    // As many bytes as make windows of a few layers.
    for layer in &mut model.layers {
        layer.weight_bytes = 20 << 20;
    }
    for begin in 0..36 {
        let begin = Duration::from_millis(500 * begin);
        let memory = Memory {
            busy: begin..begin + Duration::from_secs(1),
            ..Memory::default()
        };
        let (profile, _) = measured_beside(&model, COSTS, LIMITS, memory);
        assert_found(&profile, COSTS, 3);
    }
}

#[test]
fn where_slices_do_not_fit_together_they_are_measured_one_by_one() {
    let model = model(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 20 << 20);
    let memory = Memory {
        free_bytes: Some(200 << 20),
        ..Memory::default()
    };
    let (profile, took) = measured_beside(&model, COSTS, LIMITS, memory);
    assert_found(&profile, COSTS, 3);
    assert!(took <= Duration::from_secs(20), "{took:?}");
}

#[test]
fn small_batches_and_caches_bound_the_points() {
    let limits = |n_batch, n_ctx| {
        Limits::new(&EngineParams {
            n_batch,
            n_ctx,
            ..EngineParams::default()
        })
    };
    assert_eq!(limits(4096, 1 << 20), LIMITS);
    assert_eq!(Limits::points(300)[14..], [192, 256, 300]);
    for (n_batch, n_ctx, n_rows) in [(300, 4096, 300), (1, 4096, 1), (512, 1, 256)] {
        let limits = limits(n_batch, n_ctx);
        assert_eq!(limits.n_rows, n_rows);
        let (profile, _) = measured(&model(&[0; 6], 1000), COSTS, limits);
        assert_found(&profile, COSTS, 2);
        assert_eq!(profile.layers[0].rows.max_rows(), n_rows);
    }
}

#[test]
fn slow_devices_are_measured_in_time_and_with_fewer_rows() {
    for (slowdown, least_rows) in [(20.0, 192), (200.0, 16), (2000.0, 1)] {
        let costs = Costs { slowdown, ..COSTS };
        let (profile, took) = measured(&model(&[0; 16], 17 << 20), costs, LIMITS);
        assert!(took <= Duration::from_secs(20), "{slowdown}: {took:?}");
        let layer = &profile.layers[0];
        let max_rows = layer.rows.max_rows();
        assert!(
            (least_rows..512).contains(&max_rows),
            "{slowdown}: {max_rows}"
        );
        // The slowest has no time for a second slice, which would tell the fixed time apart.
        let off = if slowdown > 1000.0 {
            costs.slowdown * costs.step / 4.0
        } else {
            0.0
        };
        for point in &layer.rows.points {
            assert_near(point.ms, costs.layer(0, point.rows) + off, "layer");
        }
        let context = if slowdown > 1000.0 {
            0.0
        } else {
            costs.context(0, 1)
        };
        assert_near(layer.context_ms, context, "context");
    }
}

#[test]
fn a_model_without_layers_is_refused() {
    let bench = FakeBench {
        clock: FakeClock::default(),
        model: model(&[], 0),
        costs: COSTS,
        memory: Memory::default(),
    };
    let error = run(&bench, &bench.model, LIMITS, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("without layers"));
}

/// The engine of this project on this machine: no number is known, but each has to be one.
#[test]
fn real_engines_give_profiles_that_can_be_planned_with() {
    let dir = tempfile::tempdir().unwrap();
    for (arch, n_layer) in [
        (SynthArch::Llama, 4),
        (SynthArch::Gemma2, 5),
        (SynthArch::Llama, 1),
    ] {
        let spec = SynthSpec {
            n_layer,
            n_embd: 64,
            n_ff: 128,
            n_vocab: 320,
            ty: SynthType::Q8_0,
            ..SynthSpec::new(arch)
        };
        let path = dir.path().join(format!("{arch:?}-{n_layer}.gguf"));
        synth::write(&spec, &path, &mut |_, _| {}).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let params = EngineParams {
            n_batch: 32,
            n_ctx: 512,
            n_threads: 1,
            type_k: KvDtype::F16,
            ..EngineParams::default()
        };
        let shapes = ModelProfile::from_gguf(&file, &params, HiddenDtype::F32).unwrap();
        let slices = SliceCache::new(dir.path().join("slices"));
        let none = Emulation::default();
        let profile = measure(&file, &slices, &shapes, &params, none, &mut |_| {}).unwrap();
        assert_eq!(profile.layers.len(), shapes.representatives().len());
        for curve in profile
            .layers
            .iter()
            .map(|layer| &layer.rows)
            .chain([&profile.head])
        {
            assert_eq!(curve.max_rows(), 32);
            assert!(
                curve.points.iter().all(|p| p.ms > 0.0 && p.ms < 1e4),
                "{curve:?}"
            );
        }
        assert!(
            profile
                .layers
                .iter()
                .all(|layer| (0.0..1.0).contains(&layer.context_ms))
        );
        assert!(profile.embedding_ms > 0.0 && profile.embedding_ms < 1e3);
        assert!((0.0..1e4).contains(&profile.step_ms));
    }
}
