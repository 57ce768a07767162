//! Guesses for one sequence: which source, in which shape, and what became of them.

use jupiter_models::Token;

use super::step_times::{DraftCost, StepCosts};
use crate::message::HeadGuess;
use crate::request::{DraftChoice, SpeculationParams, SpeculationUsage};
use crate::speculation::Result;
use crate::speculation::draft::heads::HeadsSource;
use crate::speculation::draft::ngram::{NgramParams, NgramSource};
use crate::speculation::draft::oracle::OracleSource;
use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::inflight::{Judged, Outcome};
use crate::speculation::shape::calibration::Calibration;
use crate::speculation::shape::choose::{
    Choice, Chooser, PROBE_EVERY, ShapeLimits, best_lines, best_part, best_tree,
};
use crate::speculation::shape::rates::{AcceptanceRates, MAX_DEPTH};
use crate::speculation::tree::DraftTree;

/// Branches of a source that names several tokens for a place.
const MAX_LINES: usize = 8;

/// How often an n-gram is expected to be right at first, where a source that computes guesses too:
/// text that repeats itself is soon noticed, and other text is not worth the try.
const NGRAM_BESIDE_MODEL: f64 = 0.35;

/// Steps without guesses.
const PLAIN: ShapeLimits = ShapeLimits {
    rows: 1,
    in_flight: 1,
    depth: 0,
    branches: 1,
};

/// Which computing sources this cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Available {
    pub(super) medusa: bool,
    pub(super) model: bool,
}

/// The sources of one sequence.
pub(super) struct Speculator {
    params: SpeculationParams,
    used: Vec<Used>,
    /// The source of the guesses under way.
    current: Option<usize>,
    /// Sources that pay, the best first, and their shapes.
    chosen: Vec<(usize, Choice)>,
    /// What was possible and what it cost when that was chosen.
    limits: ShapeLimits,
    costs: StepCosts,
    /// The same for the last choice among most rows: at the end of an answer there are few.
    widest: (ShapeLimits, StepCosts),
    usage: Usage,
    /// Steps since Medusa heads were asked.
    n_without_heads: u32,
}

/// A source and what is known of it.
struct Used {
    source: Source,
    rates: AcceptanceRates,
    calibration: Calibration,
    chooser: Chooser,
    /// Guesses at the next token that were not sent, to be compared with it.
    probed: Vec<(Token, Option<f64>)>,
    /// Right and judged first guesses of the whole answer, by depth.
    seen: [(u32, u32); MAX_DEPTH],
}

enum Source {
    Ngram(NgramSource),
    Oracle(OracleSource),
    Heads(HeadsSource),
    Model(ModelSource),
}

/// Counts of the whole answer.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    n_steps: u32,
    n_tokens: u32,
    n_drafted: u32,
    n_accepted: u32,
    n_wasted: u32,
}

/// The draft model computes elsewhere: its guesses come later, for the text they were asked for.
#[derive(Default)]
struct ModelSource {
    /// Where the guesses that are asked for, or there, begin: length of the text and of what is
    /// under way behind it.
    at: Option<(usize, usize)>,
    ready: Option<DraftTree>,
    /// Whether they are to be compared with the text only.
    is_probe: bool,
    /// Whether it is time for such a comparison.
    wants_probe: bool,
    /// Nanoseconds for one guess.
    token_ns: f64,
}

/// Guesses at what follows.
pub(super) enum Drafted {
    /// These; none when nothing pays or no source has an idea.
    Guesses(DraftTree),
    /// They are being made: ask again when they are there.
    Later(DraftWish),
}

/// What the draft model is to guess; none when that was asked already.
pub(super) type DraftWish = Option<DraftLimits>;

impl Source {
    fn as_dyn(&mut self) -> Option<&mut dyn DraftSource> {
        match self {
            Source::Ngram(source) => Some(source),
            Source::Oracle(source) => Some(source),
            Source::Heads(source) => Some(source),
            Source::Model(_) => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Source::Ngram(source) => source.name(),
            Source::Oracle(source) => source.name(),
            Source::Heads(source) => source.name(),
            Source::Model(_) => "draft model",
        }
    }
}

