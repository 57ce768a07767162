//! A source of guesses and what is known of it: how often it is right, and how it is best used.

use jupiter_models::Token;

use super::model_source::ModelSource;
use super::{Available, Drafted};
use crate::message::DraftKind;
use crate::planner::batching::step_times::{DraftCost, StepCosts};
use crate::request::{DraftChoice, SpeculationParams};
use crate::speculation::Result;
use crate::speculation::draft::heads::HeadsSource;
use crate::speculation::draft::ngram::{NgramParams, NgramSource};
use crate::speculation::draft::oracle::OracleSource;
use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::inflight::Judged;
use crate::speculation::shape::calibration::Calibration;
use crate::speculation::shape::choose::{
    Choice, Chooser, ShapeLimits, best_lines, best_part, best_tree, better,
};
use crate::speculation::shape::grow::ShapeNode;
use crate::speculation::shape::rates::{AcceptanceRates, MAX_DEPTH};
use crate::speculation::tree::DraftTree;

/// Branches of a source that names several tokens for a place.
const MAX_LINES: usize = 8;

/// How often an n-gram is expected to be right at first, where a source that computes guesses too:
/// text that repeats itself is soon noticed, and other text is not worth the try.
const NGRAM_BESIDE_MODEL: f64 = 0.35;

/// A source and what is known of it.
pub(super) struct Used {
    pub(super) source: Source,
    rates: AcceptanceRates,
    calibration: Calibration,
    chooser: Chooser,
    /// Guesses at the next token that were not sent, to be compared with it.
    probed: Vec<(Token, Option<f64>)>,
    /// Right and judged first guesses of the whole answer, by depth.
    pub(super) seen: [(u32, u32); MAX_DEPTH],
}

pub(super) enum Source {
    Ngram(NgramSource),
    Oracle(OracleSource),
    Heads(HeadsSource),
    Model(ModelSource),
}

/// The sources that `params` ask for and the cluster has.
pub(super) fn sources(params: &SpeculationParams, available: Available) -> Vec<Used> {
    let wants = |choice: DraftChoice| params.source == DraftChoice::Auto || params.source == choice;
    let heads = available.heads.filter(|kind| wants(kind.choice()));
    let model = available.model && wants(DraftChoice::Model);
    let mut used = Vec::new();
    if wants(DraftChoice::Ngram)
        && let Ok(source) = NgramSource::new(NgramParams::default())
    {
        let rates = match heads.is_some() || model {
            true => AcceptanceRates::expecting(NGRAM_BESIDE_MODEL),
            false => AcceptanceRates::default(),
        };
        used.push(Used::new(Source::Ngram(source), rates));
    }
    let mut add = |source| used.push(Used::new(source, AcceptanceRates::default()));
    if let Some(kind) = heads {
        add(Source::Heads(HeadsSource::new(
            kind.source_name(),
            kind == DraftKind::Mtp,
        )));
    }
    if model {
        add(Source::Model(ModelSource::default()));
    }
    if let DraftChoice::Oracle(oracle) = &params.source {
        let truth = oracle.truth.to_vec();
        match OracleSource::new(truth, oracle.n_vocab, oracle.acceptance, oracle.seed) {
            Ok(source) => add(Source::Oracle(source)),
            Err(error) => super::warn("oracle", &error),
        }
    }
    used
}

impl DraftKind {
    /// How it is asked for.
    fn choice(self) -> DraftChoice {
        match self {
            DraftKind::Medusa => DraftChoice::Medusa,
            DraftKind::Mtp => DraftChoice::Mtp,
            DraftKind::Model => DraftChoice::Model,
        }
    }

    /// What statistics call it.
    fn source_name(self) -> &'static str {
        match self {
            DraftKind::Medusa => "medusa",
            DraftKind::Mtp => "mtp",
            DraftKind::Model => "draft model",
        }
    }
}

impl Source {
    /// Those that guess here and at once.
    pub(super) fn as_dyn(&mut self) -> Option<&mut dyn DraftSource> {
        match self {
            Source::Ngram(source) => Some(source),
            Source::Oracle(source) => Some(source),
            Source::Heads(source) => Some(source),
            Source::Model(_) => None,
        }
    }

