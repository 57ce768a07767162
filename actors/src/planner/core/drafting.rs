//! Guesses: what is possible, what was cancelled, and who is asked for them.

use std::time::{Duration, Instant};

use jupiter_models::SequenceId;
use jupiter_models::engine::EngineParams;

use super::super::schedule::Wanted;
use super::super::sequence::Sequence;
use super::super::step_times::CostsOf;
use super::PlannerCore;
use crate::NodeId;
use crate::link::Address;
use crate::message::{CancelRows, DraftKind, DraftReply, DraftRequest, DrafterAssignment, Message};
use crate::speculation::shape::choose::ShapeLimits;

/// How long an answer waits for a guess: the end of a long prompt on a slow node. Then it goes on
/// without.
const DRAFT_PATIENCE: Duration = Duration::from_secs(2);
/// Guesses that came too late, after which no more are asked for.
const MAX_LATE_DRAFTS: u32 = 3;

impl PlannerCore {
    /// The generation that the next holder of a slot begins with.
    pub(super) fn generation_of(&self, seq: SequenceId) -> u32 {
        let generation = self.generations.get(seq.0 as usize);
        generation.copied().unwrap_or_default()
    }

    /// All slots begin anew in a new epoch.
    pub(super) fn forget_generations(&mut self) {
        let (first, end) = (self.config.branch_slots().end, self.config.engine.n_seq_max);
        self.generations = vec![0; end as usize];
        self.spare = (first..end).map(SequenceId).collect();
    }

    /// Decides how the tokens after the text of a live sequence are guessed.
    pub(super) fn choose_guesses(&mut self, at: usize, now: Instant) {
        let sequence = &self.live[at];
        if !sequence.speculator.has_sources() {
            return;
        }
        let n_decoding = self.live.iter().filter(|s| s.has_answer()).count().max(1);
        let n_alike = self.n_alike();
        let n_stages = self.stages.len();
        let n_left = (sequence.n_max - sequence.tokens.len()) as u32;
        let params = sequence.speculator.params();
        // What other streams fill needs no filling: guesses only wait for each other there.
        let n_free = ((n_stages + 1) / n_decoding).max(1) as u32;
        let max_rows = (params.draft_max.saturating_add(1))
            .min(n_left)
            .min((self.pacing.largest() / n_alike) as u32)
            .max(1);
        let limits = ShapeLimits {
            rows: max_rows,
            in_flight: params.in_flight.unwrap_or(n_free).clamp(1, n_free),
            depth: n_left.saturating_sub(1),
            branches: self.spare.len() as u32 + 1,
        };
        let costs = self.times.costs(&CostsOf {
            max_rows,
            context: sequence.tokens.len() as u32,
            cells: self.n_cells() as u32,
            n_alike: n_alike as u32,
            n_batches: n_decoding.div_ceil(n_alike) as u32,
        });
        let sequence = &mut self.live[at];
        sequence.speculator.choose(limits, costs);
        let wish = sequence.speculator.probe_wish(sequence.tokens.len());
        let request = sequence.request;
        let probe = wish.map(|limits| Wanted { request, limits });
        self.ask_drafter(probe.into_iter().collect(), now);
    }

    /// Tells the stages that what is under way of a live sequence is dead.
    pub(super) fn cancel_rows(&mut self, at: usize) {
        let sequence = &self.live[at];
        self.flight.cancel(sequence.request);
        let cancel = CancelRows {
            epoch: self.epoch,
            seq: sequence.seq,
            live_from: sequence.steps.generation(),
        };
        let mut told = Vec::new();
        for stage in &self.stages {
            if !told.contains(&&stage.node) {
                told.push(&stage.node);
                let to = Address::Node(stage.node.clone());
                self.outbox.push((to, Message::Cancel(cancel)));
            }
        }
    }