impl Speculator {
    /// The sources that `params` ask for and the cluster has, after `text`.
    pub(super) fn new(params: SpeculationParams, available: Available, text: &[Token]) -> Self {
        let mut used = Vec::new();
        let auto = matches!(params.source, DraftChoice::Auto);
        if auto || matches!(params.source, DraftChoice::Ngram) {
            used.extend(
                NgramSource::new(NgramParams::default())
                    .map(Source::Ngram)
                    .ok(),
            );
        }
        if available.medusa && (auto || matches!(params.source, DraftChoice::Medusa)) {
            used.push(Source::Heads(HeadsSource::default()));
        }
        if available.model && (auto || matches!(params.source, DraftChoice::Model)) {
            used.push(Source::Model(ModelSource::default()));
        }
        if let DraftChoice::Oracle(oracle) = &params.source {
            let truth = oracle.truth.to_vec();
            let source = OracleSource::new(truth, oracle.n_vocab, oracle.acceptance, oracle.seed);
            match source {
                Ok(source) => used.push(Source::Oracle(source)),
                Err(error) => tracing::warn!(%error, "no oracle"),
            }
        }
        let has_model = used.len() > 1;
        let with_rates = |source| Used {
            rates: match &source {
                Source::Ngram(_) if has_model => AcceptanceRates::expecting(NGRAM_BESIDE_MODEL),
                _ => AcceptanceRates::default(),
            },
            source,
            calibration: Calibration::default(),
            chooser: Chooser::default(),
            probed: Vec::new(),
            seen: [(0, 0); MAX_DEPTH],
        };
        let mut speculator = Self {
            params,
            used: used.into_iter().map(with_rates).collect(),
            current: None,
            chosen: Vec::new(),
            limits: PLAIN,
            costs: StepCosts::default(),
            widest: (PLAIN, StepCosts::default()),
            usage: Usage::default(),
            n_without_heads: PROBE_EVERY,
        };
        speculator.tell(text);
        speculator
    }

    pub(super) fn params(&self) -> &SpeculationParams {
        &self.params
    }

    /// Whether Medusa heads are to guess at what follows the next step: they are in use, or it is
    /// time to see whether they would be right.
    pub(super) fn wants_guesses(&mut self) -> bool {
        let is_heads = |used: &Used| matches!(used.source, Source::Heads(_));
        let Some(heads) = self.used.iter().position(is_heads) else {
            return false;
        };
        self.n_without_heads += 1;
        let is_chosen = self.chosen.iter().any(|&(at, _)| at == heads);
        let wanted = is_chosen || self.n_without_heads >= PROBE_EVERY;
        if wanted {
            self.n_without_heads = 0;
        }
        wanted
    }

    /// Whether guessing is wanted at all.
    pub(super) fn is_asked(&self) -> bool {
        self.params.source != DraftChoice::None
    }

    pub(super) fn has_sources(&self) -> bool {
        !self.used.is_empty()
    }

    /// Leaves out the sources that compute, where they are gone.
    pub(super) fn restrict(&mut self, available: Available) {
        self.used.retain(|used| match used.source {
            Source::Heads(_) => available.medusa,
            Source::Model(_) => available.model,
            _ => true,
        });
        self.current = None;
        self.chosen.clear();
    }

    /// Tokens that were added to the text.
    fn tell(&mut self, tokens: &[Token]) {
        self.each_source(|source| source.accept(tokens));
    }

    /// A source that fails is left out: the answer goes on without it.
    fn each_source(&mut self, mut act: impl FnMut(&mut dyn DraftSource) -> Result<()>) {
        let n_used = self.used.len();
        self.used.retain_mut(|used| {
            let acted = used.source.as_dyn().map_or(Ok(()), &mut act);
            if let Err(error) = &acted {
                warn(used.source.name(), error);
            }
            acted.is_ok()
        });
        if self.used.len() < n_used {
            self.current = None;
            self.chosen.clear();
        }
    }

    /// Learns from the verdict on a step.
    pub(super) fn learn(&mut self, outcome: &Outcome) {
        let usage = &mut self.usage;
        usage.n_steps += 1;
        usage.n_tokens += outcome.accepted.len() as u32;
        let right = outcome
            .judged
            .iter()
            .filter(|judged| judged.right.is_some());
        usage.n_accepted += right.count() as u32;
        usage.n_wasted += outcome.n_wasted as u32;
        if let Some(used) = self.current.and_then(|at| self.used.get_mut(at)) {
            for judged in &outcome.judged {
                used.learn(judged);
            }
        }
        if let Some(&next) = outcome.accepted.first() {
            for used in &mut self.used {
                used.compare(next);
            }
        }
        self.tell(&outcome.accepted);
    }

    /// What Medusa heads say of the text as it is now.
    pub(super) fn take_guesses(&mut self, guesses: &[Vec<HeadGuess>]) {
        for used in &mut self.used {
            if let Source::Heads(source) = &mut used.source {
                let of_head = |head: &Vec<HeadGuess>| {
                    let guess = |g: &HeadGuess| (g.token, f64::from(g.probability));
                    head.iter().map(guess).collect()
                };
                source.set(guesses.iter().map(of_head).collect());
            }
        }
    }

