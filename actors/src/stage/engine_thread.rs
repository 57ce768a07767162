//! The OS thread that owns a stage's engine.
//!
//! It takes jobs from a channel and answers by casting to its Stage. A panic in the engine is
//! caught and cast as well, since ractor does not see panics of other threads. It ends when its
//! Stage does. Steps of an epoch that is over are skipped, not computed; so are single rows that
//! were cancelled, while the rest of their step is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use jupiter_models::engine::{Logits, StageEngine, StepInput, StepOutput};
use jupiter_models::hidden::HiddenStates;
use ractor::ActorRef;

use super::live_rows::LiveRows;
use super::{StageFactory, StageMessage};
use crate::message::{CancelRows, StageAssignment, StepBatch, StepHeader};
use crate::{PlanEpoch, clock};

/// Held by engine threads: its channel closes when the last one that holds it has ended.
pub type ThreadGuard = tokio::sync::mpsc::Sender<()>;

/// What became of a step.
pub struct Computed {
    /// The step's header, as it came.
    pub header: StepHeader,
    /// What the engine made of it.
    pub result: jupiter_models::Result<StepResult>,
    /// When the engine began, in microseconds since the UNIX epoch.
    pub began_us: u64,
    /// Time from the step's arrival to `began_us`, in microseconds.
    pub waited_us: u64,
    /// Time from the start of the engine's work to its end, in microseconds.
    pub busy_us: u64,
}

/// What a step leaves.
pub enum StepResult {
    /// Nothing: its epoch was over before it began.
    Skipped,
    /// Hidden states for the next stage, already written in the assignment's dtype.
    Hidden {
        /// The bytes.
        payload: Vec<u8>,
        /// Values per row.
        n_embd: u32,
    },
    /// Logits for the Verifier.
    Logits(Logits),
}

/// No plan counts so far.
const NO_EPOCH: u64 = u64::MAX;

enum Job {
    Clear(PlanEpoch),
    /// A step, and when it arrived.
    Step(StepBatch, Instant),
}

/// The Stage's side of the thread.
pub(super) struct EngineThread {
    /// None when the thread has been told to end.
    jobs: Option<Sender<Job>>,
    epoch: Arc<AtomicU64>,
    live: Arc<LiveRows>,
    n_waiting: usize,
}

impl EngineThread {
    pub(super) fn spawn(
        stage: ActorRef<StageMessage>,
        factory: Arc<dyn StageFactory>,
        assignment: StageAssignment,
        guards: [ThreadGuard; 2],
    ) -> std::io::Result<Self> {
        // Unbounded in type; in fact at most `credits` steps wait (the Stage counts), and the
        // Planner clears once per epoch.
        let (jobs, inbox) = channel();
        let epoch = Arc::new(AtomicU64::new(0));
        let live = Arc::new(LiveRows::new(assignment.engine.n_seq_max));
        let (current, rows) = (epoch.clone(), live.clone());
        std::thread::Builder::new()
            .name(format!("stage-{}", assignment.stage))
            .spawn(move || {
                let worker = catch_unwind(AssertUnwindSafe(|| {
                    run(
                        &stage,
                        factory.as_ref(),
                        &assignment,
                        &inbox,
                        &current,
                        &rows,
                    );
                }));
                if let Err(panic) = worker {
                    // A Stage that is gone needs no news.
                    let _ = stage.cast(StageMessage::EngineDied(panic_text(panic.as_ref())));
                }
                drop(guards);
            })?;
        Ok(Self {
            jobs: Some(jobs),
            epoch,
            live,
            n_waiting: 0,
        })
    }

    /// Empties the KV cache for a new epoch; queued steps of older ones are skipped.
    pub(super) fn clear(&self, epoch: PlanEpoch) {
        self.live.clear();
        self.epoch.store(epoch.0, Ordering::Release);
        self.send(Job::Clear(epoch));
    }

