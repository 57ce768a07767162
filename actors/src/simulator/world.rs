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
use crate::message::{Message, NodeCommand, NodeReport, StageAssignment};
use crate::planner::offline::OfflinePlanner;
use crate::planner::{ClusterPhase, NodeProfile, PlannerConfig, PlannerMessage};
use crate::planning::memory::StageMemory;
use crate::planning::memory::show;
use crate::planning::profile::{Cluster, LinkProfile};
use crate::{NodeId, PlanEpoch};

/// Ticks without any other event after which a scheduler with work stands still: ten minutes, which
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
    scenario: &'a Scenario,
    planner: OfflinePlanner,
    events: Events,
    servers: Servers<'a>,
    verifier: SimVerifier,
    clients: Clients<'a>,
    now_ns: u64,
    n_idle_ticks: u64,
    n_asked: usize,
}

impl<'a> Simulation<'a> {
    /// Lets the nodes join and the Planner place its stages.
    ///
    /// # Errors
    /// [`SimulationError::Cluster`] when the Planner finds no place for the model;
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
            n_idle_ticks: 0,
            n_asked: 0,
        };
        simulation.join();
        if scenario.traces {
            simulation.planner.take_trace(0);
        }
        match simulation.planner.status().phase {
            ClusterPhase::Running => Ok(simulation),
            ClusterPhase::Failed(why) => Err(SimulationError::Cluster(why)),
            ClusterPhase::Waiting | ClusterPhase::Loading => Err(SimulationError::Cluster(
                "the stages are not ready: please report it with this command".to_owned(),
            )),
        }
    }

    /// All nodes are measured, then they come, the head first.
    fn join(&mut self) {
        let cluster = &self.scenario.cluster;
        let head = self.scenario.planner.head.clone();
        let mut nodes: Vec<NodeId> = Vec::new();
        for (at, device) in cluster.devices().iter().enumerate() {
            let links = (0..cluster.devices().len()).filter_map(|to| cluster.link_between(at, to));
            let profile = NodeProfile {
                device: Some(device.clone()),
                links: links.chain(head_links(cluster, &head, at)).collect(),
            };
            self.tell(PlannerMessage::Measured(Box::new(profile)));
            nodes.push(device.node.clone());
        }
        for node in nodes {
            self.tell(PlannerMessage::NodeUp(node));
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

    /// About how many times a stage will begin a step, at most: what a run takes grows with it.
    pub fn n_begins(&self) -> u64 {
        let chunk = u64::from(self.scenario.planner.chunk.max(1));
        let steps = self.scenario.requests.iter().map(|request| {
            let points = request.points.map_or(0, |points| {
                u64::from(points.n_points) * u64::from(points.n_predict + 1)
            });
            u64::from(request.n_prompt).div_ceil(chunk) + u64::from(request.n_predict) + points
        });
        let n_stages = self.stages().len() as u64;
        steps.sum::<u64>().saturating_mul(n_stages)
    }

    /// Runs until every request is answered.
    ///
    /// # Errors
    /// [`SimulationError::StandsStill`] when nothing happens although somebody waits: a fault of
    /// the scheduler.
    pub fn run(mut self) -> Result<Outcome, SimulationError> {
        self.ask_next();
        self.events.at(OfflinePlanner::TICK_NS, Event::Tick);
        let mut last_ns = 0;
        while self.clients.n_unanswered > 0 {
            let Some((now_ns, event)) = self.events.next() else {
                return Err(self.stands_still());
            };
            self.now_ns = now_ns;
            let n_before = self.clients.n_unanswered;
            self.handle(event)?;
            if self.clients.n_unanswered < n_before {
                last_ns = now_ns;
            }
        }
        Ok(self.outcome(last_ns))
    }

    fn stands_still(&self) -> SimulationError {
        SimulationError::StandsStill {
            seconds: self.now_ns as f64 / NS_PER_S,
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), SimulationError> {
        let is_tick = matches!(event, Event::Tick);
        self.n_idle_ticks = if is_tick { self.n_idle_ticks + 1 } else { 0 };
        match event {
            Event::Asked { request } => {
                if let Some(asked) = self.clients.ask(request) {
                    self.tell(asked);
                }
                self.hear(request);
                self.ask_next();
            }
            Event::Moved { epoch, what } if epoch == self.servers.epoch => {
                let moved = self.servers.advance(what, self.now_ns, &mut self.events);
                if let Some(computed) = moved {
                    self.verify(computed);
                }
            }
            Event::Moved { .. } => {}
            Event::Cancelled { stage, cancel } if cancel.epoch == self.servers.epoch => {
                self.servers.cancel(stage, cancel);
            }
            Event::Cancelled { .. } => {}
            Event::Reported { report, streams } => {
                self.tell(PlannerMessage::Report(*report));
                streams.into_iter().for_each(|stream| self.hear(stream));
            }
            Event::Tick => self.tick()?,
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SimulationError> {
        let is_idle =
            self.n_idle_ticks > MOST_IDLE_TICKS && self.n_asked == self.clients.answered.len();
        if is_idle {
            return Err(self.stands_still());
        }
        self.tell(PlannerMessage::Tick);
        // Only what no step tells: requests that were given up.
        if self.n_idle_ticks % TICKS_TO_LOOK == TICKS_TO_LOOK - 1 {
            let waiting = self.clients.waiting();
            waiting.into_iter().for_each(|stream| self.hear(stream));
        }
        self.events
            .at(self.now_ns + OfflinePlanner::TICK_NS, Event::Tick);
        Ok(())
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
    fn tell(&mut self, message: PlannerMessage) {
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

    fn cancel(&mut self, node: &NodeId, cancel: crate::message::CancelRows) {
        let cluster = &self.scenario.cluster;
        for (stage, (device, _)) in self.servers.costs().stages().iter().enumerate() {
            if cluster.devices()[*device].node == *node {
                let way_ns = cluster.head().map_or(0, |head| head.to_ns[*device]);
                let heard = Event::Cancelled { stage, cancel };
                self.events.at(self.now_ns + way_ns, heard);
            }
        }
    }

    /// A node loads its stages, at once, if it has the memory for them.
    fn load(&mut self, node: &NodeId, command: NodeCommand) -> Vec<PlannerMessage> {
        let NodeCommand::Assign { epoch, stages, .. } = command;
        if epoch != self.servers.epoch {
            let engine = &self.scenario.planner.engine;
            let stats = std::mem::take(&mut self.servers.stats);
            self.servers = Servers::new(
                &self.scenario.cluster,
                self.stages(),
                epoch,
                (engine.n_cells(), engine.n_seq_max),
                stats,
            );
            self.verifier.clear();
        }
        let report = |stage| PlannerMessage::Node(self.load_stage(node, epoch, stage));
        stages.iter().map(report).collect()
    }

    fn load_stage(&self, node: &NodeId, epoch: PlanEpoch, stage: &StageAssignment) -> NodeReport {
        let (cluster, demand) = (
            &self.scenario.cluster,
            self.scenario.planner.memory_demand(),
        );
        let needed = StageMemory::new(cluster.model(), &demand).bytes(stage.layers);
        let mut devices = cluster.devices().iter();
        let device = devices.find(|device| device.node == *node);
        let free = device.map_or(0, |device| device.free_memory_bytes);
        if needed > free {
            return NodeReport::StageDown {
                epoch,
                stage: stage.stage,
                node: node.clone(),
                why: format!(
                    "layers {} need {}, and {} are free: lower -c, or give it fewer layers",
                    stage.layers,
                    show(needed),
                    show(free)
                ),
                restarting: false,
            };
        }
        NodeReport::StageReady {
            epoch,
            stage: stage.stage,
            node: node.clone(),
            memory: demand.of_stage(cluster.model(), stage.layers),
        }
    }

    fn outcome(mut self, elapsed_ns: u64) -> Outcome {
        let status = self.planner.status();
        let stats = &self.servers.stats;
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

/// The links between a device and a head that is none.
fn head_links(cluster: &Cluster, head: &NodeId, device: usize) -> Vec<LinkProfile> {
    let node = &cluster.devices()[device].node;
    let is_device = cluster.devices().iter().any(|device| device.node == *head);
    let Some(ways) = cluster.head().filter(|_| !is_device) else {
        return Vec::new();
    };
    let link = |from: &NodeId, to: &NodeId, latency_ns: u64| LinkProfile {
        from: from.clone(),
        to: to.clone(),
        latency_ms: latency_ns as f64 / 1e6,
        // Only latency counts on the way from and to the Planner.
        bytes_per_ms: 1e6,
    };
    vec![
        link(head, node, ways.to_ns[device]),
        link(node, head, ways.from_ns[device]),
    ]
}
