//! Where the stages should be, given the nodes there are and what was measured of them.

use std::sync::Arc;

use jupiter_models::LayerRange;

use super::Cluster;
use super::fleet::MeasuredPlan;
use super::placement::{PlacedStage, SplitPolicy, place};
use crate::NodeId;
use crate::planner::PlannerConfig;
use crate::planning::PlanError;

/// Where the stages should be.
#[derive(Clone)]
pub(super) struct Target {
    /// Empty when there is no place for them (yet).
    pub(super) stages: Vec<PlacedStage>,
    /// What they will need by what was measured, where that is known of all their nodes.
    pub(super) plan: Option<Arc<MeasuredPlan>>,
    /// The share of the time that it saves; none for stages that were not chosen by their figures,
    /// and for those in force.
    pub(super) gain: Option<f64>,
    /// Why there is no plan, where more nodes or less demand would help.
    pub(super) why_not: Option<String>,
}

impl Cluster {
    /// Looks where the stages should be. Where they are there already, what is newly known of them or of
    /// other nodes is the plan in force.
    pub(in crate::planner) fn aim(&mut self, config: &PlannerConfig) {
        let plan = self.target(config).plan.clone();
        let is_in_force = plan.as_ref().map(Arc::as_ptr) == self.plan.as_ref().map(Arc::as_ptr);
        if self.is_on_target() && plan.is_some() && !is_in_force {
            self.plan = plan;
            self.fleet.begin_plan();
        }
    }

    /// Whether the stages are where they should be, by what was known at the last look.
    pub(in crate::planner) fn is_on_target(&self) -> bool {
        let target = self.target.as_ref();
        target.is_some_and(|target| target.stages == self.stages)
    }

    /// Where the stages should be.
    pub(super) fn target(&mut self, config: &PlannerConfig) -> &Target {
        let target = self
            .target
            .take()
            .unwrap_or_else(|| self.new_target(config));
        self.target.insert(target)
    }

    fn new_target(&self, config: &PlannerConfig) -> Target {
        match &config.split {
            SplitPolicy::Planned => self.planned(config),
            SplitPolicy::Pinned(stages) if stages.iter().all(|s| self.nodes.contains(&s.node)) => {
                self.fixed(stages.clone())
            }
            // Nothing is known yet of how it runs: the plan that was asked for comes first.
            SplitPolicy::Pinned(stages) if !self.has_run => {
                let missing = |stage: &&PlacedStage| !self.nodes.contains(&stage.node);
                let missing: Vec<String> = stages
                    .iter()
                    .filter(missing)
                    .map(|stage| stage.node.to_string())
                    .collect();
                Target {
                    stages: Vec::new(),
                    plan: None,
                    gain: None,
                    why_not: Some(format!(
                        "the plan needs node {}: start it with `jupiter worker --node NAME`, or \
                         plan again",
                        missing.join(", ")
                    )),
                }
            }
            split => {
                let nodes: Vec<NodeId> = self.nodes.iter().cloned().collect();
                self.fixed(place(&config.model_profile, split, &config.goal, &nodes))
            }
        }
    }

    /// Stages that were chosen elsewhere.
    fn fixed(&self, stages: Vec<PlacedStage>) -> Target {
        Target {
            plan: self.fleet.judge(&stages, &self.nodes).map(Arc::new),
            stages,
            gain: None,
            why_not: None,
        }
    }

    /// The whole model on the only node that is there.
    fn whole(&self, config: &PlannerConfig) -> Option<Target> {
        let mut nodes = self.nodes.iter();
        let (Some(node), None) = (nodes.next(), nodes.next()) else {
            return None;
        };
        Some(self.fixed(vec![PlacedStage {
            node: node.clone(),
            layers: LayerRange::new(0, config.model_profile.n_layer()),
        }]))
    }

    /// The best plan; the one in force, if it still stands and the best is hardly better.
    fn planned(&self, config: &PlannerConfig) -> Target {
        let best = match self.fleet.best(&self.nodes) {
            Ok(best) => best,
            Err(error) => {
                // There is nothing to choose, and nothing to cut.
                if error == PlanError::NoDevice
                    && let Some(whole) = self.whole(config)
                {
                    return whole;
                }
                return Target {
                    stages: Vec::new(),
                    plan: None,
                    gain: None,
                    why_not: (!self.nodes.is_empty()).then(|| match error {
                        PlanError::NoDevice => "no node could be measured: the log says why; \
                                                --plan even goes without"
                            .to_owned(),
                        error => error.to_string(),
                    }),
                };
            }
        };
        let stands = !self.stages.is_empty()
            && self.stages.iter().all(|s| self.nodes.contains(&s.node))
            && self.fleet.holds(&self.stages);
        let old = stands.then(|| self.fleet.judge(&self.stages, &self.nodes));
        let old = old.flatten();
        let gain = old.as_ref().and_then(|old| self.fleet.gain(old, &best));
        if let (Some(old), None) = (old, gain) {
            let old = MeasuredPlan {
                excluded: best.excluded.clone(),
                alone: best.alone.clone(),
                ..old
            };
            return Target {
                stages: self.stages.clone(),
                plan: Some(Arc::new(old)),
                gain: None,
                why_not: None,
            };
        }
        let stage = |&(device, layers): &(usize, _)| PlacedStage {
            node: best.cluster.devices()[device].node.clone(),
            layers,
        };
        Target {
            stages: best.stages.iter().map(stage).collect(),
            plan: Some(Arc::new(best)),
            gain,
            why_not: None,
        }
    }
}
