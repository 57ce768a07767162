//! Which rows go into the next micro-batch.
//!
//! [`budget`](budget::budget) says how many rows of each kind by one of the rules of [`policy`],
//! [`Chunking`] how a prompt alone is cut for the stages (Jupiter, section on intra-sequence pipelined
//! prefill), and the queue's order who is first. A micro-batch mixes both kinds, decode rows first.

pub(super) mod batch_size;
pub(super) mod budget;
pub(super) mod chunking;
pub(super) mod policy;
pub(super) mod step_times;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jupiter_models::{Row, SequenceId};

use self::budget::{Backlog, Budget, Memory, Prefill, budget};
use self::chunking::Chunking;
use self::policy::Scheduling;
use self::step_times::StepTimes;
use super::drafting::speculator::Drafted;
use super::kv::Kv;
use super::live::{Live, Phase};
use super::queue::Turn;
use crate::message::{DraftRows, SequenceOpen};
use crate::planning::cost::Work;
use crate::speculation::draft::DraftLimits;
use crate::speculation::inflight::SentRows;
use crate::speculation::tree::DraftTree;
use crate::{RequestId, StepId};

/// How work is cut for the stages, and what it takes.
pub(super) struct Batching {
    pub(super) scheduling: Scheduling,
    pub(super) chunking: Chunking,
    /// Cells of the KV cache.
    pub(super) n_ctx: usize,
    /// What steps take.
    pub(super) times: StepTimes,
}

/// The rows of one step, and what stages and Verifier have to know for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) rows: Vec<Row>,
    pub(super) drafts: Vec<DraftRows>,
    pub(super) opens: Vec<SequenceOpen>,
    /// Rows per request, in the order of the rows.
    pub(super) parts: Vec<RequestRows>,
    /// What it costs by the profiles.
    pub(super) work: Work,
}

/// A request's part of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestRows {
    pub(super) request: RequestId,
    pub(super) n_rows: usize,
    /// Whether the rows belong to the prompt, not to an accepted token.
    pub(super) is_prompt: bool,
    /// Whether the Verifier judges its last rows.
    pub(super) is_judged: bool,
    /// Whether they were cancelled.
    pub(super) is_dead: bool,
}

/// Where the steps are.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The step that is made.
    pub(super) step: StepId,
    pub(super) n_stages: usize,
    /// Micro-batches under way, the oldest first.
    pub(super) under_way: Vec<UnderWay>,
    /// Micro-batches under way in which sequences decode.
    pub(super) n_decode_steps: usize,
    /// Cells of the KV cache that are in use.
    pub(super) n_cells: usize,
    /// Of these, the ones that no live sequence has.
    pub(super) n_cached: usize,
    /// Rows of prompts that wait for a slot, where the schedule goes by them.
    pub(super) n_queued: usize,
}

/// A micro-batch under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UnderWay {
    pub(super) work: Work,
    /// For how long it has been, in nanoseconds.
    pub(super) since_ns: u64,
}

/// What the draft model is to guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedDraft {
    pub(super) request: RequestId,
    pub(super) limits: DraftLimits,
}

/// Takes the next rows from the sequences and marks them as sent; none when no row is due. Beside them,
/// what the draft model is asked for.
pub(super) fn next_batch(
    live: &mut BTreeMap<RequestId, Live>,
    kv: &mut Kv,
    batching: &Batching,
    progress: &Progress,
) -> (Option<MicroBatch>, Vec<WantedDraft>) {
    // KV operations come before the rows of their step: what this one computes is forked later.
    fork_states(live, kv);
    let may_begin = may_begin(live);
    let memory = batching.memory(progress);
    let load = Backlog::of(live, &may_begin, progress);
    let budget = budget(&batching.scheduling, &load, &memory, &batching.times);
    let mut filling = Filling {
        batching,
        kv,
        step: progress.step,
        batch: MicroBatch::default(),
        wishes: Vec::new(),
    };
    filling.batch.work.cells = u32::try_from(progress.n_cells).unwrap_or(u32::MAX);
    filling.take_drafts(live, budget.decode_rows);
    filling.take_chunks(live, &may_begin, &budget);
    let Filling { batch, wishes, .. } = filling;
    ((!batch.rows.is_empty()).then_some(batch), wishes)
}

/// States go to those who wait for them, and are kept, before the sequences that have them go on.
fn fork_states(live: &mut BTreeMap<RequestId, Live>, kv: &mut Kv) {
    let reached: Vec<_> = live
        .values_mut()
        .filter_map(|live| Some((live.reach_fork_point()?, live.seq, live.sequence.whose())))
        .collect();
    for (tokens, seq, whose) in reached {
        let mut later = None;
        for next in live.values_mut().filter(|live| live.base == Some(seq)) {
            if next.n_shared > tokens.len() {
                later = Some(later.map_or(next.n_shared, |n: usize| n.min(next.n_shared)));
            } else if let Some((base, n_shared)) = next.fork() {
                kv.fork(base, next.seq, n_shared);
            }
        }
        if let Some(live) = live.values_mut().find(|live| live.seq == seq) {
            live.fork_point = later;
        }
        kv.keep(seq, tokens, whose);
    }
}

