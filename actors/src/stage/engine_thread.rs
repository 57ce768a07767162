//! The OS thread that owns a stage's engine.
//!
//! It takes jobs from a channel, and sends what it computed on itself: an actor in between would be
//! a second thread to wake for every step. A panic in the engine is caught and cast to the Stage,
//! since ractor does not see panics of other threads. It ends when its Stage does. Steps of an
//! epoch that is over are skipped, not computed; so are single rows that were cancelled, while the
//! rest of their step is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use jupiter_models::engine::{Logits, StageEngine, StepInput, StepOutput};
use jupiter_models::hidden::HiddenStates;
use ractor::ActorRef;

use super::StageMessage;
use super::live_rows::LiveRows;
use crate::factory::{StageFactory, ThreadGuard};
use crate::link::{Address, Link, send_from_own_thread};
use crate::message::{CancelRows, Message, StageAssignment, StageTiming, StepBatch, StepHeader};
use crate::verifier::{ComputedStep, Verifiers};
use crate::{PlanEpoch, clock};

/// What a step leaves.
enum StepResult {
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

/// No plan counts.
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
    shared: Arc<Shared>,
}

/// What both sides of the thread see.
struct Shared {
    /// The epoch whose steps are computed and sent on; `NO_EPOCH` when it cannot go on here.
    epoch: AtomicU64,
    live: LiveRows,
    /// Steps that are not computed yet.
    n_waiting: AtomicUsize,
}

/// What the thread is made of.
pub(super) struct EngineArgs {
    pub(super) stage: ActorRef<StageMessage>,
    pub(super) link: Arc<dyn Link>,
    pub(super) verifiers: Verifiers,
    pub(super) factory: Arc<dyn StageFactory>,
    pub(super) assignment: StageAssignment,
    pub(super) guards: [ThreadGuard; 2],
}

impl EngineThread {
    pub(super) fn spawn(args: EngineArgs) -> std::io::Result<Self> {
        // Unbounded in type; in fact at most `credits` steps wait (the Entrance counts), and the
        // Planner clears once per epoch.
        let (jobs, inbox) = channel();
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(NO_EPOCH),
            live: LiveRows::new(args.assignment.engine.n_seq_max),
            n_waiting: AtomicUsize::new(0),
        });
        let seen = shared.clone();
        std::thread::Builder::new()
            .name(format!("stage-{}", args.assignment.stage))
            .spawn(move || {
                let worker = catch_unwind(AssertUnwindSafe(|| run(&args, &inbox, &seen)));
                if let Err(panic) = worker {
                    let died = StageMessage::EngineDied(panic_text(panic.as_ref()));
                    // A Stage that is gone needs no news.
                    let _ = args.stage.cast(died);
                }
                drop(args.guards);
            })?;
        Ok(Self {
            jobs: Some(jobs),
            shared,
        })
    }

    /// Empties the KV cache for a new epoch; queued steps of older ones are skipped.
    pub(super) fn clear(&self, epoch: PlanEpoch) {
        self.shared.live.clear();
        self.shared.epoch.store(epoch.0, Ordering::Release);
        self.send(Job::Clear(epoch));
    }

    /// Whether steps of `epoch` are computed.
    pub(super) fn serves(&self, epoch: PlanEpoch) -> bool {
        self.shared.serves(epoch)
    }

    /// Ends `epoch` here, if it goes on; whether it did.
    pub(super) fn give_up(&self, epoch: PlanEpoch) -> bool {
        self.shared.give_up(epoch)
    }

    /// Rows of queued steps that need not be computed any more.
    pub(super) fn cancel(&self, cancel: CancelRows) {
        if self.serves(cancel.epoch) {
            self.shared.live.cancel(cancel);
        }
    }

    pub(super) fn step(&self, step: StepBatch) {
        self.shared.n_waiting.fetch_add(1, Ordering::AcqRel);
        self.send(Job::Step(step, Instant::now()));
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.shared.n_waiting.load(Ordering::Acquire)
    }

    /// Lets the thread end after what it computes now; the steps that wait are skipped.
    pub(super) fn end(&mut self) {
        self.shared.epoch.store(NO_EPOCH, Ordering::Release);
        self.jobs = None;
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It fails only when the thread has ended, and then its last message is on the way.
            let _ = jobs.send(job);
        }
    }
}

impl Shared {
    fn serves(&self, epoch: PlanEpoch) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch.0
    }

    fn give_up(&self, epoch: PlanEpoch) -> bool {
        let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let ended = self
            .epoch
            .compare_exchange(epoch.0, NO_EPOCH, order, failure);
        ended.is_ok()
    }
}

fn run(args: &EngineArgs, jobs: &Receiver<Job>, shared: &Shared) {
    let (stage, assignment) = (&args.stage, &args.assignment);
    let mut engine = match args.factory.load(assignment) {
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
        match job {
            Job::Clear(epoch) => {
                engine.clear();
                if stage.cast(StageMessage::Cleared(epoch)).is_err() {
                    return;
                }
            }
            Job::Step(step, arrived) => {
                let (epoch, id) = (step.header.epoch, step.header.step);
                let done = shared
                    .serves(epoch)
                    .then(|| compute_step(engine.as_mut(), shared, step, arrived, assignment));
                let is_idle = shared.n_waiting.fetch_sub(1, Ordering::AcqRel) == 1;
                // Meanwhile the epoch may have ended.
                let Some(done) = done.filter(|_| shared.serves(epoch)) else {
                    continue;
                };
                let sent = done.map_err(|error| format!("{id}: {error}"));
                let sent = sent.and_then(|(header, result)| pass_on(args, is_idle, header, result));
                if let Err(what) = sent
                    && shared.give_up(epoch)
                    && stage.cast(StageMessage::Faulted(epoch, what)).is_err()
                {
                    return;
                }
            }
        }
    }
}

/// Computes a step, and notes in its header what it took.
fn compute_step(
    engine: &mut dyn StageEngine,
    shared: &Shared,
    step: StepBatch,
    arrived: Instant,
    assignment: &StageAssignment,
) -> jupiter_models::Result<(StepHeader, StepResult)> {
    let StepBatch {
        mut header,
        payload,
    } = step;
    let began_us = clock::unix_us();
    let begin = Instant::now();
    let result = compute(engine, &shared.live, &mut header, &payload, assignment)?;
    header.timings.push(StageTiming {
        stage: assignment.stage,
        began_us,
        waited_us: clock::micros(begin.duration_since(arrived)),
        busy_us: clock::micros(begin.elapsed()),
    });
    Ok((header, result))
}

/// Sends a step's result to the next stage, or gives it to the Verifier beside the last one; `is_idle`
/// when no other step waits.
///
/// # Errors
/// Why the epoch cannot go on.
fn pass_on(
    args: &EngineArgs,
    is_idle: bool,
    mut header: StepHeader,
    result: StepResult,
) -> Result<(), String> {
    let assignment = &args.assignment;
    match result {
        StepResult::Hidden { payload, n_embd } => {
            header.stage += 1;
            header.payload_dtype = assignment.payload_dtype;
            header.n_embd = n_embd;
            let to = Address::Stage {
                epoch: header.epoch,
                stage: header.stage,
            };
            let step = Message::Step(StepBatch { header, payload });
            send_from_own_thread(args.link.as_ref(), &to, &step).map_err(|error| error.to_string())
        }
        StepResult::Logits(logits) => {
            let judge = args.verifiers.beside(assignment.stage);
            let step = ComputedStep { header, logits };
            let told = judge.is_some_and(|judge| judge.take(step, is_idle));
            told.then_some(()).ok_or("the verifier is gone".into())
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