    /// Most steps in flight of the best shape.
    pub(super) fn n_in_flight(&self) -> usize {
        match self.chosen.first() {
            Some((_, Choice::Pipelined { pace, .. })) => pace.in_flight as usize,
            _ => 1,
        }
    }

    /// Decides how to guess next, within `limits`, for steps of these `costs`.
    pub(super) fn choose(&mut self, limits: ShapeLimits, costs: StepCosts) {
        let mut chosen = Vec::new();
        for (at, used) in self.used.iter_mut().enumerate() {
            match used.choose(limits, &costs) {
                Ok(choice) => chosen.push((at, choice)),
                Err(error) => warn(used.source.name(), &error),
            }
        }
        chosen.retain(|(_, choice)| !matches!(choice, Choice::Plain { .. }));
        chosen.sort_by(|(_, a), (_, b)| b.ratio().total_cmp(&a.ratio()));
        if limits.rows >= self.widest.0.rows {
            self.widest = (limits, costs.clone());
        }
        tracing::trace!(?limits, ?costs, ?chosen, "how to guess");
        (self.chosen, self.limits, self.costs) = (chosen, limits, costs);
    }

    /// The guesses of the next step, at most `room` of them, behind a text of `n_text` tokens and
    /// `ahead`, which is under way (`is_first`: nothing is).
    pub(super) fn draft(
        &mut self,
        n_text: usize,
        ahead: &[Token],
        is_first: bool,
        room: usize,
    ) -> Drafted {
        let place = Place {
            n_text,
            ahead,
            is_first,
            limits: ShapeLimits {
                depth: self.limits.depth.min(room as u32),
                ..self.limits
            },
        };
        for i in 0..self.chosen.len() {
            let (at, choice) = &self.chosen[i];
            if !is_first && self.current != Some(*at) {
                continue;
            }
            let used = &mut self.used[*at];
            match used.draft(choice, &place, &self.costs) {
                // Guesses may come with the next step only, behind the last token alone.
                Ok(Drafted::Guesses(tree)) if tree.is_empty() && !choice.starts_alone() => {}
                Ok(Drafted::Guesses(tree)) => {
                    self.current = Some(*at);
                    self.usage.n_drafted += tree.len() as u32;
                    return Drafted::Guesses(tree);
                }
                Ok(later) => return later,
                Err(error) => {
                    warn(used.source.name(), &error);
                    let at = *at;
                    self.used.remove(at);
                    self.current = None;
                    self.chosen.clear();
                    break;
                }
            }
        }
        if is_first {
            self.current = None;
        }
        Drafted::Guesses(DraftTree::new())
    }

    /// The draft model's guesses, which took it so many nanoseconds.
    pub(super) fn model_drafted(&mut self, guesses: DraftTree, ns: u64) {
        for used in &mut self.used {
            let Source::Model(source) = &mut used.source else {
                continue;
            };
            let depth = guesses.nodes().iter().map(|node| node.depth).max();
            if let Some(depth) = depth {
                source.learn_speed(ns as f64 / f64::from(depth));
            }
            if source.is_probe {
                (source.at, source.is_probe) = (None, false);
                used.probe(&guesses);
            } else if source.at.is_some() {
                source.ready = Some(guesses);
            }
            return;
        }
    }

    /// One guess of the draft model, to be compared with the text: none while it is in use.
    pub(super) fn probe_wish(&mut self, n_text: usize) -> Option<DraftLimits> {
        self.used.iter_mut().find_map(|used| {
            let Source::Model(source) = &mut used.source else {
                return None;
            };
            if !std::mem::take(&mut source.wants_probe) {
                return None;
            }
            (source.at, source.ready, source.is_probe) = (Some((n_text, 0)), None, true);
            Some(DraftLimits::line(1))
        })
    }

    /// Whether a draft model guesses for this sequence.
    pub(super) fn uses_model(&self) -> bool {
        let is_model = |used: &Used| matches!(used.source, Source::Model(_));
        self.used.iter().any(is_model)
    }

    /// What was asked of the draft model is forgotten.
    pub(super) fn forget_wishes(&mut self) {
        for used in &mut self.used {
            if let Source::Model(source) = &mut used.source {
                (source.at, source.ready) = (None, None);
            }
        }
    }

    /// What came of it, and what was to be expected by the costs as they are now.
    pub(super) fn usage(&self) -> SpeculationUsage {
        let n_judged = |used: &Used| used.seen.iter().map(|&(_, all)| all).sum::<u32>();
        let best = self.used.iter().max_by_key(|used| n_judged(used));
        let best = best.filter(|used| n_judged(used) > 0);
        let Usage {
            n_steps,
            n_tokens,
            n_drafted,
            n_accepted,
            n_wasted,
        } = self.usage;
        SpeculationUsage {
            source: best.map_or("none", |used| used.source.name()),
            n_steps,
            n_tokens,
            n_drafted,
            n_accepted,
            n_wasted,
            predicted_ratio: best.map_or(1.0, |used| used.predicted(&self.widest)),
        }
    }
}

