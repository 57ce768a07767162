//! Which rows go into the next micro-batch.
//!
//! [`budget`](budget::budget) says how many rows of each kind, [`Chunking`] how a prompt is cut for the
//! stages (Jupiter, section on intra-sequence pipelined prefill), and the queue's order who is first. A
//! micro-batch mixes both kinds, decode rows first. While others decode, a chunk goes only when at most
//! one went since each of them had its last row: so a row that is ready waits for one chunk of a prompt
//! at most, and two stages still never wait for work.

pub(super) mod batch_size;
pub(super) mod budget;
pub(super) mod chunking;
pub(super) mod step_times;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jupiter_models::{Row, SequenceId};

use self::budget::{Load, Memory, budget};
use self::chunking::Chunking;
use self::step_times::StepTimes;
use super::drafting::speculator::Drafted;
use super::kv::Kv;
use super::live::{Live, Phase};
use crate::message::{DraftRows, SequenceOpen};
use crate::planning::cost::Work;
use crate::speculation::draft::DraftLimits;
use crate::speculation::inflight::SentRows;
use crate::speculation::tree::DraftTree;
use crate::{RequestId, StepId};

/// How work is cut for the stages, and what it takes.
pub(super) struct Batching {
    pub(super) chunking: Chunking,
    /// What decode steps take.
    pub(super) times: StepTimes,
}

/// The rows of one step, and what stages and Verifier have to know for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) rows: Vec<Row>,
    pub(super) drafts: Vec<DraftRows>,
    pub(super) opens: Vec<SequenceOpen>,
    /// Rows per request, in the order of the rows.
    pub(super) parts: Vec<Part>,
    /// What it costs by the profiles.
    pub(super) work: Work,
}

/// A request's part of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The step that is made.
    pub(super) step: StepId,
    pub(super) n_stages: usize,
    /// Micro-batches under way in which sequences decode.
    pub(super) n_decode_steps: usize,
    /// Cells of the KV cache that are in use.
    pub(super) n_cells: usize,
}

/// What the draft model is to guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
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
) -> (Option<MicroBatch>, Vec<Wanted>) {
    // KV operations come before the rows of their step: what this one computes is forked later.
    let bases: BTreeSet<SequenceId> = live
        .values()
        .filter(|live| live.phase == Phase::Base)
        .map(|live| live.seq)
        .collect();
    let memory = batching.memory(progress.n_cells);
    let load = Load::of(live, &bases, progress);
    let budget = budget(&load, &memory, &batching.times);
    let mut filling = Filling {
        batching,
        kv,
        step: progress.step,
        batch: MicroBatch::default(),
        wishes: Vec::new(),
    };
    filling.batch.work.cells = u32::try_from(progress.n_cells).unwrap_or(u32::MAX);
    filling.take_drafts(live, budget.decode_rows);
    if filling.may_prefill(live) && filling.take_chunks(live, &bases, budget.beginning_rows) {
        filling.note_chunk(live);
    }
    let Filling { batch, wishes, .. } = filling;
    ((!batch.rows.is_empty()).then_some(batch), wishes)
}

impl Batching {
    pub(super) fn memory(&self, n_cells: usize) -> Memory {
        Memory {
            n_cells,
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
    wishes: Vec<Wanted>,
}

impl Filling<'_> {
    fn room(&self) -> usize {
        self.batching.chunking.largest() - self.batch.rows.len()
    }

    fn has(&self, live: &Live) -> bool {
        let request = live.sequence.id;
        self.batch.parts.iter().any(|part| part.request == request)
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
            let guesses = match live.draft(self.room()) {
                Drafted::Guesses(guesses) => guesses,
                Drafted::Later(wish) => {
                    let request = live.sequence.id;
                    let wanted = wish.map(|limits| Wanted { request, limits });
                    self.wishes.extend(wanted);
                    continue;
                }
            };
            if guesses.is_empty() && live.steps.n_live() > 0 {
                continue;
            }
            live.phase = Phase::Decode { n_chunks_behind: 0 };
            let n_before = self.batch.rows.len();
            self.take_draft(live, &guesses);
            rows_left -= (self.batch.rows.len() - n_before) as f64;
        }
    }

    /// Whether none of those that decode has waited for a chunk already.
    fn may_prefill(&self, live: &BTreeMap<RequestId, Live>) -> bool {
        let has_waited = |live: &Live| match live.phase {
            Phase::Decode { n_chunks_behind } => {
                live.is_answering() && n_chunks_behind > 0 && !self.has(live)
            }
            _ => false,
        };
        !live.values().any(has_waited)
    }

    /// Those that decode, but not in this micro-batch, wait for its chunk.
    fn note_chunk(&self, live: &mut BTreeMap<RequestId, Live>) {
        for live in live.values_mut() {
            let waits = live.is_answering() && !self.has(live);
            if let Phase::Decode { n_chunks_behind } = &mut live.phase {
                *n_chunks_behind += u32::from(waits);
            }
        }
    }

    /// Fills the micro-batch with chunks; true when there was one. A prompt is finished before the next
    /// begins. Branches begin when `bases` has what they share, only `beginning_rows` in one micro-batch:
    /// so the stages overlap, and the first ones decode while others begin.
    fn take_chunks(
        &mut self,
        live: &mut BTreeMap<RequestId, Live>,
        bases: &BTreeSet<SequenceId>,
        beginning_rows: usize,
    ) -> bool {
        let n_before = self.batch.rows.len();
        let may_go = |live: &Live| match live.phase {
            Phase::Unforked => live.base.is_some_and(|base| bases.contains(&base)),
            Phase::Prefill { .. } => true,
            Phase::Decode { .. } | Phase::Base => false,
        };
        let mut due: Vec<&mut Live> = live.values_mut().filter(|live| may_go(live)).collect();
        due.sort_by_key(|live| live.sequence.turn);
        for live in due {
            let room = self.room();
            if room == 0 {
                break;
            }
            let is_late = self.batch.rows.len() >= n_before + beginning_rows;
            if live.phase == Phase::Unforked && is_late {
                continue;
            }
            if let Some((base, n_shared)) = live.fork() {
                self.kv.fork(base, live.seq, n_shared);
            }
            let Some(n_rows) = live.next_chunk(&self.batching.chunking, room) else {
                continue;
            };
            self.take_chunk(live, n_rows);
            // A planned chunk goes as it was planned: the next prompt begins with the next one.
            if live.n_uncomputed() > 0 {
                break;
            }
        }
        self.batch.rows.len() > n_before
    }

    /// Adds the next `n_rows` tokens of the text; the last one of all is judged.
    fn take_chunk(&mut self, live: &mut Live, n_rows: usize) {
        let sequence = &live.sequence;
        let (begin, n_text) = (live.n_computed, sequence.tokens.len());
        let end = begin + n_rows;
        let n_judged = usize::from(!sequence.is_base());
        let unjudged = begin..end.min(n_text - n_judged);
        let batch = &mut self.batch;
        batch.parts.push(Part {
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
        if end == n_text && n_judged > 0 {
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
            wants_guesses: speculator.wants_guesses(),
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
            _ => batch.parts.push(Part {
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