/// The sequences whose bases have computed, in steps that are sent, what both begin with.
pub(super) fn may_begin(live: &BTreeMap<RequestId, Live>) -> BTreeSet<RequestId> {
    let unforked = live.values().filter(|live| live.base.is_some());
    if unforked.clone().next().is_none() {
        return BTreeSet::new();
    }
    let n_computed = live.values().map(|live| (live.seq, live.n_computed));
    let n_computed: BTreeMap<SequenceId, usize> = n_computed.collect();
    let is_there = |live: &&Live| {
        let n = live.base.and_then(|base| n_computed.get(&base));
        n.is_some_and(|&n| n >= live.n_shared)
    };
    unforked
        .filter(is_there)
        .map(|live| live.sequence.id)
        .collect()
}

/// The earliest turn of those for which each sequence still has to compute something.
fn turns_of_waiting(
    live: &BTreeMap<RequestId, Live>,
    may_begin: &BTreeSet<RequestId>,
) -> BTreeMap<SequenceId, Turn> {
    let is_waiting = |live: &&Live| live.base.is_some() && !may_begin.contains(&live.sequence.id);
    let waiting: Vec<&Live> = live.values().filter(is_waiting).collect();
    let bases: BTreeMap<_, _> = waiting.iter().map(|live| (live.seq, live.base)).collect();
    let mut turns = BTreeMap::new();
    for live in waiting {
        // Its base may wait itself.
        let next = |seq: &SequenceId| bases.get(seq).copied().flatten();
        for seq in std::iter::successors(live.base, next).take(bases.len()) {
            let turn = turns.entry(seq).or_insert(live.sequence.turn);
            *turn = live.sequence.turn.min(*turn);
        }
    }
    turns
}

impl Batching {
    pub(super) fn memory(&self, progress: &Progress) -> Memory {
        Memory {
            n_cells: progress.n_cells,
            n_cached: progress.n_cached,
            n_ctx: self.n_ctx,
            n_rows: self.chunking.largest(),
        }
    }
}

/// A micro-batch that is being filled.
struct Filling<'a> {
    batching: &'a Batching,
    kv: &'a mut Kv,
    step: StepId,
    batch: MicroBatch,
    wishes: Vec<WantedDraft>,
}

