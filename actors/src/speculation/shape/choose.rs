//! Which shape the next steps have, or none.

use crate::speculation::shape::StepCost;
use crate::speculation::shape::grow::{Pruned, ShapeNode, grow, prune};
use crate::speculation::shape::pipeline::{LineShape, Prediction, deepest, predict};
use crate::speculation::shape::rates::{AcceptanceRates, MAX_RANK};
use crate::speculation::tree::{DraftTree, Node};
use crate::speculation::{Result, SpeculationError};

/// A shape has to promise this much over plain decoding, and several steps in flight over one: estimates
/// are no better, a rejected draft costs others their turn, and steps in flight take memory from each other
/// where stages share a machine.
const MARGIN: f64 = 0.05;
/// What more rows, or more than two steps in flight, have to bring over fewer: they are work for nothing when
/// wrong.
const WORTHWHILE: f64 = 1.03;
/// While nothing pays, the source is asked for a guess every so many tokens, and that is compared
/// with the text, not sent: it costs no row. A change is noticed within some 30 tokens.
pub const PROBE_EVERY: u32 = 4;

/// What is possible now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeLimits {
    /// Most rows of a step, the root's included.
    pub rows: u32,
    /// Most steps in flight; 1 when other streams fill the pipeline.
    pub in_flight: u32,
    /// Deepest guess that the source makes and the context has room for.
    pub depth: u32,
    /// Most branches of a tree: sequences of the KV cache that are free, and the base.
    pub branches: u32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// One row. With `probe`, ask the source all the same and compare.
    Plain {
        /// Whether the source is asked.
        probe: bool,
    },
    /// A tree (or line), one step at a time.
    Tree {
        /// Its nodes, parents first; ranks among the source's guesses.
        nodes: Vec<ShapeNode>,
        /// What is expected.
        prediction: Prediction,
    },
    /// Lines, several steps in flight.
    Pipelined {
        /// How they follow each other.
        shape: LineShape,
        /// What is expected.
        prediction: Prediction,
    },
}

impl Choice {
    /// Whether its first step is the last token alone, and guesses follow in further ones.
    pub fn starts_alone(&self) -> bool {
        matches!(self, Choice::Pipelined { shape, .. } if shape.rows == 1)
    }

    /// What it is compared by: its ratio, less what several steps in flight have to bring over one.
    pub fn worth(&self) -> f64 {
        match self {
            Choice::Pipelined { prediction, .. } => prediction.ratio / (1.0 + MARGIN),
            Choice::Plain { .. } | Choice::Tree { .. } => self.ratio(),
        }
    }

    /// Tokens per time over plain decoding, as far as is known.
    pub fn ratio(&self) -> f64 {
        match self {
            Choice::Plain { .. } => 1.0,
            Choice::Tree { prediction, .. } | Choice::Pipelined { prediction, .. } => {
                prediction.ratio
            }
        }
    }
}

/// Of what one step at a time brings and `lines`, which have several in flight, what is worth more; plain
/// decoding where neither promises enough.
pub fn better(one: Choice, lines: Choice) -> Choice {
    let plain = Choice::Plain { probe: false };
    let one = if one.ratio() > 1.0 + MARGIN {
        one
    } else {
        plain
    };
    if lines.worth() > one.worth() {
        lines
    } else {
        one
    }
}

/// Chooses for one stream.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    /// Choices since the source was asked.
    n_plain: u32,
}

impl Chooser {
    /// The best shape by the rates and costs as they are.
    ///
    /// # Errors
    /// [`SpeculationError::BadSetting`] for limits that allow no step at all.
    pub fn choose(
        &mut self,
        rates: &AcceptanceRates,
        cost: &StepCost<'_>,
        limits: ShapeLimits,
    ) -> Result<Choice> {
        if limits.rows == 0 || limits.in_flight == 0 || limits.branches == 0 {
            return Err(SpeculationError::BadSetting {
                field: "rows, steps in flight or branches",
                got: "0".into(),
                expected: "at least 1",
            });
        }
        let tree = best_tree(rates, cost, limits)?;
        let lines = best_lines(rates, cost, limits);
        let best = better(tree, lines);
        if !matches!(best, Choice::Plain { .. }) {
            self.n_plain = 0;
            return Ok(best);
        }
        self.n_plain += 1;
        let probe = self.n_plain.is_multiple_of(PROBE_EVERY);
        Ok(Choice::Plain { probe })
    }
}

