//! Guesses for one sequence: which source, in which shape, and what became of them.

mod model_source;
mod probes;
mod used;

use std::sync::Arc;
use std::time::Duration;

use jupiter_models::Token;

use self::model_source::ModelSource;
use self::used::{DraftPlace, Source, Used};
use crate::message::{DraftKind, HeadGuess};
use crate::planner::batching::step_times::StepCosts;
use crate::request::{DraftChoice, SpeculationParams, SpeculationUsage};
use crate::speculation::Result;
use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::inflight::StepOutcome;
use crate::speculation::shape::choose::{Choice, ShapeLimits};
use crate::speculation::tree::DraftTree;

/// Steps without guesses.
const PLAIN: ShapeLimits = ShapeLimits {
    rows: 1,
    in_flight: 1,
    depth: 0,
    branches: 1,
};

/// Which computing sources this cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::planner) struct Available {
    /// What guesses beside the Verifier.
    pub(in crate::planner) heads: Option<DraftKind>,
    pub(in crate::planner) model: bool,
}

/// The sources of one sequence.
pub(in crate::planner) struct Speculator {
    params: SpeculationParams,
    used: Vec<Used>,
    /// The source of the guesses under way.
    current: Option<usize>,
    /// Sources that pay, the best first, and their shapes.
    chosen: Vec<(usize, Choice)>,
    /// What was possible and what it cost when that was chosen.
    limits: ShapeLimits,
    costs: Arc<StepCosts>,
    /// What was possible and what it cost at the last choice among most rows: at the end of an answer there
    /// are few.
    widest: (ShapeLimits, Arc<StepCosts>),
    /// Counts of the whole answer; [`Speculator::usage`] adds the rest.
    usage: SpeculationUsage,
    /// Steps since what is beside the Verifier was asked.
    n_without_heads: u32,
}

/// Guesses at what follows.
pub(in crate::planner) enum Drafted {
    /// These; none when nothing pays or no source has an idea.
    Guesses(DraftTree),
    /// They are being made: ask again when they are there.
    Later(DraftWish),
}

/// What guesses of the draft model took.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::planner) struct DraftTimes {
    /// The model's own work.
    pub(in crate::planner) busy: Duration,
    /// From the wish to the reply.
    pub(in crate::planner) all: Duration,
}

/// What the draft model is to guess; none when that was asked already.
pub(in crate::planner) type DraftWish = Option<DraftLimits>;

impl Speculator {
    /// The sources that `params` ask for and the cluster has, after `text`.
    pub(in crate::planner) fn new(
        params: SpeculationParams,
        available: Available,
        text: &[Token],
    ) -> Self {
        let mut speculator = Self {
            used: used::sources(&params, available),
            params,
            current: None,
            chosen: Vec::new(),
            limits: PLAIN,
            costs: Arc::default(),
            widest: (PLAIN, Arc::default()),
            usage: SpeculationUsage::default(),
            n_without_heads: u32::MAX,
        };
        speculator.tell(text);
        speculator
    }

    /// Whether guessing is wanted at all.
    pub(in crate::planner) fn is_asked(&self) -> bool {
        self.params.source != DraftChoice::None
    }

    pub(in crate::planner) fn has_sources(&self) -> bool {
        !self.used.is_empty()
    }

