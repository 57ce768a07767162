//! What was measured of the nodes, and the plans that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jupiter_models::LayerRange;
use jupiter_models::profile::ModelProfile;

use super::drift::{DeviceTimes, Drift};
use super::placement::PlacedStage;
use crate::NodeId;
use crate::message::StageTiming;
use crate::planner::PlannerConfig;
use crate::planning::cost::{CostTable, Pipeline, ServerTimes, Work};
use crate::planning::memory::{MemoryDemand, StageMemory};
use crate::planning::placement::figures::value;
use crate::planning::placement::{
    Alone, Excluded, Figures, Objective, PlanRequest, Workload, figures, plan,
};
use crate::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use crate::planning::{PlanError, Result};

/// A plan has to be better by this share before layers move: moving costs seconds, and what was
/// measured is true to some percent.
const MIN_GAIN: f64 = 0.10;

/// No device is taken for faster or slower than measured by more than this: plans refuse profiles that
/// no device can have.
const MAX_FACTOR: f64 = 64.0;

/// What a plan is to be good at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanGoal {
    /// What a plan is to be good at.
    pub objective: Objective,
    /// The work that it is to be good at it for.
    pub load: Workload,
}

/// Tokens of a usual prompt: a question with some context.
const USUAL_PROMPT: u32 = 512;

impl PlanGoal {
    /// For prompts of usual length, or half of `n_ctx` if that is less; for throughput with
    /// `n_parallel` answers at the same time.
    pub fn new(objective: Objective, n_ctx: u32, n_parallel: u32) -> Self {
        let prompt = USUAL_PROMPT.min(n_ctx / 2).max(1);
        let rows = match objective {
            Objective::Throughput => n_parallel,
            Objective::Ttft | Objective::Tbt => 1,
        };
        Self {
            objective,
            load: Workload {
                prompt,
                rows,
                context: prompt,
            },
        }
    }
}

/// A node as it was measured when it joined.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeProfile {
    /// The node itself; none for a head that computes nothing.
    pub device: Option<DeviceProfile>,
    /// Its links to and from nodes that were measured before.
    pub links: Vec<LinkProfile>,
}

/// The plan in force, with the measurements behind it.
#[derive(Clone, Debug)]
pub struct MeasuredPlan {
    /// Devices and links.
    pub cluster: Cluster,
    /// The stages: indices of devices of the cluster, and their layers.
    pub stages: Vec<(usize, LayerRange)>,
    /// What they will need.
    pub predicted: Figures,
    /// Devices without layers, with the reason; empty for a placement that was not chosen here.
    pub excluded: Vec<Excluded>,
    /// The device that would be best alone, if the model fits on one.
    pub alone: Option<Alone>,
    /// What steps cost.
    pub(super) costs: CostTable,
}

impl MeasuredPlan {
    fn new(cluster: Cluster, stages: Vec<(usize, LayerRange)>, predicted: Figures) -> Self {
        Self {
            costs: CostTable::new(&Pipeline::new(&cluster, &stages)),
            cluster,
            stages,
            predicted,
            excluded: Vec::new(),
            alone: None,
        }
    }

    /// The costs of its stages and links.
    pub fn pipeline(&self) -> Pipeline<'_> {
        Pipeline::new(&self.cluster, &self.stages)
    }

    /// What `work` takes at stages and links.
    pub(in crate::planner) fn times(&self, work: Work) -> ServerTimes<'_> {
        self.costs.times(&self.pipeline(), work)
    }
}

/// All that was measured.
pub(in crate::planner) struct Fleet {
    head: NodeId,
    model: ModelProfile,
    memory: MemoryDemand,
    goal: PlanGoal,
    devices: BTreeMap<NodeId, DeviceProfile>,
    links: BTreeMap<(NodeId, NodeId), LinkProfile>,
    /// How the devices of the plan in force do.
    drift: Drift,
}

impl Fleet {
    pub(in crate::planner) fn new(config: &PlannerConfig) -> Fleet {
        Fleet {
            head: config.head.clone(),
            model: config.model_profile.clone(),
            memory: config.memory_demand(),
            goal: config.goal,
            devices: BTreeMap::new(),
            links: BTreeMap::new(),
            drift: Drift::default(),
        }
    }

    /// Takes a node's measurements; they replace earlier ones.
    pub(in crate::planner) fn learn(&mut self, profile: NodeProfile) {
        if let Some(device) = profile.device {
            self.drift = Drift::default();
            self.devices.insert(device.node.clone(), device);
        }
        for link in profile.links {
            self.links
                .insert((link.from.clone(), link.to.clone()), link);
        }
    }

    /// The best plan for those of `nodes` that were measured.
    pub(in crate::planner) fn best(&self, nodes: &BTreeSet<NodeId>) -> Result<MeasuredPlan> {
        let cluster = self.cluster(nodes)?;
        let best = plan(&cluster, &self.request())?;
        Ok(MeasuredPlan {
            excluded: best.excluded.clone(),
            alone: best.alone.clone(),
            ..MeasuredPlan::new(cluster, best.stages(), best.predicted)
        })
    }

