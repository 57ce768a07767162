//! The stages of a node and the Verifier beside a last one: what the plan wants, and what lives of it.

use std::time::Instant;

use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use tokio::sync::mpsc;

use super::failures::Failures;
use super::{Child, STOP_TIMEOUT, SupervisorMessage, SupervisorState};
use crate::PlanEpoch;
use crate::link::send_report;
use crate::message::{NodeReport, StageAssignment};
use crate::stage::{Entrance, Stage, StageArgs, StageMessage};
use crate::verifier::{Judge, Verifier, VerifierArgs, VerifierMessage};

/// A stage as the plan wants it, and what lives of it.
pub(super) struct HeldStage {
    assignment: StageAssignment,
    stage: Option<ActorRef<StageMessage>>,
    /// Answers when the stage's engine thread has ended and its memory is free.
    engine_ended: Option<mpsc::Receiver<()>>,
    verifier: Option<ActorRef<VerifierMessage>>,
    /// The same of what guesses beside the Verifier.
    guesses_ended: Option<mpsc::Receiver<()>>,
    failures: Failures,
    /// Whether a restart waits for its backoff.
    pub(super) resting: bool,
}

impl HeldStage {
    /// Ends the Verifier, and waits for what guesses beside it.
    async fn end_verifier(&mut self) {
        if let Some(actor) = self.verifier.take() {
            let _ = actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        if let Some(mut ended) = self.guesses_ended.take() {
            let _ = tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await;
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StageActor {
    Stage,
    Verifier,
}

impl SupervisorState {
    /// Makes the node hold exactly `stages`.
    pub(super) async fn assign(
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
            let slot = self.slots.entry(stage).or_insert_with(|| HeldStage {
                assignment: assignment.clone(),
                stage: None,
                engine_ended: None,
                verifier: None,
                guesses_ended: None,
                failures: Failures::default(),
                resting: false,
            });
            let has_others = slot.assignment.heads != assignment.heads;
            slot.assignment = assignment;
            if has_others {
                self.verifiers.set(stage, None);
                slot.end_verifier().await;
            }
            self.bring_up(myself, stage).await;
        }
    }

    /// Starts what is missing of a stage, or tells it of the newest epoch.
    pub(super) async fn bring_up(&mut self, myself: &ActorRef<SupervisorMessage>, stage: u32) {
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
        if slot.resting {
            return;
        }
        let assignment = slot.assignment.clone();
        let is_last = assignment.stage + 1 == assignment.n_stages;
        if is_last
            && slot.verifier.is_none()
            && let Err(error) = self.start_verifier(myself, assignment.clone()).await
        {
            return self.report_down(stage, format!("verifier: {error}"), false);
        }
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
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
            verifiers: self.verifiers.clone(),
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

    async fn start_verifier(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        assignment: StageAssignment,
    ) -> Result<(), SpawnErr> {
        let (judge, stage) = (Judge::new(), assignment.stage);
        let (guard, ended) = mpsc::channel(1);
        let args = VerifierArgs {
            node: self.args.node.clone(),
            link: self.args.link.clone(),
            factory: self.args.factory.clone(),
            assignment,
            judge: judge.clone(),
            guards: [self.guard.clone(), guard],
        };
        let (verifier, _) = Actor::spawn_linked(None, Verifier, args, myself.get_cell()).await?;
        self.verifiers.set(stage, Some(judge));
        if let Some(slot) = self.slots.get_mut(&stage) {
            slot.verifier = Some(verifier);
            slot.guesses_ended = Some(ended);
        }
        Ok(())
    }

    /// Ends what lives of a stage and waits for its engine, so that its memory is free for the next.
    async fn release(&mut self, stage: u32) {
        self.args.inbox.set_stage(stage, None);
        self.verifiers.set(stage, None);
        let Some(slot) = self.slots.get_mut(&stage) else {
            return;
        };
        if let Some(actor) = slot.stage.take() {
            let _ = actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        if let Some(mut ended) = slot.engine_ended.take() {
            let _ = tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await;
        }
        slot.end_verifier().await;
    }

    /// A Stage or Verifier failed: the Planner is told, and it begins again after its backoff.
    pub(super) fn stage_failed(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        cell: &ActorCell,
        why: &str,
    ) {
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

    /// Takes a child that lives no more out of its slot and of the inbox.
    pub(super) fn forget(&mut self, cell: &ActorCell) -> Option<(u32, StageActor)> {
        let (stage, part) = self.find(cell)?;
        let slot = self.slots.get_mut(&stage)?;
        match part {
            StageActor::Stage => {
                slot.stage = None;
                self.args.inbox.set_stage(stage, None);
            }
            StageActor::Verifier => {
                slot.verifier = None;
                self.verifiers.set(stage, None);
            }
        }
        Some((stage, part))
    }

    fn find(&self, cell: &ActorCell) -> Option<(u32, StageActor)> {
        let id = cell.get_id();
        self.slots.iter().find_map(|(&stage, slot)| {
            if slot
                .stage
                .as_ref()
                .is_some_and(|actor| actor.get_id() == id)
            {
                Some((stage, StageActor::Stage))
            } else if slot
                .verifier
                .as_ref()
                .is_some_and(|actor| actor.get_id() == id)
            {
                Some((stage, StageActor::Verifier))
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

/// Whether an engine loaded for `a` can serve `b`.
fn same_engine(a: &StageAssignment, b: &StageAssignment) -> bool {
    (a.layers, &a.model, &a.engine, a.stage + 1 == a.n_stages)
        == (b.layers, &b.model, &b.engine, b.stage + 1 == b.n_stages)
}
