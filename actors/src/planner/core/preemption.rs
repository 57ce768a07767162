//! Cells as tokens come. When they end, the sequence that is cheapest to lose gives up its slot: it waits
//! in the queue in its old place, and comes back with its accepted tokens, as after a fault. What it had
//! computed stays in the prompt cache until others need it.
//!
//! Nobody loses its cells more than [`MAX_PREEMPTIONS`] times: after that it begins only where all that it
//! may become fits beside all others of its kind, and gives up nothing any more.

use super::super::cluster::State;
use super::super::fault;
use super::super::live::Live;
use super::super::sequence::Sequence;
use super::PlannerCore;
use crate::{RequestId, StepId};

/// How often a sequence may be preempted: each time it computes its text again, if others took all of
/// its cells.
pub(super) const MAX_PREEMPTIONS: u32 = 3;

/// How a sequence leaves its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// It comes back: what is under way of its prompt goes on.
    Preempted,
    /// For good. Whether what it has computed stays for who goes on from it.
    Ended { is_kept: bool },
}

impl PlannerCore {
    /// Gives all that may send a row of their text the cell for it, those that are first first.
    pub(super) fn make_room(&mut self) {
        let lacks = |live: &Live| {
            let n = live.n_next()?;
            (n > self.kv.len(live.seq)).then_some((live.sequence.turn, live.sequence.id))
        };
        let mut lacking: Vec<_> = self.live.values().filter_map(lacks).collect();
        lacking.sort_unstable();
        for (_, id) in lacking {
            while let Some(live) = self.live.get(&id) {
                let n = live.sequence.tokens.len();
                if self.kv.take(live.seq, n) {
                    break;
                }
                let Some(cheapest) = self.cheapest() else {
                    tracing::error!(request = %id, "no cell is left, and nobody has one to give up");
                    break;
                };
                self.preempt(cheapest);
            }
        }
        // Guesses are worth more than what somebody may ask again.
        let due = self.live.values().filter(|live| live.is_due());
        let n_guesses: usize = due
            .map(|live| live.drafting.speculator.n_rows().saturating_sub(1))
            .sum();
        self.kv.evict(n_guesses);
    }

    /// The sequence that costs least to lose: the last in the order of all.
    fn cheapest(&self) -> Option<RequestId> {
        let may_go = |live: &&Live| !gives_up_nothing(&live.sequence);
        let cheapest = self.live.values().filter(may_go);
        let cheapest = cheapest.max_by_key(|live| live.sequence.turn);
        cheapest.map(|live| live.sequence.id)
    }

    /// Whether it may begin, where it gives up nothing any more: all that it may become fits beside all
    /// others of its kind.
    pub(super) fn fits_for_good(&self, sequence: &Sequence) -> bool {
        if !gives_up_nothing(sequence) {
            return true;
        }
        let live = self.live.values().map(|live| &live.sequence);
        let all = live.filter(|s| gives_up_nothing(s)).chain([sequence]);
        let n_most: usize = all.map(|s| s.n_max).sum();
        n_most <= self.config.engine.n_ctx as usize
    }

    fn preempt(&mut self, id: RequestId) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        tracing::debug!(request = %id, n_tokens = live.sequence.tokens.len(), "preempted");
        live.sequence.n_preempted += 1;
        self.n_preempted += 1;
        if let Some(mut live) = self.take_out(id, Leaves::Preempted) {
            live.sequence.drafting = Some(live.drafting);
            self.queue.put_back(live.sequence);
        }
    }

    /// A live sequence without a slot waits for one.
    pub(super) fn wait_again(&mut self, id: RequestId) {
        if let Some(mut live) = self.live.remove(&id) {
            live.sequence.drafting = Some(live.drafting);
            self.queue.put_back(live.sequence);
        }
    }

    /// Takes a live sequence out of its slot: what is under way is cancelled, but for chunks that it or
    /// others need, and what others wait for goes over to them.
    pub(super) fn take_out(&mut self, id: RequestId, leaves: Leaves) -> Option<Live> {
        fault::point();
        let is_running = self.cluster.state == State::Running;
        let oldest = self.flight.oldest();
        let live = self.live.get_mut(&id)?;
        let has_steps = live.steps.n_steps() > 0;
        let n_before_chunks = live
            .n_before_chunks()
            .filter(|_| leaves != Leaves::Preempted);
        let has_dead_chunks =
            n_before_chunks.is_some_and(|n| !self.kv.needs_rows(live.seq, n, oldest));
        if has_dead_chunks {
            live.drop_chunks();
        }
        let mut leaving = live.leaving(leaves != Leaves::Ended { is_kept: false });
        if (has_steps || has_dead_chunks) && is_running {
            let next = self.flight.next_step();
            let live_from = if has_dead_chunks {
                next
            } else {
                StepId::default()
            };
            self.cancel_rows(id, live_from);
        }
        self.flight.disown(id);
        if !is_running {
            leaving.tokens.clear();
        }
        self.hand_over(id, leaving.tokens.len());
        let seq = self.live.get(&id)?.seq;
        self.kv.leave(seq, leaving);
        self.live.remove(&id)
    }

    /// Those that were to be forked from a sequence that ends get the `n_computed` cells that it has. What
    /// is not computed yet, the one that shares most computes for all.
    fn hand_over(&mut self, id: RequestId, n_computed: usize) {
        let Some(live) = self.live.get(&id) else {
            return;
        };
        let (src, base) = (live.seq, live.base);
        let n_of_base = base.map_or(0, |_| live.n_shared);
        let waiting = self.live.values().filter(|live| live.base == Some(src));
        let mut waiting: Vec<_> = waiting.map(|l| (l.n_shared, l.sequence.id)).collect();
        waiting.sort_unstable();
        let (mut heir, mut n_of_heir) = (None, None);
        for (n_shared, id) in waiting.into_iter().rev() {
            let Some(live) = self.live.get_mut(&id) else {
                continue;
            };
            match (heir, base) {
                (Some(heir), _) if n_shared > n_computed.max(n_of_base) => {
                    live.rebase(heir, n_shared);
                    n_of_heir = Some(n_shared);
                }
                // It waits itself for another.
                (_, Some(base)) => live.rebase(base, n_shared.min(n_of_base)),
                _ => {
                    let n = n_shared.min(n_computed);
                    live.inherit(n);
                    if n > 0 {
                        self.kv.fork(src, live.seq, n);
                    }
                }
            }
            heir.get_or_insert(live.seq);
        }
        // A state is forked where it stops: there for the one that shares least, then for the next that waits. A
        // point further on for those that do not wait yet is given up.
        let n_of_heir = n_of_heir.filter(|_| self.kv.has_state());
        let mut live = self.live.values_mut();
        if let (Some(n), Some(heir)) = (n_of_heir, live.find(|live| Some(live.seq) == heir)) {
            heir.fork_point = Some(heir.fork_point.map_or(n, |own| own.min(n)));
        }
    }
}

/// Whether it was preempted so often that it keeps its cells.
fn gives_up_nothing(sequence: &Sequence) -> bool {
    sequence.n_preempted >= MAX_PREEMPTIONS
}
