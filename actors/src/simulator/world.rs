//! A run: the Planner, the servers and the clients, from event to event.

use jupiter_models::LayerRange;

use super::clients::{Clients, Guesses};
use super::error::SimulationError;
use super::events::{Event, Events};
use super::outcome::{Outcome, StageOutcome};
use super::servers::{Computed, ServerStats, Servers};
use super::verifier::SimVerifier;
use super::workload::{NS_PER_S, SimRequest};
use crate::link::Address;
use crate::message::{Message, NodeReport};
use crate::planner::offline::OfflinePlanner;
use crate::planner::{ClusterPhase, PlannerConfig, PlannerMessage};
use crate::planning::profile::Cluster;
use crate::{NodeId, PlanEpoch};

/// Ticks with nothing else to come after which a scheduler with work stands still: ten minutes, which
/// is longer than any of its deadlines.
const MOST_IDLE_TICKS: u64 = 600_000_000_000 / OfflinePlanner::TICK_NS;

/// Ticks without any other event after which clients look whether they were given up: a second.
const TICKS_TO_LOOK: u64 = 1_000_000_000 / OfflinePlanner::TICK_NS;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The devices and links; the Planner sits on one of them, or its place is known.
    pub cluster: Cluster,
    /// The Planner's configuration.
    pub planner: PlannerConfig,
    /// What is asked, in the order of arrival.
    pub requests: Vec<SimRequest>,
    /// How tokens are guessed ahead, if they are.
    pub guesses: Option<Guesses>,
    /// Whether steps are kept for a picture.
    pub traces: bool,
}

/// A scenario whose stages are placed and ready.
pub struct Simulation<'a> {
    pub(super) scenario: &'a Scenario,
    planner: OfflinePlanner,
    pub(super) events: Events,
    pub(super) servers: Servers<'a>,
    pub(super) verifier: SimVerifier,
    clients: Clients<'a>,
    pub(super) now_ns: u64,
    /// When the Planner looks at its deadlines next.
    tick_ns: u64,
    /// How often it did since something else happened.
    n_idle_ticks: u64,
    n_asked: usize,
}

