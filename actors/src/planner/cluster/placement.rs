//! Which node holds which layers. Pure functions.

use jupiter_models::LayerRange;
use jupiter_models::profile::ModelProfile;
use jupiter_models::split::{Weights, most_stages, split_by_weight};

use super::fleet::PlanGoal;
use crate::NodeId;
use crate::planning::cost::Work;
use crate::planning::placement::Objective;
use crate::planning::typical;

/// Rows of the chunk that stages are to take equally long for.
const CHUNK_ROWS: u32 = 128;

/// How a model is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitPolicy {
    /// One stage per node, as many as there are.
    PerNode,
    /// A fixed number of stages.
    Stages(u32),
    /// Given ranges, in order, covering the model.
    Ranges(Vec<LayerRange>),
    /// The best by what was measured of the nodes.
    Planned,
    /// A plan that was made before. While one of its nodes is missing, all that are there share
    /// the model evenly.
    Pinned(Vec<PlacedStage>),
}

/// One stage of a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedStage {
    /// Where it runs.
    pub node: NodeId,
    /// Its layers.
    pub layers: LayerRange,
}

/// Cuts the model into `n_stages` ranges for devices that nothing is known of and that count as
/// equal. All cuts take the same time once around then, so the best one by the objectives of plans
/// is the one whose slowest stage is the fastest, by what layers, embedding and head typically take.
///
/// # Errors
/// For no stage, or more stages than the model can be cut into.
pub fn split_evenly(
    model: &ModelProfile,
    goal: &PlanGoal,
    n_stages: u32,
) -> jupiter_models::Result<Vec<LayerRange>> {
    let load = &goal.load;
    let work = match goal.objective {
        // Of all chunks of a prompt only the last one has a row that wants logits.
        Objective::Ttft => Work::chunk(CHUNK_ROWS.min(load.prompt), load.prompt / 2),
        Objective::Tbt | Objective::Throughput => Work::decode(load.rows, load.context),
    };
    let layers = model.layers.iter();
    let weights = Weights {
        embedding: typical::embedding_ns(model.n_embd, work),
        layers: layers
            .map(|layer| typical::layer_ns(layer.weight_bytes, work))
            .collect(),
        head: typical::head_ns(model.head_bytes, work),
    };
    split_by_weight(&weights, n_stages, &model.cuts)
}

