//! The Stage: computes one layer range.
//!
//! Spawned by the [Supervisor](crate::supervisor). Steps arrive from the [`Inbox`], are checked
//! for epoch and order, and go to the [engine thread](engine_thread); what it computed goes on to
//! the next stage over the [`Link`], or from the last stage to the Verifier beside it. The actor
//! itself never blocks.

mod engine_thread;
mod live_rows;

use std::sync::Arc;

use jupiter_models::draft_model::DraftModel;
use jupiter_models::engine::{EngineMemory, StageEngine};
use jupiter_models::medusa::MedusaHeads;
use jupiter_models::text::Vocabulary;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::inbox::send_report;
use crate::link::{Address, Link, send_message};
use crate::message::{
    CancelRows, DrafterAssignment, Message, NodeReport, StageAssignment, StageTiming, StepBatch,
};
use crate::verifier::VerifierMessage;
use crate::{Inbox, NodeId, PlanEpoch, StepId};
pub use engine_thread::ThreadGuard;
use engine_thread::{Computed, EngineThread, StepResult};
pub(crate) use live_rows::LiveRows;

/// Makes what a stage needs from the model file; called on threads that may block.
pub trait StageFactory: Send + Sync + 'static {
    /// Loads the engine of a stage.
    ///
    /// # Errors
    /// When the model cannot be cut or loaded as asked; the stage is not restarted then.
    fn load(&self, assignment: &StageAssignment) -> jupiter_models::Result<Box<dyn StageEngine>>;

    /// The vocabulary for the Verifier beside the last stage.
    ///
    /// # Errors
    /// When the model file cannot be read.
    fn vocabulary(&self, assignment: &StageAssignment) -> jupiter_models::Result<Arc<Vocabulary>>;

    /// The Medusa heads with this content hash, for the Verifier.
    ///
    /// # Errors
    /// When this node has none, or others, or they do not fit the model.
    fn medusa(&self, id: &str) -> jupiter_models::Result<Arc<MedusaHeads>>;

    /// The draft model, for the Drafter.
    ///
    /// # Errors
    /// When this node has none, or another, or it does not fit the model.
    fn draft_model(&self, assignment: &DrafterAssignment) -> jupiter_models::Result<DraftModel>;
}

/// What a Stage is told.
pub enum StageMessage {
    /// From the link: a step. Repeats and steps of other epochs are dropped.
    Step(StepBatch),
    /// From the link: some rows need not be computed any more. A repeat changes nothing.
    Cancel(CancelRows),
    /// From the Supervisor: serve a new epoch with the same layers. A repeat only reports again.
    Reset(PlanEpoch, StageAssignment),
    /// From the engine thread: loading ended.
    Loaded(jupiter_models::Result<EngineMemory>),
    /// From the engine thread: the KV cache is empty, the epoch may begin.
    Cleared(PlanEpoch),
    /// From the engine thread: a step ended.
    Computed(Computed),
    /// From the engine thread: it panicked. The actor fails with it, and is restarted.
    EngineDied(String),
}

/// What a Stage is made of.
pub struct StageArgs {
    pub(crate) node: NodeId,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) inbox: Inbox,
    pub(crate) factory: Arc<dyn StageFactory>,
    pub(crate) epoch: PlanEpoch,
    pub(crate) assignment: StageAssignment,
    pub(crate) guards: [ThreadGuard; 2],
}

/// The actor; its state is [`StageState`].
pub struct Stage;

/// A living Stage.
pub struct StageState {
    node: NodeId,
    link: Arc<dyn Link>,
    inbox: Inbox,
    assignment: StageAssignment,
    thread: EngineThread,
    epoch: PlanEpoch,
    expected: StepId,
    /// Set when the epoch cannot go on here: the rest of it is dropped without further reports.
    faulted: bool,
    memory: Option<EngineMemory>,
    /// Whether the KV cache is empty for `epoch`.
    ready: bool,
}

