//! A slower device with less memory, emulated on this one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Engine, EngineMemory, EngineParams, StageEngine, StepInput, StepOutput, available_memory_bytes,
};
use crate::clock::{Clock, SystemClock};
use crate::gguf::GgufFile;
use crate::slice::StageSlice;
use crate::{KvOp, ModelError, Result, Row};

/// A step of a millisecond would take a second; beyond that a cluster only waits.
const MAX_SLOWDOWN: f64 = 1000.0;

/// What a device is made to look like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Emulation {
    /// How many times longer each step takes; 1 is as fast as the device is.
    pub slowdown: f64,
    /// Memory that engines may take, in bytes, where the device has more.
    pub memory_limit_bytes: Option<u64>,
}

impl Default for Emulation {
    /// The device as it is.
    fn default() -> Emulation {
        Emulation {
            slowdown: 1.0,
            memory_limit_bytes: None,
        }
    }
}

impl Emulation {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] for a slowdown below 1, above 1000 or not a number.
    pub fn check(&self) -> Result<()> {
        if (1.0..=MAX_SLOWDOWN).contains(&self.slowdown) {
            return Ok(());
        }
        Err(ModelError::BadInput {
            what: format!(
                "the slowdown (--slowdown) is {}: take 1 (as fast as the device is) to {MAX_SLOWDOWN}",
                self.slowdown
            ),
        })
    }

    /// [`Engine::load`] for the emulated device.
    ///
    /// # Errors
    /// As [`Emulation::check`] and [`Engine::load`], which compares with [`free_memory_bytes`].
    pub fn load(
        &self,
        model: &GgufFile,
        slice: &StageSlice,
        params: &EngineParams,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Box<dyn StageEngine>> {
        self.check()?;
        let engine = Engine::load_within(model, slice, params, free_memory_bytes(self), progress)?;
        if self.slowdown > 1.0 {
            let clock = SystemClock::new();
            Ok(Box::new(SlowEngine::new(engine, self.slowdown, clock)))
        } else {
            Ok(Box::new(engine))
        }
    }
}

/// Memory that an engine may take now: what is free, or the limit where that is less. None where
/// neither is known.
pub fn free_memory_bytes(emulation: &Emulation) -> Option<u64> {
    let both = [available_memory_bytes(), emulation.memory_limit_bytes];
    both.into_iter().flatten().min()
}

/// Waits until what began at `begin` and ends now has taken `slowdown` times as long.
pub(crate) fn slow_down(clock: &impl Clock, begin: Duration, slowdown: f64) {
    let took = clock.now().saturating_sub(begin).as_secs_f64();
    let slowed = Duration::try_from_secs_f64(took * slowdown).unwrap_or(Duration::MAX);
    clock.wait_until(begin.saturating_add(slowed));
}

/// An engine whose steps take longer than they would.
struct SlowEngine<E, C> {
    engine: E,
    slowdown: f64,
    clock: C,
}

impl<E: StageEngine, C: Clock> SlowEngine<E, C> {
    fn new(engine: E, slowdown: f64, clock: C) -> Self {
        Self {
            engine,
            slowdown,
            clock,
        }
    }
}

impl<E: StageEngine, C: Clock> StageEngine for SlowEngine<E, C> {
    fn apply(&mut self, op: KvOp) -> Result<()> {
        self.engine.apply(op)
    }

    fn clear(&mut self) {
        self.engine.clear();
    }

    /// A step that fails is not slowed: nothing was computed.
    fn step(&mut self, rows: &[Row], input: StepInput<'_>) -> Result<StepOutput> {
        let begin = self.clock.now();
        let output = self.engine.step(rows, input)?;
        slow_down(&self.clock, begin, self.slowdown);
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
    use crate::clock::fake::FakeClock;
    use crate::engine::Logits;

    /// Takes 3 ms for each row; without rows it fails after as long.
    struct Steady(FakeClock);

    impl StageEngine for Steady {
        fn apply(&mut self, _: KvOp) -> Result<()> {
            Ok(())
        }

        fn clear(&mut self) {}

        fn step(&mut self, rows: &[Row], _: StepInput<'_>) -> Result<StepOutput> {
            self.0
                .advance(Duration::from_millis(3) * rows.len().max(1) as u32);
            if rows.is_empty() {
                return Err(ModelError::BadStep {
                    what: "no rows".into(),
                });
            }
            Ok(StepOutput::Logits(Logits::default()))
        }

        fn memory(&self) -> EngineMemory {
            EngineMemory::default()
        }
    }

    #[test]
    fn steps_take_longer_by_the_factor_and_failures_do_not() {
        let clock = FakeClock::default();
        let mut engine = SlowEngine::new(Steady(clock.clone()), 2.5, clock.clone());
        let row = Row {
            seq_ids: vec![crate::SequenceId(0)],
            pos: 0,
            token: 0,
            wants_logits: true,
        };
        engine.step(&[row.clone(), row], StepInput::Tokens).unwrap();
        assert_eq!(clock.now(), Duration::from_millis(15));
        engine.step(&[], StepInput::Tokens).unwrap_err();
        assert_eq!(clock.now(), Duration::from_millis(18));
    }

    #[test]
    fn slowdowns_that_cannot_be_are_refused_in_one_line() {
        let check = |slowdown| {
            let emulation = Emulation {
                slowdown,
                ..Emulation::default()
            };
            emulation.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(1.0), Ok(()));
        assert_eq!(check(1000.0), Ok(()));
        assert_eq!(
            check(0.5).unwrap_err(),
            "the slowdown (--slowdown) is 0.5: take 1 (as fast as the device is) to 1000"
        );
        for bad in [f64::NAN, f64::INFINITY, -2.0, 0.0, 1000.1] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_smaller_of_limit_and_free_memory_counts() {
        let free = |memory_limit_bytes| {
            free_memory_bytes(&Emulation {
                memory_limit_bytes,
                ..Emulation::default()
            })
        };
        assert_eq!(free(Some(1)), Some(1));
        assert!(free(Some(u64::MAX)) < Some(u64::MAX) || available_memory_bytes().is_none());
        assert_eq!(free(None).is_some(), available_memory_bytes().is_some());
    }
}