    /// What stages that were chosen elsewhere will need, if all their nodes were measured.
    pub(in crate::planner) fn judge(
        &self,
        stages: &[PlacedStage],
        nodes: &BTreeSet<NodeId>,
    ) -> Option<MeasuredPlan> {
        let cluster = self.cluster(nodes).ok()?;
        let device = |node: &NodeId| cluster.devices().iter().position(|d| d.node == *node);
        let stages = stages
            .iter()
            .map(|stage| Some((device(&stage.node)?, stage.layers)))
            .collect::<Option<Vec<_>>>()?;
        let predicted = figures::figures(&Pipeline::new(&cluster, &stages), &self.goal.load);
        Some(MeasuredPlan::new(cluster, stages, predicted))
    }

    /// Whether the nodes of these stages have the memory for them.
    pub(in crate::planner) fn holds(&self, stages: &[PlacedStage]) -> bool {
        let memory = StageMemory::new(&self.model, &self.memory);
        stages.iter().all(|stage| {
            let device = self.devices.get(&stage.node);
            device.is_some_and(|device| memory.bytes(stage.layers) <= device.free_memory_bytes)
        })
    }

    /// The share of the time that `new` saves where `old` is in force; none where it is not worth
    /// a move.
    pub(in crate::planner) fn gain(&self, old: &MeasuredPlan, new: &MeasuredPlan) -> Option<f64> {
        let main_ns = |plan: &MeasuredPlan| {
            value(&plan.pipeline(), self.goal.objective, &self.goal.load).main_ns as f64
        };
        let (old_ns, new_ns) = (main_ns(old), main_ns(new));
        (new_ns * (1.0 + MIN_GAIN) <= old_ns).then(|| 1.0 - new_ns / old_ns.max(1.0))
    }

    /// How long it takes `plan` to compute `n_tokens` again, in chunks of `chunk` rows, at the pace
    /// of its slowest server and with what the devices were seen to take.
    pub(in crate::planner) fn replay(
        &self,
        plan: &MeasuredPlan,
        n_tokens: usize,
        chunk: usize,
    ) -> Duration {
        let pipeline = plan.pipeline();
        let work = Work::chunk(chunk.max(1) as u32, 0).among(n_tokens as u32 / 2);
        let servers = (0..pipeline.n_servers()).map(|server| pipeline.server_ns(server, work));
        let n_chunks = n_tokens as f64 / chunk.max(1) as f64;
        let ns = servers.max().unwrap_or(0) as f64 * n_chunks * self.drift.shared();
        Duration::from_nanos(ns as u64)
    }

    /// Compares a step's timings with what the profiles say of it, and corrects the profile of a
    /// device that does differently from the others. True when one was corrected.
    pub(in crate::planner) fn observe(
        &mut self,
        plan: &MeasuredPlan,
        work: Work,
        timings: &[StageTiming],
    ) -> bool {
        // A node may have several stages.
        let mut took = vec![DeviceTimes::default(); plan.cluster.devices().len()];
        let predicted = plan.times(work);
        for timing in timings {
            let stage = timing.stage as usize;
            let Some(&(device, _)) = plan.stages.get(stage) else {
                return false;
            };
            let took = &mut took[device];
            took.busy_ns += timing.busy_us.saturating_mul(1000);
            took.predicted_ns += predicted.ns(2 * stage);
        }
        if timings.len() != plan.stages.len() {
            return false;
        }
        // Every stage takes some time: without that, a device has none.
        let has_stage = |took: &DeviceTimes| took.predicted_ns > 0;
        let devices: Vec<usize> = (0..took.len()).filter(|&at| has_stage(&took[at])).collect();
        took.retain(has_stage);
        let drifted = self.drift.observe(&took);
        for drifted in &drifted {
            let measured = &plan.cluster.devices()[devices[drifted.device]];
            let (node, factor) = (&measured.node, drifted.factor);
            if let Some(device) = self.devices.get_mut(node) {
                device.compute = measured.compute.clone();
                device
                    .compute
                    .scale(factor.clamp(1.0 / MAX_FACTOR, MAX_FACTOR));
                tracing::info!(%node, "runs at {:.0} % of its measured speed", 100.0 / factor);
            }
        }
        !drifted.is_empty()
    }

    /// A new plan is in force, made with the profiles as they are now.
    pub(in crate::planner) fn begin_plan(&mut self) {
        self.drift = Drift::default();
    }

    /// A device could not load what fitted by its profile: it has less memory than it said.
    pub(in crate::planner) fn shrink(&mut self, node: &NodeId, stage: LayerRange) {
        let memory = StageMemory::new(&self.model, &self.memory);
        if let Some(device) = self.devices.get_mut(node) {
            let too_much = memory.bytes(stage);
            device.free_memory_bytes = device
                .free_memory_bytes
                .min(too_much)
                .saturating_sub(1)
                .max(1);
        }
    }

    fn request(&self) -> PlanRequest {
        PlanRequest {
            objective: self.goal.objective,
            load: self.goal.load,
            memory: self.memory,
        }
    }

    fn cluster(&self, nodes: &BTreeSet<NodeId>) -> Result<Cluster> {
        let devices: Vec<DeviceProfile> = nodes
            .iter()
            .filter_map(|node| self.devices.get(node).cloned())
            .collect();
        if devices.is_empty() {
            return Err(PlanError::NoDevice);
        }
        let links: Vec<LinkProfile> = self.links.values().cloned().collect();
        Cluster::new(self.model.clone(), devices, &links, Some(self.head.clone()))
    }
}
