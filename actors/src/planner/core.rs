//! The Planner's state machine, without actors, clocks or sockets: events go in with the time,
//! messages come out. It outlives the actor, so a Planner that panics loses no token.
//!
//! It only dispatches; what it knows and decides is in its parts, each with its own rules:
//!
//! ```text
//! cluster   nodes, epochs, where the stages are and should be
//! queue     who is next                     kv        whose slots and cells
//! live      what is computed of whom        batching  which rows go next
//! flight    credits and deadlines           sources   who guesses
//! pace      how fast requests are served
//! ```

mod admission;
#[cfg(any(test, debug_assertions))]
mod conserved;
mod drafting;
mod epochs;
mod preemption;
mod report;
mod requests;
mod steps;
mod waiting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::PlannerConfig;
use super::batching::Batching;
use super::batching::chunking::Chunking;
use super::batching::policy::Scheduling;
use super::batching::step_times::StepTimes;
use super::cluster::Cluster;
use super::cluster::fleet::NodeProfile;
use super::drafting::Sources;
use super::flight::Flight;
use super::kv::Kv;
use super::lengths::Lengths;
use super::live::Live;
use super::pace::Pace;
use super::queue::Queue;
use super::trace::{StepTrace, Trace};
use crate::RequestId;
use crate::link::Address;
use crate::message::Message;
use crate::request::{EventSink, StreamEvent};

/// What the Planner knows and decides.
pub(super) struct PlannerCore {
    config: PlannerConfig,
    cluster: Cluster,
    queue: Queue,
    /// The sequences that have a slot.
    live: BTreeMap<RequestId, Live>,
    kv: Kv,
    /// The sequence that found no room, when so much had been given back: until there is more it finds none.
    no_room_for: Option<(RequestId, u64)>,
    lengths: Lengths,
    n_preempted: u64,
    batching: Batching,
    flight: Flight,
    pace: Pace,
    sources: Sources,
    trace: Trace,
    outbox: Vec<(Address, Message)>,
    /// What clients are to be told.
    news: Vec<(EventSink, StreamEvent)>,
}

impl PlannerCore {
    pub(super) fn new(config: PlannerConfig, now: Instant) -> Self {
        let timeout = Duration::from_millis(config.step_timeout_ms);
        Self {
            cluster: Cluster::new(&config, now),
            queue: Queue::default(),
            live: BTreeMap::new(),
            kv: Kv::new(&config),
            no_room_for: None,
            lengths: Lengths::new(config.engine.n_ctx, config.n_parallel),
            n_preempted: 0,
            batching: Batching {
                scheduling: Scheduling::of(&config),
                n_ctx: config.engine.n_ctx as usize,
                chunking: Chunking::equal(config.chunk),
                times: StepTimes::default(),
            },
            flight: Flight::new(timeout, now),
            pace: Pace::default(),
            sources: Sources::new(config.heads.as_ref()),
            trace: Trace::default(),
            outbox: Vec::new(),
            news: Vec::new(),
            config,
        }
    }

    /// What has to be sent since the last call.
    pub(super) fn take_outbox(&mut self) -> Vec<(Address, Message)> {
        #[cfg(any(test, debug_assertions))]
        self.assert_conserved();
        std::mem::take(&mut self.outbox)
    }

    /// Tells the clients what happened since the last call. Comes after the messages: it wakes threads,
    /// and stages are not to wait for them.
    pub(super) fn tell_clients(&mut self) {
        for (sink, event) in self.news.drain(..) {
            // A client that is gone needs no word of it.
            let _ = sink.send(event);
        }
    }

    pub(super) fn measured(&mut self, profile: NodeProfile) {
        self.cluster.measured(profile);
    }

    /// The steps that were kept so far; see [`Trace::take`].
    pub(super) fn take_trace(&mut self, unix_us: Option<u64>, now: Instant) -> Vec<StepTrace> {
        self.trace.take(unix_us, now)
    }

    /// Cells of the KV cache that hold something when the steps under way are computed.
    fn n_cells(&self) -> usize {
        self.kv.n_used() - self.n_cells_to_fill()
    }

    /// Those of the live sequences: what a move has to compute again.
    fn n_live_cells(&self) -> usize {
        self.kv.n_live().saturating_sub(self.n_cells_to_fill())
    }

    /// Cells of texts that no row was sent for.
    fn n_cells_to_fill(&self) -> usize {
        let to_fill = |live: &Live| {
            let n_filled = live.n_computed.max(live.n_shared);
            self.kv.len(live.seq).saturating_sub(n_filled)
        };
        self.live.values().map(to_fill).sum()
    }
}

#[cfg(test)]
pub(super) mod tests;
