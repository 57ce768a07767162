//! What steps really take, against the profile that is kept of this machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cache::{self, Key};
use super::{ComputeProfile, LayerShape, ModelProfile, to_ns};
use crate::engine::{Emulation, EngineMemory, EngineParams, StageEngine, StepInput, StepOutput};
use crate::gguf::GgufFile;
use crate::hidden::HiddenDtype;
use crate::{KvOp, LayerRange, Result, Row};

/// Time that steps should have taken after which they are compared with the profile.
const WINDOW: Duration = Duration::from_secs(1);
/// A profile is wrong when it says that steps take so many times as long as they do: nothing makes
/// a machine faster than it is, so it was busy when it was measured. Slower steps prove nothing: the
/// machine may be busy or hot now, or other stages share its memory; the Planner follows that while
/// it lasts. Streams that leave a stage no time to cool down gain less than this.
const WRONG: f64 = 1.3;
/// Up to so many rows steps are compared apart from larger ones: noise may have hit only one kind.
const FEW_ROWS: usize = 16;

/// The engine of `layers` with a watch over its steps: when they are clearly faster than the kept
/// profile of this machine says, that profile is thrown away, and the machine is measured again next
/// time. `params` and `emulation` are what the machine is measured with. Without a profile there is
/// nothing to watch.
pub fn watched(
    engine: Box<dyn StageEngine>,
    model: &GgufFile,
    layers: LayerRange,
    params: &EngineParams,
    emulation: Emulation,
) -> Box<dyn StageEngine> {
    watched_in(cache::folder(), engine, model, layers, params, emulation)
}

/// The same, where profiles are kept in `folder`.
fn watched_in(
    folder: PathBuf,
    engine: Box<dyn StageEngine>,
    model: &GgufFile,
    layers: LayerRange,
    params: &EngineParams,
    emulation: Emulation,
) -> Box<dyn StageEngine> {
    let kept = || {
        let key = Key::new(model, params, emulation).ok()?;
        let shapes = ModelProfile::from_gguf(model, params, HiddenDtype::F32).ok()?;
        let profile = cache::kept(&folder, &key, &shapes)?;
        Some((key, Expected::new(profile, &shapes, layers)))
    };
    let Some((key, expected)) = kept() else {
        return engine;
    };
    Box::new(Watched {
        engine,
        expected,
        watch: Some(Watch::default()),
        forget: Box::new(move |profile| cache::forget(&folder, &key, profile)),
    })
}

/// What a profile says of the steps of a stage.
struct Expected {
    profile: ComputeProfile,
    layers: Vec<LayerShape>,
    is_first: bool,
    is_last: bool,
}

impl Expected {
    fn new(profile: ComputeProfile, shapes: &ModelProfile, layers: LayerRange) -> Expected {
        Expected {
            profile,
            layers: shapes.layers[layers.start as usize..layers.end as usize].to_vec(),
            is_first: layers.start == 0,
            is_last: layers.end == shapes.n_layer(),
        }
    }

    /// The least that a step of these rows should take: upon an empty cache.
    fn least(&self, rows: &[Row]) -> Duration {
        let profile = &self.profile;
        let n_rows = rows.len() as u32;
        let layers = self.layers.iter();
        let mut ns: u64 = layers
            .map(|l| profile.layers[l.class].rows.ns(n_rows))
            .sum();
        ns += to_ns(profile.step_ms);
        if self.is_first {
            ns += to_ns(profile.embedding_ms * f64::from(n_rows));
        }
        if self.is_last {
            let n_logits = rows.iter().filter(|row| row.wants_logits).count();
            ns += profile.head.ns(n_logits as u32);
        }
        Duration::from_nanos(ns)
    }
}

/// Steps of few rows and of many since the last comparison: what they took, and what they should.
#[derive(Default)]
struct Watch([(Duration, Duration); 2]);

impl Watch {
    /// Whether the profile is proven wrong.
    fn disproves(&mut self, n_rows: usize, took: Duration, expected: Duration) -> bool {
        let window = &mut self.0[usize::from(n_rows > FEW_ROWS)];
        window.0 += took;
        window.1 += expected;
        if window.1 < WINDOW {
            return false;
        }
        let (took, expected) = std::mem::take(window);
        expected > took.mul_f64(WRONG)
    }
}

/// What is to be done with a profile that is wrong.
type Forget = Box<dyn FnMut(&ComputeProfile) + Send>;

struct Watched {
    engine: Box<dyn StageEngine>,
    expected: Expected,
    /// None once the profile was proven wrong.
    watch: Option<Watch>,
    forget: Forget,
}

impl StageEngine for Watched {
    fn apply(&mut self, op: KvOp) -> Result<()> {
        self.engine.apply(op)
    }

    fn clear(&mut self) {
        self.engine.clear();
    }

    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput> {
        let begin = Instant::now();
        let output = self.engine.step(rows, input)?;
        let took = begin.elapsed();
        if let Some(watch) = &mut self.watch
            && watch.disproves(rows.len(), took, self.expected.least(rows))
        {
            tracing::info!(
                "this machine is faster than its profile says, which was measured in a busy \
                 moment: it is measured again at the next start"
            );
            (self.forget)(&self.expected.profile);
            self.watch = None;
        }
        Ok(output)
    }