    /// The one that computes elsewhere.
    pub(super) fn as_model(&mut self) -> Option<&mut ModelSource> {
        match self {
            Source::Model(source) => Some(source),
            _ => None,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Ngram(source) => source.name(),
            Source::Oracle(source) => source.name(),
            Source::Heads(source) => source.name(),
            Source::Model(_) => DraftKind::Model.source_name(),
        }
    }
}

/// Where guesses are wanted.
pub(super) struct DraftPlace<'a> {
    pub(super) n_text: usize,
    pub(super) ahead: &'a [Token],
    /// Whether nothing of the sequence is under way.
    pub(super) is_first: bool,
    pub(super) limits: ShapeLimits,
}

impl Used {
    fn new(source: Source, rates: AcceptanceRates) -> Self {
        Self {
            source,
            rates,
            calibration: Calibration::default(),
            chooser: Chooser::default(),
            probed: Vec::new(),
            seen: [(0, 0); MAX_DEPTH],
        }
    }

    /// What its guesses take.
    fn draft_cost(&self, costs: &StepCosts) -> DraftCost {
        match &self.source {
            Source::Model(source) => DraftCost {
                guess_ns: source.token_ns,
                request_ns: source.request_ns,
                step_ns: 0.0,
            },
            Source::Heads(_) => DraftCost {
                step_ns: costs.heads_ns,
                ..DraftCost::default()
            },
            _ => DraftCost::default(),
        }
    }

    /// Guesses of it were judged.
    pub(super) fn learn(&mut self, judged: &Judged) {
        let n_guesses = judged.probabilities.len();
        self.rates.observe(judged.depth, n_guesses, judged.right);
        for (rank, said) in judged.probabilities.iter().enumerate() {
            let is_right = judged.right == Some(rank);
            if let Some(said) = *said {
                self.calibration.observe(said, is_right);
            }
            if is_right {
                break;
            }
        }
        let (right, all) = &mut self.seen[(judged.depth as usize).clamp(1, MAX_DEPTH) - 1];
        *right += u32::from(judged.right == Some(0));
        *all += 1;
    }

    /// What was guessed of `next` without being sent.
    pub(super) fn compare(&mut self, next: Token) {
        let probed = std::mem::take(&mut self.probed);
        if !probed.is_empty() {
            let right = probed.iter().position(|&(token, _)| token == next);
            self.rates.observe(1, probed.len(), right);
            for (token, said) in probed {
                if let Some(said) = said {
                    self.calibration.observe(said, token == next);
                }
            }
        }
    }

    /// How it would guess best.
    pub(super) fn choose(&mut self, limits: ShapeLimits, costs: &StepCosts) -> Result<Choice> {
        let limits = self.limits(limits);
        if limits.depth == 0 {
            return Ok(Choice::Plain { probe: false });
        }
        let (rates, draft) = (&self.rates, self.draft_cost(costs));
        if let Source::Heads(source) = &mut self.source {
            // They are here already, and say how sure they are: the tree is chosen by that.
            let lines = costs.with(draft, |cost| best_lines(rates, cost, limits));
            let tree = source.draft(&[], whole_tree(limits))?;
            let calibration = &self.calibration;
            let part = costs.with(draft, |cost| {
                best_part(&tree, |node, _| calibration.of(node), cost, limits)
            })?;
            self.probe(&tree);
            let plain = Choice::Plain { probe: false };
            let tree = part.map_or(plain, |(_, prediction)| Choice::Tree {
                nodes: Vec::new(),
                prediction,
            });
            return Ok(better(tree, lines));
        }
        let choice = costs.with(draft, |cost| self.chooser.choose(rates, cost, limits))?;
        if choice == (Choice::Plain { probe: true }) {
            match &mut self.source {
                Source::Model(source) => source.wants_probe = true,
                source => {
                    let line = DraftLimits::line(1);
                    let tree = source.as_dyn().map(|source| source.draft(&[], line));
                    self.probe(&tree.transpose()?.unwrap_or_default());
                }
            }
        }
        Ok(choice)
    }

    /// Keeps the guesses at the next token, to be compared with it.
    pub(super) fn probe(&mut self, tree: &DraftTree) {
        let guess = |at: usize| (tree.nodes()[at].token, tree.nodes()[at].probability);
        self.probed = tree.children(None).map(guess).collect();
    }