    /// Rows of queued steps that need not be computed any more.
    pub(super) fn cancel(&self, cancel: CancelRows) {
        if cancel.epoch.0 == self.epoch.load(Ordering::Acquire) {
            self.live.cancel(cancel);
        }
    }

    pub(super) fn step(&mut self, step: StepBatch) {
        self.n_waiting += 1;
        self.send(Job::Step(step, Instant::now()));
    }

    pub(super) fn finished_one(&mut self) {
        self.n_waiting = self.n_waiting.saturating_sub(1);
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    /// Lets the thread end after what it computes now; the steps that wait are skipped.
    pub(super) fn end(&mut self) {
        self.epoch.store(NO_EPOCH, Ordering::Release);
        self.jobs = None;
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It fails only when the thread has ended, and then its last message is on the way.
            let _ = jobs.send(job);
        }
    }
}

fn run(
    stage: &ActorRef<StageMessage>,
    factory: &dyn StageFactory,
    assignment: &StageAssignment,
    jobs: &Receiver<Job>,
    current: &AtomicU64,
    live: &LiveRows,
) {
    let mut engine = match factory.load(assignment) {
        Ok(engine) => engine,
        Err(error) => {
            let _ = stage.cast(StageMessage::Loaded(Err(error)));
            return;
        }
    };
    if stage
        .cast(StageMessage::Loaded(Ok(engine.memory())))
        .is_err()
    {
        return;
    }
    while let Ok(job) = jobs.recv() {
        let answer = match job {
            Job::Clear(epoch) => {
                engine.clear();
                StageMessage::Cleared(epoch)
            }
            Job::Step(step, arrived) => {
                let StepBatch {
                    mut header,
                    payload,
                } = step;
                let began_us = clock::unix_us();
                let begin = Instant::now();
                let result = if header.epoch.0 == current.load(Ordering::Acquire) {
                    compute(engine.as_mut(), live, &mut header, &payload, assignment)
                } else {
                    Ok(StepResult::Skipped)
                };
                let busy_us = clock::micros(begin.elapsed());
                StageMessage::Computed(Computed {
                    header,
                    result,
                    began_us,
                    waited_us: clock::micros(begin.duration_since(arrived)),
                    busy_us,
                })
            }
        };
        if stage.cast(answer).is_err() {
            return;
        }
    }
}

/// Applies the KV operations and computes the rows that are not cancelled; the header keeps only
/// these.
fn compute(
    engine: &mut dyn StageEngine,
    live: &LiveRows,
    header: &mut StepHeader,
    payload: &[u8],
    assignment: &StageAssignment,
) -> jupiter_models::Result<StepResult> {
    for op in &header.kv_ops {
        engine.apply(*op)?;
    }
    let (n_rows, n_embd) = (header.rows.len(), header.n_embd as usize);
    let kept = live.retain(header);
    if header.rows.is_empty() {
        return Ok(if assignment.stage + 1 < assignment.n_stages {
            StepResult::Hidden {
                payload: Vec::new(),
                n_embd: 0,
            }
        } else {
            StepResult::Logits(Logits::default())
        });
    }
    let output = if n_embd == 0 {
        engine.step(&header.rows, StepInput::Tokens)?
    } else {
        let mut hidden = HiddenStates::decode(payload, n_rows, n_embd, header.payload_dtype)?;
        if let Some(kept) = kept {
            hidden = hidden.select(&kept)?;
        }
        engine.step(&header.rows, StepInput::Hidden(&hidden))?
    };
    Ok(match output {
        StepOutput::Hidden(hidden) => StepResult::Hidden {
            payload: hidden.encode(assignment.payload_dtype)?,
            n_embd: u32::try_from(hidden.n_embd).unwrap_or(u32::MAX),
        },
        StepOutput::Logits(logits) => StepResult::Logits(logits),
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the engine panicked: {}", text.unwrap_or("no message"))
}
