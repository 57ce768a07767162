//! Where what arrives at a node is decoded and handed to the actor that it is for.
//!
//! Actors restart, so their references change: the Supervisor enters each living one here, and a
//! link only ever calls [`Inbox::deliver`], from any thread, without waiting.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ractor::ActorRef;

use crate::NodeId;
use crate::codec;
use crate::drafter::DrafterMessage;
use crate::link::{Link, send_report};
use crate::message::{Message, NodeCommand, NodeReport};
use crate::planner::PlannerMessage;
use crate::stage::Entrance;

/// The entrance of a node.
#[derive(Clone)]
pub struct Inbox {
    node: NodeId,
    link: Arc<dyn Link>,
    routes: Arc<RwLock<Routes>>,
}

/// Gives a command to the Supervisor, whose messages are known to nobody else. Whether it lives.
type TakeCommand = Box<dyn Fn(NodeCommand) -> bool + Send + Sync>;

/// The living actors of a node.
#[derive(Default)]
struct Routes {
    supervisor: Option<TakeCommand>,
    planner: Option<ActorRef<PlannerMessage>>,
    stages: HashMap<u32, Arc<Entrance>>,
    drafter: Option<ActorRef<DrafterMessage>>,
}

impl Inbox {
    /// An entrance without actors; `link` carries the complaints about frames that cannot be read.
    pub fn new(node: NodeId, link: Arc<dyn Link>) -> Self {
        Self {
            node,
            link,
            routes: Arc::default(),
        }
    }

    /// Decodes a frame and hands it on. Frames that nobody waits for are dropped: the Planner's
    /// deadline notices. Frames that cannot be read are reported to the Planner, which replays.
    pub fn deliver(&self, frame: &[u8]) {
        let message = match codec::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(node = %self.node, %error, "unreadable frame");
                let fault = NodeReport::StepFault {
                    epoch: None,
                    node: self.node.clone(),
                    what: format!("unreadable frame: {error}"),
                };
                return send_report(self.link.as_ref(), fault);
            }
        };
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let delivered = match message {
            Message::Step(step) => {
                let stage = routes.stages.get(&step.header.stage);
                stage.is_some_and(|stage| stage.take(step))
            }
            Message::Cancel(cancel) => {
                let stages = routes.stages.values();
                // All of them have to hear it.
                stages.filter(|stage| stage.cancel(cancel)).count() > 0
            }
            Message::Draft(request) => {
                let drafter = routes.drafter.as_ref();
                drafter.is_some_and(|drafter| drafter.cast(DrafterMessage(request)).is_ok())
            }
            Message::Drafted(reply) => {
                let planner = routes.planner.as_ref();
                planner.is_some_and(|p| p.cast(PlannerMessage::Drafted(reply)).is_ok())
            }
            Message::Command(command) => {
                let supervisor = routes.supervisor.as_ref();
                supervisor.is_some_and(|take| take(command))
            }
            Message::Report(report) => {
                let planner = routes.planner.as_ref();
                planner.is_some_and(|p| p.cast(PlannerMessage::Report(report)).is_ok())
            }
            Message::Node(report) => {
                let planner = routes.planner.as_ref();
                planner.is_some_and(|p| p.cast(PlannerMessage::Node(report)).is_ok())
            }
        };
        if !delivered {
            tracing::debug!(node = %self.node, "dropped a frame: no actor of this node takes it");
        }
    }

    pub(crate) fn set_supervisor(&self, take: TakeCommand) {
        self.write().supervisor = Some(take);
    }

    pub(crate) fn set_planner(&self, planner: Option<ActorRef<PlannerMessage>>) {
        self.write().planner = planner;
    }

    pub(crate) fn set_stage(&self, stage: u32, entrance: Option<Arc<Entrance>>) {
        let mut routes = self.write();
        match entrance {
            Some(entrance) => routes.stages.insert(stage, entrance),
            None => routes.stages.remove(&stage),
        };
    }

    pub(crate) fn set_drafter(&self, drafter: Option<ActorRef<DrafterMessage>>) {
        self.write().drafter = drafter;
    }

    /// The living Planner, if this node is the head.
    pub fn planner(&self) -> Option<ActorRef<PlannerMessage>> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .planner
            .clone()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Routes> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }
}
