//! The Supervisor: one per node; keeps the actors that the plan wants alive.
//!
//! ```text
//! Supervisor --spawns--> Planner (on the head), Stage, Verifier (beside a last stage), Drafter
//! ```
//!
//! Commands name the wanted state ([`NodeCommand::Assign`]); the Supervisor brings it about. A
//! child that fails is reported to the Planner and started again after a backoff, with the newest
//! assignment; one that fails too often is reported as beyond repair.

mod drafter;
mod failures;
mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::failures::Failures;
use self::stages::HeldStage;
use crate::drafter::DrafterMessage;
use crate::factory::{StageFactory, ThreadGuard};
use crate::link::Link;
use crate::message::{DrafterAssignment, NodeCommand};
use crate::planner::{Planner, PlannerArgs, PlannerConfig};
use crate::verifier::Verifiers;
use crate::{Inbox, NodeId, PlanEpoch};

/// Longest wait for engine threads to end: a step on a slow machine.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a node's Supervisor is told.
pub enum SupervisorMessage {
    /// From the Planner. A repeat is harmless.
    Command(NodeCommand),
    /// From itself, when a backoff is over.
    Restart(Child),
}

/// A place in the tree that is filled again after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// The Planner, on the head.
    Planner,
    /// A stage, with its Verifier.
    Stage(u32),
}

/// What a node is made of.
pub struct SupervisorArgs {
    /// The node's name.
    pub node: NodeId,
    /// How its actors send.
    pub link: Arc<dyn Link>,
    /// How they are reached.
    pub inbox: Inbox,
    /// How stages are loaded.
    pub factory: Arc<dyn StageFactory>,
    /// Only on the head.
    pub planner: Option<PlannerConfig>,
}

/// A running node. Dropping it leaves the actors running; [`NodeHandle::stop`] ends them.
pub struct NodeHandle {
    supervisor: ActorRef<SupervisorMessage>,
    joined: JoinHandle<()>,
    threads: mpsc::Receiver<()>,
}

impl NodeHandle {
    /// Ends all actors of the node and waits for their engine threads, so that nothing runs on
    /// while the process ends.
    pub async fn stop(mut self) {
        self.supervisor.stop(None);
        let ended = tokio::time::timeout(STOP_TIMEOUT, async {
            let _ = self.joined.await;
            // Nothing is ever sent: it answers when the last engine thread has dropped its guard.
            let _ = self.threads.recv().await;
        });
        if ended.await.is_err() {
            tracing::warn!("an engine thread still runs after {STOP_TIMEOUT:?}");
        }
    }
}

/// Starts a node's Supervisor, and its Planner on the head.
///
/// # Errors
/// When the Planner's configuration cannot be used.
pub async fn start_node(args: SupervisorArgs) -> Result<NodeHandle, SpawnErr> {
    let (guard, threads) = mpsc::channel(1);
    let (supervisor, joined) = Actor::spawn(None, Supervisor, (args, guard)).await?;
    Ok(NodeHandle {
        supervisor,
        joined,
        threads,
    })
}

/// The actor; its state is [`SupervisorState`].
pub struct Supervisor;

/// A living Supervisor.
pub struct SupervisorState {
    args: SupervisorArgs,
    /// Cloned into every engine thread of the node: see [`NodeHandle::stop`].
    guard: ThreadGuard,
    epoch: PlanEpoch,
    /// The Planner's arguments hold its ledger, which survives the actor.
    planner: Option<(PlannerArgs, Option<ActorCell>)>,
    planner_failures: Failures,
    slots: BTreeMap<u32, HeldStage>,
    verifiers: Verifiers,
    /// The draft model that is wanted here, and the actor while it lives.
    drafter: Option<(DrafterAssignment, Option<ActorRef<DrafterMessage>>)>,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = (SupervisorArgs, ThreadGuard);

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        (args, guard): Self::Arguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let supervisor = myself.clone();
        args.inbox.set_supervisor(Box::new(move |command| {
            supervisor.cast(SupervisorMessage::Command(command)).is_ok()
        }));
        let planner = args.planner.clone().map(|config| {
            let inbox = args.inbox.clone();
            let enter = Arc::new(move |planner| inbox.set_planner(Some(planner)));
            let planner = PlannerArgs::new(config, args.link.clone(), enter);
            (planner, None)
        });
        let mut state = SupervisorState {
            args,
            guard,
            epoch: PlanEpoch::default(),
            planner,
            planner_failures: Failures::default(),
            slots: BTreeMap::new(),
            verifiers: Verifiers::default(),
            drafter: None,
        };
        state.start_planner(&myself).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Command(NodeCommand::Assign {
                epoch,
                stages,
                drafter,
            }) => {
                state.assign(&myself, epoch, stages).await;
                state.assign_drafter(&myself, epoch, drafter).await;
            }
            SupervisorMessage::Restart(Child::Planner) => state.start_planner(&myself).await?,
            SupervisorMessage::Restart(Child::Stage(stage)) => {
                if let Some(slot) = state.slots.get_mut(&stage) {
                    slot.resting = false;
                    state.bring_up(&myself, stage).await;
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => {
                state.child_failed(&myself, &cell, &error.to_string());
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                state.child_ended(&myself, &cell, reason.as_deref().unwrap_or("it ended"));
            }
            _ => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn start_planner(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let Some((args, living)) = &mut self.planner else {
            return Ok(());
        };
        let (planner, _) =
            Actor::spawn_linked(None, Planner, args.clone(), myself.get_cell()).await?;
        *living = Some(planner.get_cell());
        self.args.inbox.set_planner(Some(planner));
        Ok(())
    }

    fn child_failed(&mut self, myself: &ActorRef<SupervisorMessage>, cell: &ActorCell, why: &str) {
        if self.planner_ended(myself, cell, why) || self.drafter_ended(cell, why) {
            return;
        }
        self.stage_failed(myself, cell, why);
    }

    /// Starts the Planner again if it is the child that ended; it never ends in order.
    fn planner_ended(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        cell: &ActorCell,
        why: &str,
    ) -> bool {
        let Some((args, living)) = &mut self.planner else {
            return false;
        };
        if living
            .as_ref()
            .is_none_or(|planner| planner.get_id() != cell.get_id())
        {
            return false;
        }
        tracing::error!(why, "the planner failed and is started again");
        *living = None;
        self.args.inbox.set_planner(None);
        match self.planner_failures.next_backoff(Instant::now()) {
            Some(backoff) => {
                myself.send_after(backoff, || SupervisorMessage::Restart(Child::Planner));
            }
            None => args.abandon(),
        }
        true
    }

    /// A child ended in order: a stage whose model cannot be loaded, or one that was released.
    fn child_ended(&mut self, myself: &ActorRef<SupervisorMessage>, cell: &ActorCell, why: &str) {
        if self.planner_ended(myself, cell, why) || self.drafter_ended(cell, why) {
            return;
        }
        self.forget(cell);
    }
}