/// Where guesses are wanted.
struct Place<'a> {
    n_text: usize,
    ahead: &'a [Token],
    is_first: bool,
    limits: ShapeLimits,
}

impl Used {
    /// What its guesses take.
    fn draft_cost(&self, costs: &StepCosts) -> DraftCost {
        match &self.source {
            Source::Model(source) => DraftCost {
                guess_ns: source.token_ns,
                step_ns: 0.0,
            },
            Source::Heads(_) => DraftCost {
                guess_ns: 0.0,
                step_ns: costs.heads_ns,
            },
            _ => DraftCost::default(),
        }
    }

    fn learn(&mut self, judged: &Judged) {
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
    fn compare(&mut self, next: Token) {
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

    fn choose(&mut self, limits: ShapeLimits, costs: &StepCosts) -> Result<Choice> {
        let limits = self.limits(limits);
        if limits.depth == 0 {
            return Ok(Choice::Plain { probe: false });
        }
        let (rates, draft) = (&self.rates, self.draft_cost(costs));
        let mut choice = costs.with(draft, |cost| self.chooser.choose(rates, cost, limits))?;
        if let Source::Heads(source) = &mut self.source {
            // They are here already, and say how sure they are: the tree is chosen by that.
            let lines = costs.with(draft, |cost| best_lines(rates, cost, limits));
            let tree = source.draft(&[], drafted(limits))?;
            let calibration = &self.calibration;
            let part = costs.with(draft, |cost| {
                best_part(&tree, |node, _| calibration.of(node), cost, limits)
            })?;
            choice = match part {
                Some((_, prediction)) if prediction.ratio > lines.ratio() => Choice::Tree {
                    nodes: Vec::new(),
                    prediction,
                },
                _ => lines,
            };
            self.probe(&tree);
        } else if let (Choice::Plain { probe: true }, Source::Model(source)) =
            (&choice, &mut self.source)
        {
            source.wants_probe = true;
        } else if let (Choice::Plain { probe: true }, Some(source)) =
            (&choice, self.source.as_dyn())
        {
            let tree = source.draft(&[], DraftLimits::line(1))?;
            self.probe(&tree);
        }
        Ok(choice)
    }

    /// Keeps the guesses at the next token, to be compared with it.
    fn probe(&mut self, tree: &DraftTree) {
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

    fn draft(&mut self, choice: &Choice, place: &Place<'_>, costs: &StepCosts) -> Result<Drafted> {
        let limits = self.limits(place.limits);
        let wanted = match choice {
            Choice::Plain { .. } => return Ok(Drafted::Guesses(DraftTree::new())),
            Choice::Tree { .. } => drafted(limits),
            Choice::Pipelined { pace, .. } => {
                let depth = pace.rows.saturating_sub(u32::from(place.is_first));
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

    fn says_how_sure(&self) -> bool {
        matches!(self.source, Source::Heads(_) | Source::Model(_))
    }

    /// Tokens per time over plain decoding that the best shape brings with the acceptance that was
    /// seen.
    fn predicted(&self, (limits, costs): &(ShapeLimits, StepCosts)) -> f64 {
        let limits = ShapeLimits {
            branches: self.limits(*limits).branches,
            ..*limits
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
            let tree = best_tree(&rates, cost, limits).map_or(1.0, |choice| choice.ratio());
            tree.max(best_lines(&rates, cost, limits).ratio())
        })
    }
}

impl ModelSource {
    fn draft(&mut self, at: (usize, usize), limits: DraftLimits) -> Drafted {
        if self.at == Some(at) {
            return match self.ready.take() {
                Some(tree) => {
                    self.at = None;
                    Drafted::Guesses(tree)
                }
                None => Drafted::Later(None),
            };
        }
        (self.at, self.ready, self.is_probe) = (Some(at), None, false);
        Drafted::Later(Some(limits))
    }

    fn learn_speed(&mut self, token_ns: f64) {
        const WEIGHT: f64 = 0.2;
        self.token_ns = match self.token_ns {
            0.0 => token_ns,
            known => known + WEIGHT * (token_ns - known),
        };
    }
}

/// The whole tree of a source, from which the best part is taken.
fn drafted(limits: ShapeLimits) -> DraftLimits {
    DraftLimits {
        depth: limits.depth.min(limits.rows.saturating_sub(1)) as usize,
        lines: (limits.branches as usize).min(MAX_LINES),
    }
}

fn warn(source: &str, error: &dyn std::fmt::Display) {
    tracing::warn!("{source}: {error}: going on without it");
}