impl Filling<'_> {
    fn room(&self) -> usize {
        self.batching.chunking.largest() - self.batch.rows.len()
    }

    /// Takes the next rows of sequences that decode, about `n_rows` in all, so that micro-batches are
    /// even; those with the fewest steps under way first.
    fn take_drafts(&mut self, live: &mut BTreeMap<RequestId, Live>, n_rows: f64) {
        let mut rows_left = n_rows;
        let mut due: Vec<&mut Live> = live.values_mut().filter(|live| live.is_due()).collect();
        // Those with many rows first, so that the others fill what is left.
        due.sort_by_key(|live| {
            let n_rows = live.drafting.speculator.n_rows();
            (live.steps.n_live(), Reverse(n_rows), live.sequence.turn)
        });
        for live in due {
            if rows_left < 0.5 || self.room() == 0 {
                return;
            }
            let n_rows = self.room().min(self.n_rows_with_cells(live));
            if n_rows == 0 {
                continue;
            }
            let guesses = match live.draft(n_rows) {
                Drafted::Guesses(guesses) => guesses,
                Drafted::Later(wish) => {
                    let request = live.sequence.id;
                    let wanted = wish.map(|limits| WantedDraft { request, limits });
                    self.wishes.extend(wanted);
                    continue;
                }
            };
            if guesses.is_empty() && live.steps.n_live() > 0 {
                continue;
            }
            let n_before = self.batch.rows.len();
            self.take_draft(live, &guesses);
            rows_left -= (self.batch.rows.len() - n_before) as f64;
        }
    }

    /// Rows behind its text and those under way for which there are cells.
    fn n_rows_with_cells(&self, live: &Live) -> usize {
        let n_sent = live.sequence.tokens.len() - 1 + live.steps.n_rows();
        self.kv.n_within_reach(live.seq).saturating_sub(n_sent)
    }

    /// Fills the micro-batch with rows of prompts, in the order of the queue; what others wait for goes in
    /// their turn. What is forked begins when it is among those that `may_begin`, a few in one micro-batch.
    fn take_chunks(
        &mut self,
        live: &mut BTreeMap<RequestId, Live>,
        may_begin: &BTreeSet<RequestId>,
        budget: &Budget,
    ) {
        let n_before = self.batch.rows.len();
        let may_go = |live: &Live| match live.phase {
            Phase::Unforked => may_begin.contains(&live.sequence.id),
            Phase::Prefill { .. } => true,
            Phase::Decode => false,
        };
        let (chunking, most) = match budget.prefill {
            Prefill::Planned => (Some(&self.batching.chunking), usize::MAX),
            Prefill::AtMost(n_rows) => (None, n_rows),
        };
        let waiting = turns_of_waiting(live, may_begin);
        let mut due: Vec<&mut Live> = live.values_mut().filter(|live| may_go(live)).collect();
        due.sort_by_key(|live| {
            let (own, of_waiting) = (live.sequence.turn, waiting.get(&live.seq));
            of_waiting.map_or(own, |&turn| own.min(turn))
        });
        for live in due {
            let n_taken = self.batch.rows.len() - n_before;
            let room = self.room().min(most - n_taken);
            if room == 0 {
                break;
            }
            if live.phase == Phase::Unforked && n_taken >= budget.beginning_rows {
                continue;
            }
            if let Some((base, n_shared)) = live.fork() {
                self.kv.fork(base, live.seq, n_shared);
            }
            let Some(n_rows) = live.next_chunk(chunking, room) else {
                continue;
            };
            self.take_chunk(live, n_rows);
            // A planned chunk goes as it was planned: the next prompt begins with the next one.
            if live.n_uncomputed() > 0 {
                break;
            }
        }
    }

    /// Adds the next `n_rows` tokens of the text; the last one of all is judged.
    fn take_chunk(&mut self, live: &mut Live, n_rows: usize) {
        let sequence = &live.sequence;
        let (begin, n_text) = (live.n_computed, sequence.tokens.len());
        let end = begin + n_rows;
        let unjudged = begin..end.min(n_text - 1);
        let batch = &mut self.batch;
        batch.parts.push(RequestRows {
            request: sequence.id,
            n_rows: unjudged.len(),
            is_prompt: !sequence.has_answer(),
            is_judged: false,
            is_dead: false,
        });
        batch.work.rows += unjudged.len() as u32;
        batch.work.row_context += unjudged.len() as u64 * begin as u64;
        batch.rows.extend(unjudged.map(|pos| Row {
            seq_ids: vec![live.seq],
            pos: pos as u32,
            token: sequence.tokens[pos],
            wants_logits: false,
        }));
        live.chunk_sent(self.step, end);
        if end == n_text {
            self.take_draft(live, &DraftTree::new());
        }
    }

    /// Adds the last token of the text, or what goes behind it, with `guesses`.
    fn take_draft(&mut self, live: &mut Live, guesses: &DraftTree) {
        let n_lent = guesses.leaves().len().saturating_sub(1);
        let lent = self.kv.lend(n_lent);
        let (step, text) = (self.step.0, &live.sequence.tokens);
        match live.steps.send(step, text, guesses, &lent) {
            Ok(sent) => self.add_judged(live, sent),
            Err(error) => {
                // The bounds of guesses were chosen so that this cannot be: without them there is less
                // speed, and the same text.
                tracing::error!(%error, "guesses that cannot be sent");
                self.kv.take_back(&lent);
                if let Ok(sent) = live.steps.send(step, text, &DraftTree::new(), &[]) {
                    self.add_judged(live, sent);
                }
            }
        }
    }

    /// Adds rows that the Verifier judges; they are the last ones of the sequence's part.
    fn add_judged(&mut self, live: &mut Live, sent: SentRows) {
        self.kv.do_later(sent.kv_ops);
        let (request, batch) = (live.sequence.id, &mut self.batch);
        let n_rows = sent.rows.len();
        // What was refused of earlier guesses goes with this step.
        let n_cells = sent.rows.first().map_or(0, |row| row.pos as usize) + n_rows;
        if !self.kv.take(live.seq, n_cells) {
            tracing::error!(%request, n_cells, "rows without cells");
        }
        let context = match batch.parts.last() {
            // The end of a prompt: its chunk is computed at once.
            Some(part) if part.request == request => part.n_rows,
            _ => 0,
        };
        let pos = sent.rows.first().map_or(0, |row| row.pos as usize);
        let speculator = &mut live.drafting.speculator;
        batch.drafts.push(DraftRows {
            seq: live.seq,
            generation: sent.generation,
            first_row: batch.rows.len() as u32,
            parents: sent.parents,
            n_places: speculator.n_places(),
        });
        speculator.step_sent();
        batch.rows.extend(sent.rows);
        batch.work.rows += n_rows as u32;
        batch.work.logits += n_rows as u32;
        batch.work.row_context += n_rows as u64 * (pos - context) as u64;
        batch.opens.extend(live.open());
        live.n_computed = live.sequence.tokens.len();
        match batch.parts.last_mut() {
            Some(part) if part.request == request => {
                part.n_rows += n_rows;
                part.is_judged = true;
            }
            _ => batch.parts.push(RequestRows {
                request,
                n_rows,
                is_prompt: false,
                is_judged: true,
                is_dead: false,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