/// One step at a time, for sources that do not say how sure they are: the best tree of every size, since the row curve is not monotone.
///
/// # Errors
/// None but a broken invariant: rates are probabilities.
pub fn best_tree(
    rates: &AcceptanceRates,
    cost: &StepCost<'_>,
    limits: ShapeLimits,
) -> Result<Choice> {
    let n_nodes = limits.rows as usize - 1;
    let n_ranks = if limits.branches > 1 { MAX_RANK } else { 1 };
    let plain = cost.alone(1);
    // No node is likelier than the likeliest first one: where rows are dear, that is all there is to know.
    let first = (0..n_ranks)
        .map(|rank| rates.rate(1, rank))
        .fold(0.0, f64::max);
    let may_pay = |n: usize| (1.0 + n as f64 * first) * plain > cost.alone(n as u32 + 1);
    if !(1..=n_nodes).any(may_pay) {
        return Ok(Choice::Plain { probe: false });
    }
    // Some nodes are left out where branches are few, so more are grown than there are rows.
    let are_few = n_ranks > 1 && (limits.branches as usize) < n_nodes;
    let n_grown = if are_few { n_nodes * MAX_RANK } else { n_nodes };
    let mut shape = grow(n_grown, |parent: Option<usize>, chosen: &[ShapeNode]| {
        let depth = parent.map_or(0, |at| chosen[at].depth);
        let depths = depth + 1..=(depth + 1).min(limits.depth);
        let candidates = depths.flat_map(|depth| (0..n_ranks).map(move |rank| (depth, rank)));
        candidates
            .map(|(depth, rank)| rates.rate(depth, rank))
            .collect()
    })?;
    limit_branches(&mut shape, limits.branches as usize);
    shape.truncate(n_nodes);
    let mut best = (1.0, 0);
    let mut expected = 1.0;
    for (i, node) in shape.iter().enumerate() {
        expected += node.marginal;
        let ratio = expected * plain / cost.alone(i as u32 + 2);
        if ratio > best.0 {
            best = (ratio, i + 1);
        }
    }
    let (ratio, n_nodes) = best;
    if n_nodes == 0 {
        return Ok(Choice::Plain { probe: false });
    }
    shape.truncate(n_nodes);
    let tokens_per_step = 1.0 + shape.iter().map(|node| node.marginal).sum::<f64>();
    let prediction = Prediction {
        ratio,
        tokens_per_step,
    };
    Ok(Choice::Tree {
        nodes: shape,
        prediction,
    })
}

/// The best part of a tree that is drafted already, for sources that say how sure they are:
/// `probability` of a node, given its path, and its rank among its siblings (see
/// [`crate::speculation::shape::calibration`]). None where plain decoding is as fast.
///
/// # Errors
/// [`crate::speculation::SpeculationError::BadProbability`] for what is no probability.
pub fn best_part(
    tree: &DraftTree,
    probability: impl Fn(&Node, usize) -> f64,
    cost: &StepCost<'_>,
    limits: ShapeLimits,
) -> Result<Option<(DraftTree, Prediction)>> {
    let n_nodes = (limits.rows as usize).saturating_sub(1);
    let fits = |node: &Node| node.depth <= limits.depth;
    let possible = |node: &Node, rank| {
        if fits(node) {
            probability(node, rank)
        } else {
            0.0
        }
    };
    let Pruned { tree, marginals } = prune(tree, n_nodes, possible)?;
    let mut best = None;
    let mut part = DraftTree::new();
    let (mut expected, mut best_ratio) = (1.0, 1.0 + MARGIN);
    for (node, marginal) in tree.nodes().iter().zip(marginals) {
        part.push(node.parent, node.token, node.probability)?;
        if part.leaves().len() > limits.branches as usize {
            break;
        }
        expected += marginal;
        let ratio = expected * cost.alone(1) / cost.alone(part.len() as u32 + 1);
        if ratio > best_ratio {
            best_ratio = ratio;
            let tokens_per_step = expected;
            best = Some((
                part.clone(),
                Prediction {
                    ratio,
                    tokens_per_step,
                },
            ));
        }
    }
    Ok(best)
}

/// Leaves out the nodes that would need more branches than there are, and what hangs on them.
fn limit_branches(shape: &mut Vec<ShapeNode>, n_branches: usize) {
    let mut kept: Vec<ShapeNode> = Vec::new();
    let mut here: Vec<Option<usize>> = Vec::new();
    let mut n_leaves = 1;
    for node in shape.iter() {
        let parent = match node.parent {
            None => Some(None),
            Some(up) => here[up].map(Some),
        };
        let Some(parent) = parent else {
            here.push(None);
            continue;
        };
        let is_leaf = !kept.is_empty() && kept.iter().any(|other| other.parent == parent);
        if is_leaf && n_leaves == n_branches {
            here.push(None);
            continue;
        }
        n_leaves += usize::from(is_leaf);
        here.push(Some(kept.len()));
        kept.push(ShapeNode { parent, ..*node });
    }
    *shape = kept;
}

/// Lines with two and more steps in flight: all numbers of rows and steps.
pub fn best_lines(rates: &AcceptanceRates, cost: &StepCost<'_>, limits: ShapeLimits) -> Choice {
    let mut best = Choice::Plain { probe: false };
    if limits.in_flight < 2 {
        return best;
    }
    let rates = rates.first_guesses();
    for rows in 1..=limits.rows {
        for in_flight in 2..=limits.in_flight {
            let shape = LineShape { rows, in_flight };
            if deepest(shape) > limits.depth {
                break;
            }
            let prediction = predict(&rates, cost, shape);
            if prediction.ratio > best.ratio() * WORTHWHILE {
                best = Choice::Pipelined { shape, prediction };
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