    fn limits(&self, limits: ShapeLimits) -> ShapeLimits {
        let (depth, branches) = match &self.source {
            Source::Heads(source) => (source.depth() as u32, limits.branches),
            Source::Oracle(_) => (limits.depth, 1),
            Source::Ngram(_) | Source::Model(_) => (limits.depth, limits.branches),
        };
        ShapeLimits {
            depth: limits.depth.min(depth),
            branches,
            ..limits
        }
    }

    /// Its guesses, in the shape that was chosen.
    pub(super) fn draft(
        &mut self,
        choice: &Choice,
        place: &DraftPlace<'_>,
        costs: &StepCosts,
    ) -> Result<Drafted> {
        let limits = self.limits(place.limits);
        let wanted = match choice {
            Choice::Plain { .. } => return Ok(Drafted::Guesses(DraftTree::new())),
            Choice::Tree { nodes, .. } => self.tree_limits(nodes, limits),
            Choice::Pipelined { shape, .. } => {
                let depth = shape.rows.saturating_sub(u32::from(place.is_first));
                DraftLimits::line(depth.min(limits.depth) as usize)
            }
        };
        let tree = match &mut self.source {
            Source::Model(source) => {
                match source.draft((place.n_text, place.ahead.len()), wanted) {
                    Drafted::Guesses(tree) => tree,
                    later => return Ok(later),
                }
            }
            Source::Ngram(source) => source.draft(place.ahead, wanted)?,
            Source::Oracle(source) => source.draft(place.ahead, wanted)?,
            Source::Heads(source) => source.draft(place.ahead, wanted)?,
        };
        let tree = match choice {
            Choice::Tree { .. } if self.says_how_sure() => {
                let calibration = &self.calibration;
                let part = costs.with(self.draft_cost(costs), |cost| {
                    best_part(&tree, |node, _| calibration.of(node), cost, limits)
                })?;
                part.map(|(tree, _)| tree).unwrap_or_default()
            }
            Choice::Tree { nodes, .. } => tree.part(nodes)?,
            _ => tree,
        };
        if !tree.is_empty() {
            self.probed.clear();
        }
        Ok(Drafted::Guesses(tree))
    }

    /// How much it guesses for a tree: a draft model as far as the shape that is expected to be best,
    /// since each guess takes its time; others all they can.
    fn tree_limits(&self, shape: &[ShapeNode], limits: ShapeLimits) -> DraftLimits {
        let whole = whole_tree(limits);
        let deepest = shape.iter().map(|node| node.depth as usize).max();
        match (&self.source, deepest) {
            (Source::Model(_), Some(deepest)) => DraftLimits {
                depth: whole.depth.min(deepest),
                ..whole
            },
            _ => whole,
        }
    }

    fn says_how_sure(&self) -> bool {
        matches!(self.source, Source::Heads(_) | Source::Model(_))
    }

    /// Tokens per time over plain decoding that the best shape brings with the acceptance that was
    /// seen.
    pub(super) fn predicted(&self, limits: ShapeLimits, costs: &StepCosts) -> f64 {
        let limits = ShapeLimits {
            branches: self.limits(limits).branches,
            ..limits
        };
        /// What the share over all depths counts at each, in guesses: deep ones are few.
        const POOLED: f64 = 20.0;
        let sum = |(r, a): (f64, f64), &(right, all): &(u32, u32)| {
            (r + f64::from(right), a + f64::from(all))
        };
        let (right, all) = self.seen.iter().fold((0.0, 0.0), sum);
        let share = right / f64::max(all, 1.0);
        let rate = |&(right, all): &(u32, u32)| {
            (f64::from(right) + POOLED * share) / (f64::from(all) + POOLED)
        };
        let rates: Vec<f64> = self.seen.iter().map(rate).collect();
        let Ok(rates) = AcceptanceRates::known(&rates) else {
            return 1.0;
        };
        costs.with(self.draft_cost(costs), |cost| {
            let lines = best_lines(&rates, cost, limits);
            best_tree(&rates, cost, limits).map_or(1.0, |tree| better(tree, lines).ratio())
        })
    }
}

/// All that a source can say, from which the best part is taken.
fn whole_tree(limits: ShapeLimits) -> DraftLimits {
    DraftLimits {
        depth: limits.depth.min(limits.rows.saturating_sub(1)) as usize,
        lines: (limits.branches as usize).min(MAX_LINES),
    }
}
