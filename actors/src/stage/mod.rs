//! The Stage: computes one layer range.
//!
//! Spawned by the [Supervisor](crate::supervisor). Steps arrive from the [inbox](crate::inbox) at the
//! [`Entrance`], are checked for epoch and order, and go to the [engine thread](engine_thread); what
//! it computed goes on to the next stage over the [`Link`], or from the last stage to the Verifier
//! beside it. The actor is not on that way, where every thread that has to be woken costs time: it
//! loads, begins epochs and tells of faults. It never blocks.

mod engine_thread;
mod entrance;
mod live_rows;

use std::sync::Arc;

use jupiter_models::engine::EngineMemory;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::factory::{StageFactory, ThreadGuard};
use crate::link::{Link, send_report};
use crate::message::{NodeReport, StageAssignment};
use crate::verifier::Verifiers;
use crate::{NodeId, PlanEpoch};
use engine_thread::{EngineArgs, EngineThread};
pub(crate) use entrance::Entrance;
pub(crate) use live_rows::LiveRows;

/// What a Stage is told.
pub enum StageMessage {
    /// From the Supervisor: serve a new epoch with the same layers. A repeat only reports again.
    Reset(PlanEpoch, StageAssignment),
    /// From the engine thread: loading ended.
    Loaded(jupiter_models::Result<EngineMemory>),
    /// From the engine thread: the KV cache is empty, the epoch may begin.
    Cleared(PlanEpoch),
    /// From the entrance or the engine thread, once an epoch: it cannot go on here, and why. What
    /// comes of it is dropped.
    Faulted(PlanEpoch, String),
    /// From the engine thread: it panicked. The actor fails with it, and is restarted.
    EngineDied(String),
}

/// What a Stage is made of.
pub struct StageArgs {
    pub(crate) node: NodeId,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) verifiers: Verifiers,
    pub(crate) factory: Arc<dyn StageFactory>,
    pub(crate) epoch: PlanEpoch,
    pub(crate) assignment: StageAssignment,
    pub(crate) guards: [ThreadGuard; 2],
    pub(crate) entrance: Arc<Entrance>,
}

/// The actor; its state is [`StageState`].
pub struct Stage;

/// A living Stage.
pub struct StageState {
    node: NodeId,
    link: Arc<dyn Link>,
    assignment: StageAssignment,
    entrance: Arc<Entrance>,
    epoch: PlanEpoch,
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
        let thread = EngineThread::spawn(EngineArgs {
            stage: myself.clone(),
            link: args.link.clone(),
            verifiers: args.verifiers,
            factory: args.factory,
            assignment: args.assignment.clone(),
            guards: args.guards,
        })?;
        args.entrance.open(thread, myself);
        args.entrance.begin(args.epoch, &args.assignment);
        Ok(StageState {
            node: args.node,
            link: args.link,
            assignment: args.assignment,
            entrance: args.entrance,
            epoch: args.epoch,
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
            StageMessage::Faulted(epoch, what) if epoch == state.epoch => state.tell_fault(&what),
            StageMessage::Faulted(..) => {}
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
        state.entrance.close();
        Ok(())
    }
}

impl Drop for StageState {
    /// The inbox still knows the entrance of a Stage that failed or was killed.
    fn drop(&mut self) {
        self.entrance.close();
    }
}

impl StageState {
    fn reset(&mut self, epoch: PlanEpoch, assignment: StageAssignment) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.assignment = assignment;
            self.ready = false;
            self.entrance.begin(epoch, &self.assignment);
        } else if self.ready && self.entrance.is_unused() {
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

    fn tell_fault(&self, what: &str) {
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
