//! Where a stage's steps come in: checked for epoch and order on the thread that brings them, then
//! the engine's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;

use super::StageMessage;
use super::engine_thread::EngineThread;
use crate::message::{CancelRows, StageAssignment, StepBatch};
use crate::{PlanEpoch, StepId};

/// The entrance of one Stage. The [`Inbox`](crate::Inbox) calls it from any thread, without waiting:
/// its lock is held for a few comparisons only.
#[derive(Default)]
pub(crate) struct Entrance(Mutex<Option<Inside>>);

/// What there is only while the Stage lives.
struct Inside {
    thread: EngineThread,
    stage: ActorRef<StageMessage>,
    /// Most steps that wait.
    credits: u32,
    expected: StepId,
}

impl Entrance {
    /// A closed one.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets steps through to `thread`; what is wrong with them is told to `stage`.
    pub(super) fn open(&self, thread: EngineThread, stage: ActorRef<StageMessage>) {
        *self.lock() = Some(Inside {
            thread,
            stage,
            credits: 0,
            expected: StepId::default(),
        });
    }

    /// Begins an epoch; steps of older ones are dropped from now on.
    pub(super) fn begin(&self, epoch: PlanEpoch, assignment: &StageAssignment) {
        if let Some(inside) = self.lock().as_mut() {
            inside.credits = assignment.credits;
            inside.expected = StepId::default();
            inside.thread.clear(epoch);
        }
    }

    /// Whether no step of the epoch has come.
    pub(super) fn is_unused(&self) -> bool {
        let inside = self.lock();
        (inside.as_ref()).is_some_and(|inside| inside.expected == StepId::default())
    }

    /// Takes nothing more, and lets the thread end.
    pub(super) fn close(&self) {
        if let Some(mut inside) = self.lock().take() {
            inside.thread.end();
        }
    }

    /// From the link: a step. Repeats and steps of other epochs are dropped. Whether a Stage lives.
    pub(crate) fn take(&self, step: StepBatch) -> bool {
        let mut inside = self.lock();
        let Some(inside) = inside.as_mut() else {
            return false;
        };
        let header = &step.header;
        let (epoch, expected) = (header.epoch, inside.expected);
        if !inside.thread.serves(epoch) || header.step < expected {
            tracing::debug!(%epoch, step = %header.step, "dropped a step: {expected} expected");
            return true;
        }
        let wrong = if header.step > expected {
            Some(format!("{} came, {expected} expected", header.step))
        } else if inside.thread.n_waiting() >= inside.credits as usize {
            Some(format!("more than {} steps wait", inside.credits))
        } else {
            None
        };
        if let Some(what) = wrong {
            return !inside.thread.give_up(epoch)
                || inside
                    .stage
                    .cast(StageMessage::Faulted(epoch, what))
                    .is_ok();
        }
        inside.expected = expected.next();
        inside.thread.step(step);
        true
    }

    /// From the link: some rows need not be computed any more. A repeat changes nothing. Whether a
    /// Stage lives.
    pub(crate) fn cancel(&self, cancel: CancelRows) -> bool {
        let inside = self.lock();
        (inside.as_ref())
            .map(|inside| inside.thread.cancel(cancel))
            .is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inside>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