    /// A source that computes is gone: answers go on without it.
    pub(super) fn drafts_down(&mut self, node: &NodeId, source: DraftKind, why: &str) {
        match source {
            DraftKind::Medusa => self.available.medusa = false,
            DraftKind::Model => self.available.model = false,
        }
        tracing::warn!(%node, "no guesses by {source}: {why}");
        for sequence in &mut self.live {
            sequence.speculator.restrict(self.available);
        }
    }

    /// A source that computes is gone for good: a draft model is not loaded again.
    pub(super) fn drafts_failed(&mut self, node: &NodeId, source: DraftKind, why: &str) {
        self.draft_failed |= source == DraftKind::Model;
        self.drafts_down(node, source, why);
    }

    /// The draft model guesses what cannot be, or nothing.
    fn draft_model_failed(&mut self, why: &str) {
        let draft = self.config.draft.as_ref();
        let node = draft.map_or(&self.config.head, |draft| &draft.node).clone();
        self.drafts_failed(&node, DraftKind::Model, why);
    }

    /// Whether the draft model is on `node`.
    pub(super) fn drafts_on(&self, node: &NodeId) -> bool {
        let draft = self.config.draft.as_ref();
        draft.is_some_and(|draft| draft.node == *node)
    }

    /// The draft model and its node, where both are there.
    pub(super) fn drafter_assignment(&self) -> Option<(NodeId, DrafterAssignment)> {
        let draft = self.config.draft.as_ref();
        let draft = draft.filter(|draft| !self.draft_failed && self.nodes.contains(&draft.node));
        draft.map(|draft| {
            let assignment = DrafterAssignment {
                draft: draft.model.clone(),
                engine: EngineParams {
                    n_seq_max: self.config.n_parallel,
                    keeps_states: false,
                    ..self.config.engine.clone()
                },
            };
            (draft.node.clone(), assignment)
        })
    }

    /// The draft model reads the newest prompt while the stages compute it.
    pub(super) fn tell_drafter(&mut self) {
        let newest = self.live.last_mut();
        if let Some(request) = newest.and_then(Sequence::tell_drafter) {
            self.send_draft(request);
        }
    }

    fn send_draft(&mut self, request: DraftRequest) {
        if let Some(draft) = &self.config.draft {
            let to = Address::Node(draft.node.clone());
            self.outbox.push((to, Message::Draft(request)));
        }
    }

    /// Says where a draft model is missing.
    pub(super) fn look_for_drafter(&self) {
        if let Some(draft) = &self.config.draft
            && !self.nodes.contains(&draft.node)
        {
            let node = &draft.node;
            tracing::warn!(%node, "no guesses by the draft model: its node is not there (--draft-node)");
        }
    }

    /// Asks the draft model for guesses.
    pub(super) fn ask_drafter(&mut self, wishes: Vec<Wanted>, now: Instant) {
        for wanted in wishes {
            let sequence = self.live.iter_mut().find(|s| s.request == wanted.request);
            if let Some(sequence) = sequence {
                let request = sequence.wish(wanted.limits, now);
                self.send_draft(request);
            }
        }
    }

    /// Guesses of the draft model came.
    pub(in crate::planner) fn drafted(&mut self, reply: &DraftReply, now: Instant) {
        let sequence = self.live.iter_mut().find(|s| s.request == reply.request);
        if let Some(sequence) = sequence
            && let Err(error) = sequence.take_guesses(reply, now)
        {
            self.draft_model_failed(&error.to_string());
        }
        self.pump(now);
    }

    /// Nobody waits for guesses for ever.
    pub(super) fn give_up_wishes(&mut self, now: Instant) {
        for sequence in &mut self.live {
            let since = sequence.wished_since();
            if since.is_some_and(|since| now.duration_since(since) > DRAFT_PATIENCE) {
                sequence.give_up_wish();
                self.n_late_drafts += 1;
            }
        }
        if self.n_late_drafts >= MAX_LATE_DRAFTS && !self.draft_failed {
            let why = format!(
                "{MAX_LATE_DRAFTS} times it gave no guess in {} s",
                DRAFT_PATIENCE.as_secs()
            );
            self.draft_model_failed(&why);
        }
    }
}
