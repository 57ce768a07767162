//! The nodes of a simulated cluster: they come, load their stages at once, and hear of dead rows.

use super::events::Event;
use super::servers::Servers;
use super::world::Simulation;
use crate::message::{CancelRows, NodeCommand, NodeReport, StageAssignment};
use crate::planner::{NodeProfile, PlannerMessage};
use crate::planning::memory::{StageMemory, show};
use crate::planning::profile::{Cluster, LinkProfile};
use crate::{NodeId, PlanEpoch};

impl Simulation<'_> {
    /// All nodes are measured, then they come, the head first.
    pub(super) fn join(&mut self) {
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

    /// A node hears after the way there that rows are dead.
    pub(super) fn cancel(&mut self, node: &NodeId, cancel: CancelRows) {
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
    pub(super) fn load(&mut self, node: &NodeId, command: NodeCommand) -> Vec<PlannerMessage> {
        let NodeCommand::Assign { epoch, stages, .. } = command;
        if epoch != self.servers.epoch {
            let engine = &self.scenario.planner.engine;
            let stats = self.servers.take_stats(self.now_ns);
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