    /// Leaves out the sources that compute, where they are gone.
    pub(in crate::planner) fn restrict(&mut self, available: Available) {
        self.used.retain(|used| match used.source {
            Source::Heads(_) => available.heads.is_some(),
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
    pub(in crate::planner) fn learn(&mut self, outcome: &StepOutcome) {
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

    /// What was guessed beside the Verifier for the text as it is now.
    pub(in crate::planner) fn take_guesses(&mut self, guesses: &[Vec<HeadGuess>]) {
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
    pub(in crate::planner) fn n_in_flight(&self) -> usize {
        match self.chosen.first() {
            Some((_, Choice::Pipelined { shape, .. })) => shape.in_flight as usize,
            _ => 1,
        }
    }

    /// Rows that its next step is expected to have.
    pub(in crate::planner) fn n_rows(&self) -> usize {
        match self.chosen.first() {
            Some((_, Choice::Pipelined { shape, .. })) => shape.rows as usize,
            Some((_, Choice::Tree { nodes, .. })) => nodes.len() + 1,
            _ => 1,
        }
    }

    /// Decides how to guess next, within `limits`, for steps of these `costs`.
    pub(in crate::planner) fn choose(&mut self, limits: ShapeLimits, costs: &Arc<StepCosts>) {
        let mut choices = Vec::new();
        self.used
            .retain_mut(|used| match used.choose(limits, costs) {
                Ok(choice) => {
                    choices.push(choice);
                    true
                }
                Err(error) => {
                    warn(used.source.name(), &error);
                    self.current = None;
                    false
                }
            });
        let mut chosen: Vec<_> = choices.into_iter().enumerate().collect();
        chosen.retain(|(_, choice)| !matches!(choice, Choice::Plain { .. }));
        chosen.sort_by(|(_, a), (_, b)| b.worth().total_cmp(&a.worth()));
        if limits.rows >= self.widest.0.rows {
            self.widest = (limits, costs.clone());
        }
        tracing::trace!(?limits, ?costs, ?chosen, "how to guess");
        (self.chosen, self.limits, self.costs) = (chosen, limits, costs.clone());
    }

    /// The guesses of the next step, at most `room` of them, behind a text of `n_text` tokens and
    /// `ahead`, which is under way (`is_first`: nothing is).
    pub(in crate::planner) fn draft(
        &mut self,
        n_text: usize,
        ahead: &[Token],
        is_first: bool,
        room: usize,
    ) -> Drafted {
        let place = DraftPlace {
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
            let goes_behind = matches!(choice, Choice::Pipelined { .. });
            if !is_first && (self.current != Some(*at) || !goes_behind) {
                continue;
            }
            let used = &mut self.used[*at];
            match used.draft(choice, &place, &self.costs) {
                // Guesses may come with the next step only, behind the last token alone.
                Ok(Drafted::Guesses(tree)) if tree.is_empty() && !choice.starts_alone() => {}
                Ok(Drafted::Guesses(mut tree)) => {
                    // The shape was chosen when there may have been more room.
                    tree.truncate(room);
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

    /// The draft model's guesses came.
    pub(in crate::planner) fn model_drafted(&mut self, guesses: DraftTree, took: DraftTimes) {
        for used in &mut self.used {
            if let Some(model) = used.source.as_model()
                && let Some(probe) = model.take(guesses.clone(), took)
            {
                used.probe(&probe);
            }
        }
    }

    /// One guess of the draft model, to be compared with the text: none while it is in use.
    pub(in crate::planner) fn probe_wish(&mut self, n_text: usize) -> Option<DraftLimits> {
        self.model()?.probe_wish(n_text)
    }

    /// Whether a draft model guesses for this sequence.
    pub(in crate::planner) fn uses_model(&self) -> bool {
        let is_model = |used: &Used| matches!(used.source, Source::Model(_));
        self.used.iter().any(is_model)
    }

    /// What was asked of the draft model is forgotten.
    pub(in crate::planner) fn forget_wishes(&mut self) {
        if let Some(model) = self.model() {
            model.forget();
        }
    }

    fn model(&mut self) -> Option<&mut ModelSource> {
        self.used.iter_mut().find_map(|used| used.source.as_model())
    }

    /// What came of it, and what was to be expected by the costs as they are now.
    pub(in crate::planner) fn usage(&self) -> SpeculationUsage {
        let n_judged = |used: &Used| used.seen.iter().map(|&(_, all)| all).sum::<u32>();
        let best = self.used.iter().max_by_key(|used| n_judged(used));
        let best = best.filter(|used| n_judged(used) > 0);
        let (limits, costs) = &self.widest;
        SpeculationUsage {
            source: best.map_or("none", |used| used.source.name()),
            predicted_ratio: best.map_or(1.0, |used| used.predicted(*limits, costs)),
            ..self.usage.clone()
        }
    }
}

fn warn(source: &str, error: &dyn std::fmt::Display) {
    tracing::warn!("{source}: {error}: going on without it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_nonsense_is_left_out() {
        let available = Available {
            heads: Some(DraftKind::Medusa),
            model: false,
        };
        let params = SpeculationParams {
            source: DraftChoice::Medusa,
            ..SpeculationParams::default()
        };
        let mut speculator = Speculator::new(params, available, &[1, 2]);
        let probability = f32::NAN;
        speculator.take_guesses(&[vec![HeadGuess {
            token: 3,
            probability,
        }]]);
        let limits = ShapeLimits {
            rows: 4,
            in_flight: 1,
            depth: 3,
            branches: 1,
        };
        assert!(speculator.has_sources());
        speculator.choose(limits, &Arc::default());
        assert!(!speculator.has_sources());
    }
}