/// Places the stages on the nodes, in the order of both: consecutive stages on one node where
/// there are fewer nodes than stages; nodes beyond the number of stages stay spare.
///
/// The answer is empty when there is no node. Nothing is known of the nodes here: a planned or
/// pinned model is split as for [`SplitPolicy::PerNode`].
pub fn place(
    model: &ModelProfile,
    split: &SplitPolicy,
    goal: &PlanGoal,
    nodes: &[NodeId],
) -> Vec<PlacedStage> {
    if nodes.is_empty() || model.n_layer() == 0 {
        return Vec::new();
    }
    let per_node = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let evenly = |n: u32| {
        let n = most_stages(&model.cuts, model.n_layer(), n);
        split_evenly(model, goal, n).unwrap_or_default()
    };
    let ranges = match split {
        SplitPolicy::PerNode | SplitPolicy::Planned | SplitPolicy::Pinned(_) => evenly(per_node),
        SplitPolicy::Stages(n) => evenly(*n),
        SplitPolicy::Ranges(ranges) => ranges.clone(),
    };
    let (n_stages, n_nodes) = (ranges.len(), nodes.len().min(ranges.len()));
    let node_of = |stage: usize| nodes[stage * n_nodes / n_stages].clone();
    let place = |(stage, layers)| PlacedStage {
        node: node_of(stage),
        layers,
    };
    ranges.into_iter().enumerate().map(place).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jupiter_models::architecture::Cuts;
    use jupiter_models::profile::LayerShape;

    use super::*;

    fn model(layer_bytes: &[u64], head_bytes: u64) -> ModelProfile {
        let layer = |&weight_bytes: &u64| LayerShape {
            class: 0,
            weight_bytes,
            kv_bytes_per_token: 1,
            state_bytes: 0,
        };
        ModelProfile {
            layers: layer_bytes.iter().map(layer).collect(),
            embedding_bytes: 0,
            head_bytes,
            tied_head: false,
            buffer_bytes: 0,
            n_embd: 1,
            bytes_per_value: 4.0,
            cuts: Default::default(),
        }
    }

    fn nodes(n: usize) -> Vec<NodeId> {
        (0..n).map(|i| NodeId(format!("n{i}"))).collect()
    }

    fn goal(objective: Objective) -> PlanGoal {
        PlanGoal::new(objective, 4096, 4)
    }

    fn check(
        model: &ModelProfile,
        split: SplitPolicy,
        n_nodes: usize,
        expected: &[(&str, u32, u32)],
    ) {
        let placed = place(model, &split, &goal(Objective::Ttft), &nodes(n_nodes));
        let placed: Vec<_> = placed
            .iter()
            .map(|s| (s.node.0.as_str(), s.layers.start, s.layers.end))
            .collect();
        assert_eq!(placed, expected);
    }

    #[test]
    fn stages_are_even_in_what_their_layers_take() {
        let m = model(&[10_000_000; 6], 0);
        check(&m, SplitPolicy::Stages(2), 2, &[("n0", 0, 3), ("n1", 3, 6)]);
        check(
            &m,
            SplitPolicy::PerNode,
            3,
            &[("n0", 0, 2), ("n1", 2, 4), ("n2", 4, 6)],
        );
        check(
            &m,
            SplitPolicy::PerNode,
            9,
            &[
                ("n0", 0, 1),
                ("n1", 1, 2),
                ("n2", 2, 3),
                ("n3", 3, 4),
                ("n4", 4, 5),
                ("n5", 5, 6),
            ],
        );
    }

    #[test]
    fn the_head_weighs_on_the_last_stage_as_often_as_rows_need_it() {
        let m = model(&[10_000_000; 30], 160_000_000);
        let first = |objective| {
            let ranges = split_evenly(&m, &goal(objective), 2).unwrap();
            ranges[0].len()
        };
        // A prompt's chunks pass it by; every row of a decode step wants logits.
        assert_eq!(first(Objective::Ttft), 15);
        assert_eq!(first(Objective::Tbt), 23);
        assert_eq!(first(Objective::Throughput), 23);
    }

    #[test]
    fn a_model_with_rules_is_cut_into_fewer_stages_where_it_must() {
        let cuts = Cuts {
            step: 4,
            ..Cuts::default()
        };
        let m = ModelProfile {
            cuts,
            ..model(&[10_000_000; 10], 0)
        };
        check(
            &m,
            SplitPolicy::PerNode,
            9,
            &[("n0", 0, 4), ("n1", 4, 8), ("n2", 8, 10)],
        );
        let whole = ModelProfile {
            cuts: Cuts::never("it is one".into()),
            ..m
        };
        check(&whole, SplitPolicy::Planned, 3, &[("n0", 0, 10)]);
    }

    #[test]
    fn fewer_nodes_hold_consecutive_stages_and_more_stay_spare() {
        let m = model(&[10_000_000; 4], 0);
        check(
            &m,
            SplitPolicy::Stages(4),
            2,
            &[("n0", 0, 1), ("n0", 1, 2), ("n1", 2, 3), ("n1", 3, 4)],
        );
        let ranges = vec![LayerRange::new(0, 3), LayerRange::new(3, 4)];
        check(
            &m,
            SplitPolicy::Ranges(ranges),
            3,
            &[("n0", 0, 3), ("n1", 3, 4)],
        );
        check(&m, SplitPolicy::Stages(2), 0, &[]);
    }
}
