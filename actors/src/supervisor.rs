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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::failures::Failures;
use crate::drafter::DrafterMessage;
use crate::inbox::send_report;
use crate::link::Link;
use crate::message::{DrafterAssignment, NodeCommand, NodeReport, StageAssignment};
use crate::planner::{Planner, PlannerArgs, PlannerConfig};
use crate::stage::{Entrance, Stage, StageArgs, StageFactory, StageMessage, ThreadGuard};
use crate::verifier::{Judge, Verifier, VerifierArgs, VerifierMessage};
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
    slots: BTreeMap<u32, Slot>,
    /// The draft model that is wanted here, and the actor while it lives.
    drafter: Option<(DrafterAssignment, Option<ActorRef<DrafterMessage>>)>,
}

/// A stage as the plan wants it, and what lives of it.
struct Slot {
    assignment: StageAssignment,
    stage: Option<ActorRef<StageMessage>>,
    /// Answers when the stage's engine thread has ended and its memory is free.
    engine_ended: Option<mpsc::Receiver<()>>,
    verifier: Option<ActorRef<VerifierMessage>>,
    failures: Failures,
    /// Whether a restart waits for its backoff.
    resting: bool,
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
        args.inbox.set_supervisor(myself.clone());
        let planner = args.planner.clone().map(|config| {
            let planner = PlannerArgs::new(config, args.link.clone(), args.inbox.clone());
            (planner, None)
        });
        let mut state = SupervisorState {
            args,
            guard,
            epoch: PlanEpoch::default(),
            planner,
            planner_failures: Failures::default(),
            slots: BTreeMap::new(),
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
    /// Makes the node hold exactly `stages`.
    async fn assign(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        epoch: PlanEpoch,
        stages: Vec<StageAssignment>,
    ) {
        if epoch < self.epoch {
            return;
        }
        self.epoch = epoch;
        let wanted: Vec<u32> = stages.iter().map(|assignment| assignment.stage).collect();
        let dropped: Vec<u32> = self
            .slots
            .keys()
            .copied()
            .filter(|stage| !wanted.contains(stage))
            .collect();
        for stage in dropped {
            self.release(stage).await;
            self.slots.remove(&stage);
        }
        self.args.link.host(epoch, &wanted);
        for assignment in stages {
            let stage = assignment.stage;
            match self.slots.get(&stage) {
                Some(slot) if same_engine(&slot.assignment, &assignment) => {}
                _ => self.release(stage).await,
            }
            let slot = self.slots.entry(stage).or_insert_with(|| Slot {
                assignment: assignment.clone(),
                stage: None,
                engine_ended: None,
                verifier: None,
                failures: Failures::default(),
                resting: false,
            });
            slot.assignment = assignment;
            self.bring_up(myself, stage).await;
        }
    }

    /// Starts what is missing of a stage, or tells it of the newest epoch.
    async fn bring_up(&mut self, myself: &ActorRef<SupervisorMessage>, stage: u32) {
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
        if slot.resting {
            return;
        }
        let assignment = &slot.assignment;
        let is_last = assignment.stage + 1 == assignment.n_stages;
        if is_last && slot.verifier.is_none() {
            let judge = Judge::new();
            let args = VerifierArgs {
                node: self.args.node.clone(),
                link: self.args.link.clone(),
                factory: self.args.factory.clone(),
                assignment: assignment.clone(),
                judge: judge.clone(),
            };
            match Actor::spawn_linked(None, Verifier, args, myself.get_cell()).await {
                Ok((verifier, _)) => {
                    self.args.inbox.set_verifier(stage, Some(judge));
                    slot.verifier = Some(verifier);
                }
                Err(error) => {
                    return self.report_down(stage, format!("verifier: {error}"), false);
                }
            }
        }
        if let Some(living) = &slot.stage {
            // Failing means that its end is in our mailbox already.
            let _ = living.cast(StageMessage::Reset(self.epoch, assignment.clone()));
            return;
        }
        if let Some(mut ended) = slot.engine_ended.take() {
            // The engine of the stage that failed gives its memory back first.
            let _ = tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await;
        }
        let (engine_guard, engine_ended) = mpsc::channel(1);
        let entrance = Entrance::new();
        let args = StageArgs {
            node: self.args.node.clone(),
            link: self.args.link.clone(),
            inbox: self.args.inbox.clone(),
            factory: self.args.factory.clone(),
            epoch: self.epoch,
            assignment: assignment.clone(),
            guards: [self.guard.clone(), engine_guard],
            entrance: entrance.clone(),
        };
        match Actor::spawn_linked(None, Stage, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.args.inbox.set_stage(stage, Some(entrance));
                slot.stage = Some(actor);
                slot.engine_ended = Some(engine_ended);
            }
            Err(error) => self.report_down(stage, error.to_string(), false),
        }
    }

    /// Ends what lives of a stage and waits for its engine, so that its memory is free for the next.
    async fn release(&mut self, stage: u32) {
        self.args.inbox.set_stage(stage, None);
        self.args.inbox.set_verifier(stage, None);
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
        if let Some(actor) = slot.stage.take() {
            let _ = actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        if let Some(mut ended) = slot.engine_ended.take() {
            let _ = tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await;
        }
        if let Some(actor) = slot.verifier.take() {
            let _ = actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
    }

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
        let Some((stage, part)) = self.forget(cell) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
        let backoff = slot.failures.next_backoff(Instant::now());
        let resting = std::mem::replace(&mut slot.resting, backoff.is_some());
        tracing::warn!(node = %self.args.node, stage, ?part, why, ?backoff, "an actor failed");
        self.report_down(stage, format!("{part:?}: {why}"), backoff.is_some());
        if let Some(backoff) = backoff
            && !resting
        {
            myself.send_after(backoff, move || {
                SupervisorMessage::Restart(Child::Stage(stage))
            });
        }
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

    /// Takes a child that lives no more out of its slot and of the inbox.
    fn forget(&mut self, cell: &ActorCell) -> Option<(u32, Part)> {
        let (stage, part) = self.find(cell)?;
        let slot = self.slots.get_mut(&stage)?;
        match part {
            Part::Stage => {
                slot.stage = None;
                self.args.inbox.set_stage(stage, None);
            }
            Part::Verifier => {
                slot.verifier = None;
                self.args.inbox.set_verifier(stage, None);
            }
        }
        Some((stage, part))
    }

    fn find(&self, cell: &ActorCell) -> Option<(u32, Part)> {
        let id = cell.get_id();
        self.slots.iter().find_map(|(&stage, slot)| {
            if slot
                .stage
                .as_ref()
                .is_some_and(|actor| actor.get_id() == id)
            {
                Some((stage, Part::Stage))
            } else if slot
                .verifier
                .as_ref()
                .is_some_and(|actor| actor.get_id() == id)
            {
                Some((stage, Part::Verifier))
            } else {
                None
            }
        })
    }

    fn report_down(&self, stage: u32, why: String, restarting: bool) {
        let (epoch, node) = (self.epoch, self.args.node.clone());
        let down = NodeReport::StageDown {
            epoch,
            stage,
            node,
            why,
            restarting,
        };
        send_report(self.args.link.as_ref(), down);
    }
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Stage,
    Verifier,
}

/// Whether an engine loaded for `a` can serve `b`.
fn same_engine(a: &StageAssignment, b: &StageAssignment) -> bool {
    (a.layers, &a.model, &a.engine, a.stage + 1 == a.n_stages)
        == (b.layers, &b.model, &b.engine, b.stage + 1 == b.n_stages)
}
