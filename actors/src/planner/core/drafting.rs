//! Guesses: what is possible, what was cancelled, and who is asked for them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use jupiter_models::engine::{EngineParams, KeptStates};

use super::super::batching::WantedDraft;
use super::super::batching::budget::Backlog;
use super::super::batching::policy::auto::decode_batch_size;
use super::super::batching::step_times::CostsOf;
use super::super::drafting::{DRAFT_PATIENCE, MAX_LATE_DRAFTS};
use super::PlannerCore;
use crate::link::Address;
use crate::message::{CancelRows, DraftKind, DraftReply, DraftRequest, DrafterAssignment, Message};
use crate::speculation::shape::choose::ShapeLimits;
use crate::{NodeId, RequestId, StepId};

impl PlannerCore {
    /// Decides how the tokens after the texts of live sequences are guessed, which all got some.
    pub(super) fn choose_guesses(&mut self, ids: &[RequestId], now: Instant) {
        let guesses = |id: &&RequestId| {
            let live = self.live.get(id);
            live.is_some_and(|live| live.drafting.speculator.has_sources())
        };
        let ids: Vec<RequestId> = ids.iter().filter(guesses).copied().collect();
        if ids.is_empty() {
            return;
        }
        let progress = self.progress(now);
        let memory = self.batching.memory(&progress);
        let load = Backlog::of(&self.live, &BTreeSet::new(), &progress);
        let n_decoding = load.n_decoding.max(1);
        let size = decode_batch_size(&load, &memory, &self.batching.times);
        let most_rows = (memory.n_rows / size) as u32;
        let drafts = ids.iter().filter_map(|id| self.live.get(id));
        let drafts = drafts.map(|live| live.sequence.speculation.draft_max);
        let costs = Arc::new(self.batching.times.costs(&CostsOf {
            max_rows: drafts.max().unwrap_or(0).saturating_add(1).min(most_rows),
            context: load.context as u32,
            cells: memory.n_cells as u32,
            decode_batch_size: size as u32,
            n_batches: n_decoding.div_ceil(size) as u32,
        }));
        // What other streams fill needs no filling: guesses only wait for each other there.
        let n_free = ((load.n_stages + 1) / n_decoding).max(1) as u32;
        let branches = self.kv.n_draft_seqs() as u32 + 1;
        let mut wishes = Vec::new();
        for request in ids {
            let Some(live) = self.live.get_mut(&request) else {
                continue;
            };
            let (n_text, n_left) = (live.sequence.tokens.len(), live.sequence.n_left() as u32);
            let params = &live.sequence.speculation;
            let rows = params.draft_max.saturating_add(1).min(n_left);
            let limits = ShapeLimits {
                rows: rows.min(most_rows).max(1),
                in_flight: params.in_flight.unwrap_or(n_free).clamp(1, n_free),
                depth: n_left.saturating_sub(1),
                branches,
            };
            let speculator = &mut live.drafting.speculator;
            speculator.choose(limits, &costs);
            let probe = speculator.probe_wish(n_text);
            wishes.extend(probe.map(|limits| WantedDraft { request, limits }));
        }
        self.ask_drafter(wishes, now);
    }

    /// Tells the stages that what is under way of a live sequence is dead.
    pub(super) fn cancel_rows(&mut self, id: RequestId, live_from_step: StepId) {
        self.flight.cancel(id);
        let Some(live) = self.live.get(&id) else {
            return;
        };
        let cancel = CancelRows {
            epoch: self.cluster.epoch,
            seq: live.seq,
            live_from: live.steps.generation(),
            live_from_step,
        };
        let nodes: BTreeSet<&NodeId> = self.cluster.stages.iter().map(|s| &s.node).collect();
        let told = nodes.into_iter().map(|node| {
            let to = Address::Node(node.clone());
            (to, Message::Cancel(cancel))
        });
        self.outbox.extend(told);
    }

    /// A source that computes is gone: answers go on without it. For good where it `failed`.
    pub(super) fn drafts_down(
        &mut self,
        node: &NodeId,
        source: DraftKind,
        failed: bool,
        why: &str,
    ) {
        tracing::warn!(%node, "no guesses by {source}: {why}");
        self.sources.down(source, failed);
        for live in self.live.values_mut() {
            live.drafting.speculator.restrict(self.sources.available);
        }
    }

    /// The draft model guesses what cannot be, or nothing.
    fn draft_model_failed(&mut self, why: &str) {
        let draft = self.config.draft.as_ref();
        let node = draft.map_or(&self.config.head, |draft| &draft.node).clone();
        self.drafts_down(&node, DraftKind::Model, true, why);
    }

    /// Whether the draft model is on `node`.
    pub(super) fn drafts_on(&self, node: &NodeId) -> bool {
        let draft = self.config.draft.as_ref();
        draft.is_some_and(|draft| draft.node == *node)
    }

    /// The draft model and its node, where both are there.
    pub(super) fn drafter_assignment(&self) -> Option<(NodeId, DrafterAssignment)> {
        let draft = self.config.draft.as_ref()?;
        let is_there = !self.sources.model_failed && self.cluster.nodes.contains(&draft.node);
        is_there.then(|| {
            let assignment = DrafterAssignment {
                draft: draft.model.clone(),
                engine: EngineParams {
                    n_seq_max: self.config.n_parallel,
                    keeps_states: KeptStates::None,
                    ..self.config.engine.clone()
                },
            };
            (draft.node.clone(), assignment)
        })
    }

    /// The draft model reads a prompt while the stages compute it.
    pub(super) fn tell_drafter(&mut self, id: RequestId) {
        let live = self.live.get_mut(&id);
        let request = live.and_then(|live| live.drafting.tell(&live.sequence.tokens));
        if let Some(request) = request {
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
            && !self.cluster.nodes.contains(&draft.node)
        {
            let node = &draft.node;
            tracing::warn!(%node, "no guesses by the draft model: its node is not there (--draft-node)");
        }
    }

    /// Asks the draft model for guesses.
    pub(super) fn ask_drafter(&mut self, wishes: Vec<WantedDraft>, now: Instant) {
        for wanted in wishes {
            if let Some(live) = self.live.get_mut(&wanted.request) {
                let text = live.text_ahead();
                let request = live.drafting.wish(text, wanted.limits, now);
                self.send_draft(request);
            }
        }
    }

    /// Guesses of the draft model came.
    pub(in crate::planner) fn drafted(&mut self, reply: &DraftReply, now: Instant) {
        if let Some(live) = self.live.get_mut(&reply.request) {
            let n_text = live.text_ahead().len();
            if let Err(error) = live.drafting.take(reply, n_text, now) {
                self.draft_model_failed(&error.to_string());
            }
        }
        self.pump(now);
    }

    /// Nobody waits for guesses for ever.
    pub(super) fn give_up_wishes(&mut self, now: Instant) {
        let late = self
            .live
            .values_mut()
            .map(|live| live.drafting.give_up(now));
        let n_late = late.filter(|&is_late| is_late).count() as u32;
        self.sources.count_late(n_late);
        if self.sources.is_too_late() {
            let why = format!(
                "{MAX_LATE_DRAFTS} times it gave no guess in {} s",
                DRAFT_PATIENCE.as_secs()
            );
            self.draft_model_failed(&why);
        }
    }
}