impl<'a> Simulation<'a> {
    /// Lets the nodes join and the Planner place its stages.
    ///
    /// # Errors
    /// [`SimulationError::Cluster`] when the Planner finds no place for the model;
    /// [`SimulationError::TooSlow`] when it would wait for no step as long as that takes;
    /// [`SimulationError::BadValue`] without requests.
    pub fn new(scenario: &'a Scenario) -> Result<Self, SimulationError> {
        if scenario.requests.is_empty() {
            return Err(SimulationError::BadValue {
                field: "the number of requests",
                got: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        let none = (1, 1);
        let mut simulation = Self {
            scenario,
            planner: OfflinePlanner::new(scenario.planner.clone()),
            events: Events::default(),
            servers: Servers::new(
                &scenario.cluster,
                Vec::new(),
                PlanEpoch::default(),
                none,
                ServerStats::default(),
            ),
            verifier: SimVerifier::default(),
            clients: Clients::new(&scenario.requests, scenario.guesses),
            now_ns: 0,
            tick_ns: OfflinePlanner::TICK_NS,
            n_idle_ticks: 0,
            n_asked: 0,
        };
        simulation.join();
        if scenario.traces {
            simulation.planner.take_trace(0);
        }
        match simulation.planner.status().phase {
            ClusterPhase::Running => simulation.check_patience().map(|()| simulation),
            ClusterPhase::Failed(why) => Err(SimulationError::Cluster(why)),
            ClusterPhase::Waiting | ClusterPhase::Loading => Err(SimulationError::Cluster(
                "the stages are not ready: please report it with this command".to_owned(),
            )),
        }
    }

    /// Where the stages are: devices of the cluster, and their layers.
    pub fn stages(&self) -> Vec<(usize, LayerRange)> {
        let cluster = &self.scenario.cluster;
        let device = |node: &NodeId| cluster.devices().iter().position(|d| d.node == *node);
        let stages = self.planner.status().stages;
        let place = |stage: &crate::planner::StageStatus| {
            device(&stage.node).map(|device| (device, stage.layers))
        };
        stages.iter().filter_map(place).collect()
    }

    /// Runs until every request is answered.
    ///
    /// # Errors
    /// [`SimulationError::StandsStill`] when nothing happens although somebody waits: a fault of
    /// the scheduler.
    pub fn run(mut self) -> Result<Outcome, SimulationError> {
        self.ask_next();
        let mut last_ns = 0;
        while self.clients.n_unanswered > 0 {
            let n_before = self.clients.n_unanswered;
            self.happen()?;
            if self.clients.n_unanswered < n_before {
                last_ns = self.now_ns;
            }
        }
        Ok(self.outcome(last_ns))
    }

    /// What happens next: an event, or the Planner looks at its deadlines.
    fn happen(&mut self) -> Result<(), SimulationError> {
        let is_event = self.events.next_ns().is_some_and(|at| at <= self.tick_ns);
        if is_event && let Some((now_ns, event)) = self.events.next() {
            self.now_ns = now_ns;
            self.n_idle_ticks = 0;
            self.handle(event);
            return Ok(());
        }
        self.now_ns = self.tick_ns;
        self.n_idle_ticks += 1;
        // Whatever is still on its way, a late request or a step on a slow link, is life.
        if self.n_idle_ticks > MOST_IDLE_TICKS && self.events.next_ns().is_none() {
            let seconds = self.now_ns as f64 / NS_PER_S;
            return Err(SimulationError::StandsStill { seconds });
        }
        self.tick();
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Asked { request } => {
                if let Some(asked) = self.clients.ask(request) {
                    self.tell(asked);
                }
                self.hear(request);
                self.ask_next();
            }
            Event::Begun { epoch } if epoch == self.servers.epoch => {
                self.servers.begin(self.now_ns, &mut self.events);
            }
            Event::Computed { epoch } if epoch == self.servers.epoch => {
                while let Some(computed) = self.servers.take_computed(self.now_ns) {
                    self.verify(computed);
                }
            }
            Event::Cancelled { stage, cancel } if cancel.epoch == self.servers.epoch => {
                let (now_ns, events) = (self.now_ns, &mut self.events);
                self.servers.cancel(stage, cancel, now_ns, events);
            }
            // Of an epoch that is over.
            Event::Begun { .. } | Event::Computed { .. } | Event::Cancelled { .. } => {}
            Event::Reported { report, streams } => {
                self.tell(PlannerMessage::Report(*report));
                streams.into_iter().for_each(|stream| self.hear(stream));
            }
        }
    }

    fn tick(&mut self) {
        self.tell(PlannerMessage::Tick);
        // Only what no step tells: requests that were given up.
        if self.n_idle_ticks % TICKS_TO_LOOK == TICKS_TO_LOOK - 1 {
            let waiting = self.clients.waiting();
            waiting.into_iter().for_each(|stream| self.hear(stream));
        }
        // Nobody waits for anything: the next that matters is the last tick before something happens.
        let idle_until_ns = match self.clients.are_silent() {
            true => self.events.next_ns().unwrap_or(0),
            false => 0,
        };
        let last_ns = idle_until_ns - idle_until_ns % OfflinePlanner::TICK_NS;
        self.tick_ns = last_ns.max(self.now_ns + OfflinePlanner::TICK_NS);
    }

    fn ask_next(&mut self) {
        if let Some(next) = self.scenario.requests.get(self.n_asked) {
            let request = self.n_asked;
            self.n_asked += 1;
            self.events.at(next.arrives_ns, Event::Asked { request });
        }
    }

    /// Hears what the Planner told a client, who may answer at once.
    fn hear(&mut self, stream: usize) {
        for heard in [stream, self.clients.request_of(stream)] {
            while let Some(answer) = self.clients.hear(heard, self.now_ns) {
                self.tell(answer);
            }
        }
    }

    /// The Verifier judges what the last stage computed, and tells the Planner.
    fn verify(&mut self, computed: Computed) {
        let epoch = self.servers.epoch;
        let back_ns = computed.ended_ns + self.servers.costs().return_ns();
        match self.verifier.verify(computed.header) {
            Ok((report, streams)) => {
                let report = Box::new(report);
                self.events.at(back_ns, Event::Reported { report, streams });
            }
            Err(error) => {
                let fault = NodeReport::StepFault {
                    epoch: Some(epoch),
                    node: self.scenario.planner.head.clone(),
                    what: error.to_string(),
                };
                self.tell(PlannerMessage::Node(fault));
            }
        }
    }

    /// Tells the Planner, and takes what it sends to that.
    pub(super) fn tell(&mut self, message: PlannerMessage) {
        let mut messages = vec![message];
        while let Some(message) = messages.pop() {
            for (to, sent) in self.planner.handle(message, self.now_ns) {
                match (to, sent) {
                    (_, Message::Step(step)) => {
                        self.servers
                            .send(step.header, self.now_ns, &mut self.events);
                    }
                    (Address::Node(node), Message::Cancel(cancel)) => {
                        self.cancel(&node, cancel);
                    }
                    (Address::Node(node), Message::Command(command)) => {
                        messages.extend(self.load(&node, command));
                    }
                    // No draft model is simulated.
                    _ => {}
                }
            }
        }
    }

    fn outcome(mut self, elapsed_ns: u64) -> Outcome {
        let status = self.planner.status();
        let stats = self.servers.take_stats(self.now_ns);
        let busy_ns = stats.busy_ns.iter().copied().chain(std::iter::repeat(0));
        let stage = |(stage, busy_ns): (&crate::planner::StageStatus, u64)| StageOutcome {
            node: stage.node.clone(),
            layers: stage.layers,
            busy_ns,
        };
        self.clients.gaps_ns.sort_unstable();
        Outcome {
            stages: status.stages.iter().zip(busy_ns).map(stage).collect(),
            requests: self.clients.answered,
            gaps_ns: self.clients.gaps_ns,
            elapsed_ns,
            plan: status.plan,
            n_steps: status.steps.n_steps,
            n_rows: stats.n_rows,
            n_rows_in_vain: self.clients.n_rows_in_vain,
            most_cells: stats.most_cells,
            n_preempted: self.clients.n_preempted,
            n_cached: self.clients.n_cached,
            steps: match self.scenario.traces {
                true => self.planner.take_trace(self.now_ns),
                false => Vec::new(),
            },
        }
    }
}