impl Actor for Stage {
    type Msg = StageMessage;
    type State = StageState;
    type Arguments = StageArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<StageMessage>,
        args: StageArgs,
    ) -> Result<StageState, ActorProcessingErr> {
        let thread =
            EngineThread::spawn(myself, args.factory, args.assignment.clone(), args.guards)?;
        thread.clear(args.epoch);
        Ok(StageState {
            node: args.node,
            link: args.link,
            inbox: args.inbox,
            assignment: args.assignment,
            thread,
            epoch: args.epoch,
            expected: StepId::default(),
            faulted: false,
            memory: None,
            ready: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<StageMessage>,
        message: StageMessage,
        state: &mut StageState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StageMessage::Step(step) => state.take(step),
            StageMessage::Cancel(cancel) => state.thread.cancel(cancel),
            StageMessage::Reset(epoch, assignment) => state.reset(epoch, assignment),
            StageMessage::Loaded(Ok(memory)) => state.memory = Some(memory),
            StageMessage::Loaded(Err(error)) => {
                // Trying again would fail again: the Planner decides what else to do.
                send_report(
                    state.link.as_ref(),
                    NodeReport::StageDown {
                        epoch: state.epoch,
                        stage: state.assignment.stage,
                        node: state.node.clone(),
                        why: error.to_string(),
                        restarting: false,
                    },
                );
                myself.stop(Some(error.to_string()));
            }
            StageMessage::Cleared(epoch) if epoch == state.epoch => {
                state.ready = true;
                state.report_ready();
            }
            StageMessage::Cleared(_) => {}
            StageMessage::Computed(computed) => state.pass_on(computed),
            StageMessage::EngineDied(why) => return Err(why.into()),
        }
        Ok(())
    }

    /// The state outlives the actor: it waits in the mailbox of the Supervisor, which in turn waits
    /// for the engine thread. So the thread is told to end here, not by the end of the state.
    async fn post_stop(
        &self,
        _myself: ActorRef<StageMessage>,
        state: &mut StageState,
    ) -> Result<(), ActorProcessingErr> {
        state.thread.end();
        Ok(())
    }
}

impl StageState {
    fn take(&mut self, step: StepBatch) {
        let header = &step.header;
        if header.epoch != self.epoch || header.step < self.expected || self.faulted {
            tracing::debug!(stage = self.assignment.stage, epoch = %header.epoch, step = %header.step,
                "dropped a step: {}, {} expected", self.epoch, self.expected);
            return;
        }
        if header.step > self.expected {
            return self.fault(format!("{} came, {} expected", header.step, self.expected));
        }
        if self.thread.n_waiting() >= self.assignment.credits as usize {
            return self.fault(format!("more than {} steps wait", self.assignment.credits));
        }
        self.expected = self.expected.next();
        self.thread.step(step);
    }

    fn reset(&mut self, epoch: PlanEpoch, assignment: StageAssignment) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.assignment = assignment;
            self.expected = StepId::default();
            self.faulted = false;
            self.ready = false;
            self.thread.clear(epoch);
        } else if self.ready && self.expected == StepId::default() {
            self.report_ready();
        }
    }

    fn report_ready(&self) {
        let Some(memory) = self.memory else { return };
        send_report(
            self.link.as_ref(),
            NodeReport::StageReady {
                epoch: self.epoch,
                stage: self.assignment.stage,
                node: self.node.clone(),
                memory,
            },
        );
    }

    fn pass_on(&mut self, computed: Computed) {
        self.thread.finished_one();
        let Computed {
            mut header,
            result,
            began_us,
            waited_us,
            busy_us,
        } = computed;
        if header.epoch != self.epoch || self.faulted {
            return;
        }
        header.timings.push(StageTiming {
            stage: self.assignment.stage,
            began_us,
            waited_us,
            busy_us,
        });
        match result {
            Ok(StepResult::Skipped) => {}
            Ok(StepResult::Hidden { payload, n_embd }) => {
                header.stage += 1;
                header.payload_dtype = self.assignment.payload_dtype;
                header.n_embd = n_embd;
                let to = Address::Stage {
                    epoch: header.epoch,
                    stage: header.stage,
                };
                let step = Message::Step(StepBatch { header, payload });
                if let Err(error) = send_message(self.link.as_ref(), &to, &step) {
                    self.fault(error.to_string());
                }
            }
            Ok(StepResult::Logits(logits)) => match self.inbox.verifier(self.assignment.stage) {
                Some(verifier) if verifier.cast(VerifierMessage { header, logits }).is_ok() => {}
                _ => self.fault("the verifier is gone".into()),
            },
            Err(error) => self.fault(format!("{}: {error}", header.step)),
        }
    }

    fn fault(&mut self, what: String) {
        self.faulted = true;
        let what = format!("stage {}: {what}", self.assignment.stage);
        tracing::warn!(node = %self.node, epoch = %self.epoch, what, "the epoch cannot go on");
        let fault = NodeReport::StepFault {
            epoch: Some(self.epoch),
            node: self.node.clone(),
            what,
        };
        send_report(self.link.as_ref(), fault);
    }
}
