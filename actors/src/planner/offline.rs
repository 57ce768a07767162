//! A Planner on somebody else's clock: the state machine of [`super::Planner`] without actor and link.
//! The simulator drives it; nothing else of the Planner is known there.

use std::time::{Duration, Instant};

use super::core::PlannerCore;
use super::{ClusterStatus, PlannerConfig, PlannerMessage, StepTrace, TICK};
use crate::link::Address;
use crate::message::Message;

/// A Planner whose time is told, in nanoseconds since it began.
pub(crate) struct OfflinePlanner {
    core: PlannerCore,
    began: Instant,
}

impl OfflinePlanner {
    /// How often it wants to be told of the time, in nanoseconds.
    pub(crate) const TICK_NS: u64 = TICK.as_nanos() as u64;

    pub(crate) fn new(config: PlannerConfig) -> Self {
        let began = Instant::now();
        Self {
            core: PlannerCore::new(config, began),
            began,
        }
    }

    /// Feeds an event to the state machine; gives what it sends. Clients hear at once.
    pub(crate) fn handle(
        &mut self,
        message: PlannerMessage,
        now_ns: u64,
    ) -> Vec<(Address, Message)> {
        let (core, now) = (&mut self.core, self.began + Duration::from_nanos(now_ns));
        match message {
            PlannerMessage::Generate(request, sink) => core.generate(request, sink, now),
            PlannerMessage::Cancel(request) => core.cancel(request, now),
            PlannerMessage::Finish(request) => core.finish(request, now),
            PlannerMessage::Measured(profile) => core.measured(*profile),
            PlannerMessage::NodeUp(node) => core.node_up(node, now),
            PlannerMessage::NodeDown(node) => core.node_down(&node, now),
            PlannerMessage::Report(report) => core.report(report, now),
            PlannerMessage::Drafted(reply) => core.drafted(&reply, now),
            PlannerMessage::Node(report) => core.node_report(report, now),
            PlannerMessage::Tick => core.tick(now),
            // Nobody can wait for a reply here: these have functions of their own.
            PlannerMessage::Status(_) | PlannerMessage::Trace { .. } => {}
        }
        let sent = core.take_outbox();
        core.tell_clients();
        sent
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        self.core.status()
    }

    /// The steps that were kept so far; later ones are kept, on a clock that was 0 when this began.
    pub(crate) fn take_trace(&mut self, now_ns: u64) -> Vec<StepTrace> {
        let now = self.began + Duration::from_nanos(now_ns);
        self.core.take_trace(Some(now_ns / 1000), now)
    }
}
