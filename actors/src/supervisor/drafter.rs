//! The Drafter of a node: the one child that is never started again.

use ractor::{Actor, ActorCell, ActorRef, SpawnErr};

use super::{STOP_TIMEOUT, SupervisorMessage, SupervisorState};
use crate::PlanEpoch;
use crate::drafter::{Drafter, DrafterArgs, DrafterMessage};
use crate::link::send_report;
use crate::message::{DraftKind, DrafterAssignment, NodeReport};

impl SupervisorState {
    /// Makes the node hold just this draft model. One that failed is not started again.
    pub(super) async fn assign_drafter(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        epoch: PlanEpoch,
        wanted: Option<DrafterAssignment>,
    ) {
        let held = self.drafter.as_ref().map(|(assignment, _)| assignment);
        if epoch < self.epoch {
            return;
        }
        if held == wanted.as_ref() {
            return self.report_drafter_ready();
        }
        self.args.inbox.set_drafter(None);
        if let Some((_, Some(actor))) = self.drafter.take() {
            let _ = actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        let Some(assignment) = wanted else { return };
        let args = DrafterArgs {
            link: self.args.link.clone(),
            factory: self.args.factory.clone(),
            assignment: assignment.clone(),
            guard: self.guard.clone(),
        };
        let spawned = Actor::spawn_linked(None, Drafter, args, myself.get_cell()).await;
        let living = match spawned {
            Ok((actor, _)) => Some(actor),
            Err(SpawnErr::StartupFailed(why)) => {
                self.report_drafter_down(why.to_string());
                None
            }
            Err(error) => {
                self.report_drafter_down(error.to_string());
                None
            }
        };
        self.args.inbox.set_drafter(living.clone());
        self.drafter = Some((assignment, living));
        self.report_drafter_ready();
    }

    fn report_drafter_ready(&self) {
        if let Some((_, Some(_))) = &self.drafter {
            let (epoch, node) = (self.epoch, self.args.node.clone());
            send_report(
                self.args.link.as_ref(),
                NodeReport::DrafterReady { epoch, node },
            );
        }
    }

    fn report_drafter_down(&self, why: String) {
        let down = NodeReport::DraftsDown {
            node: self.args.node.clone(),
            source: DraftKind::Model,
            why,
        };
        send_report(self.args.link.as_ref(), down);
    }

    /// Whether it was the Drafter that ended.
    pub(super) fn drafter_ended(&mut self, cell: &ActorCell, why: &str) -> bool {
        let Some((_, living)) = &mut self.drafter else {
            return false;
        };
        let is_it = |actor: &ActorRef<DrafterMessage>| actor.get_id() == cell.get_id();
        if !living.as_ref().is_some_and(is_it) {
            return false;
        }
        *living = None;
        self.args.inbox.set_drafter(None);
        self.report_drafter_down(why.to_owned());
        true
    }
}