    fn memory(&self) -> EngineMemory {
        self.engine.memory()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::SequenceId;
    use crate::engine::Logits;
    use crate::profile::{Crowding, LayerProfile, Noise, RowCurve};
    use crate::synth::{self, SynthArch, SynthSpec};

    const MS: Duration = Duration::from_millis(1);

    fn expected() -> Expected {
        let layer = |ms| LayerProfile {
            rows: RowCurve::new(&[(1, ms), (4, 3.0 * ms)]),
            context_ms: 1.0,
            tile_context_ms: 1.0,
        };
        let shape = |class| LayerShape {
            class,
            weight_bytes: 1,
            kv_bytes_per_token: 0,
            state_bytes: 0,
        };
        Expected {
            profile: ComputeProfile {
                layers: vec![layer(10.0), layer(20.0)],
                step_ms: 1.0,
                embedding_ms: 0.5,
                head: RowCurve::new(&[(1, 100.0)]),
                crowding: Crowding::default(),
                noise: Noise::default(),
            },
            layers: vec![shape(0), shape(1)],
            is_first: false,
            is_last: false,
        }
    }

    fn rows(n: u32) -> Vec<Row> {
        let row = |pos| Row {
            seq_ids: vec![SequenceId(0)],
            pos,
            token: 0,
            wants_logits: pos + 1 == n,
        };
        (0..n).map(row).collect()
    }

    #[test]
    fn a_stage_takes_what_its_layers_and_ends_take() {
        let check = |is_first, is_last, ms: u32| {
            let expected = Expected {
                is_first,
                is_last,
                ..expected()
            };
            assert_eq!(expected.least(&rows(4)), MS * ms);
        };
        check(false, false, 91);
        check(true, false, 93);
        check(false, true, 191);
    }

    #[test]
    fn only_steps_that_are_faster_for_a_while_disprove_a_profile() {
        let of = |n_rows, took_ms: u32| {
            let mut watch = Watch::default();
            (0..200).find(|_| watch.disproves(n_rows, took_ms * MS, 10 * MS))
        };
        assert_eq!((of(1, 7), of(100, 1)), (Some(99), Some(99)));
        assert_eq!((of(1, 8), of(1, 50)), (None, None));
        // Each kind for itself: steps of few rows are slower, those of many faster.
        let mut watch = Watch::default();
        let mixed = |_: &u32| {
            let few = watch.disproves(1, 20 * MS, 10 * MS);
            few || watch.disproves(100, 7 * MS, 10 * MS)
        };
        assert_eq!((0..200).find(mixed), Some(99));
    }

    /// Takes no time.
    struct Fast;

    impl StageEngine for Fast {
        fn apply(&mut self, _: KvOp) -> Result<()> {
            Ok(())
        }

        fn clear(&mut self) {}

        fn step(&mut self, _: &[Row], _: StepInput<'_>) -> Result<StepOutput> {
            Ok(StepOutput::Logits(Logits::default()))
        }

        fn memory(&self) -> EngineMemory {
            EngineMemory::default()
        }
    }

    #[test]
    fn a_kept_profile_is_forgotten_when_a_stage_is_faster() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        let spec = SynthSpec {
            n_layer: 3,
            ..SynthSpec::new(SynthArch::Llama)
        };
        synth::write(&spec, &path, &mut |_, _| {}).unwrap();
        let model = GgufFile::open(&path).unwrap();
        let (params, none) = (EngineParams::default(), Emulation::default());
        let key = Key::new(&model, &params, none).unwrap();
        let shapes = ModelProfile::from_gguf(&model, &params, HiddenDtype::F32).unwrap();
        let folder = dir.path().join("profiles");
        let kept = || cache::kept(&folder, &key, &shapes);
        let engine = |profile: Option<ComputeProfile>| {
            if let Some(profile) = profile {
                cache::keep(&folder, &key, &profile);
            }
            let (fast, layers) = (Box::new(Fast), LayerRange::new(1, 3));
            watched_in(folder.clone(), fast, &model, layers, &params, none)
        };
        // Nothing is kept: nothing happens.
        engine(None).step(&rows(1), StepInput::Tokens).unwrap();
        // Two steps of 31 ms and the head say nothing yet; of 3.1 s and the head they do.
        let mut good = engine(Some(expected().profile));
        good.step(&rows(1), StepInput::Tokens).unwrap();
        assert_eq!(kept(), Some(expected().profile));
        let mut slow = expected().profile;
        slow.scale(100.0);
        let mut wrong = engine(Some(slow));
        wrong.step(&rows(1), StepInput::Tokens).unwrap();
        assert_eq!(kept(), None);
        // Only once: what is measured then is not its business.
        cache::keep(&folder, &key, &expected().profile);
        wrong.step(&rows(1), StepInput::Tokens).unwrap();
        assert_eq!(kept(), Some(expected().profile));
    }
}
