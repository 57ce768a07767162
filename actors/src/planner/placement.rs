//! Which node holds which layers. Pure functions.

use jupiter_models::LayerRange;
use jupiter_models::profile::ModelProfile;
use jupiter_models::split::split_evenly;

use crate::NodeId;

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

/// Places the stages on the nodes, in the order of both: consecutive stages on one node where
/// there are fewer nodes than stages; nodes beyond the number of stages stay spare.
///
/// The answer is empty when there is no node. Nothing is known of the nodes here: a planned or
/// pinned model is split as for [`SplitPolicy::PerNode`].
pub fn place(model: &ModelProfile, split: &SplitPolicy, nodes: &[NodeId]) -> Vec<PlacedStage> {
    if nodes.is_empty() || model.n_layer() == 0 {
        return Vec::new();
    }
    let per_node = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let evenly = |n: u32| split_evenly(model, n.clamp(1, model.n_layer())).unwrap_or_default();
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
mod tests {
    use jupiter_models::profile::LayerShape;

    use super::*;

    fn model(layer_bytes: &[u64], head_bytes: u64) -> ModelProfile {
        let layer = |&weight_bytes: &u64| LayerShape {
            class: 0,
            weight_bytes,
            kv_bytes_per_token: 1,
        };
        ModelProfile {
            layers: layer_bytes.iter().map(layer).collect(),
            embedding_bytes: 0,
            head_bytes,
            tied_head: false,
            buffer_bytes: 0,
            n_embd: 1,
            bytes_per_value: 4.0,
        }
    }

    fn nodes(n: usize) -> Vec<NodeId> {
        (0..n).map(|i| NodeId(format!("n{i}"))).collect()
    }

    fn check(
        model: &ModelProfile,
        split: SplitPolicy,
        n_nodes: usize,
        expected: &[(&str, u32, u32)],
    ) {
        let placed = place(model, &split, &nodes(n_nodes));
        let placed: Vec<_> = placed
            .iter()
            .map(|s| (s.node.0.as_str(), s.layers.start, s.layers.end))
            .collect();
        assert_eq!(placed, expected);
    }

    #[test]
    fn stages_are_even_in_bytes() {
        let m = model(&[10; 6], 0);
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
    fn the_head_weighs_on_the_last_stage() {
        check(
            &model(&[10; 6], 20),
            SplitPolicy::Stages(2),
            2,
            &[("n0", 0, 4), ("n1", 4, 6)],
        );
    }

    #[test]
    fn fewer_nodes_hold_consecutive_stages_and_more_stay_spare() {
        let m = model(&[10; 4], 0);
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
