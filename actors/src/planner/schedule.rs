//! Which rows go into the next micro-batch. Pure functions.
//!
//! Prompts go as rows of chunks, so that stages overlap (Jupiter, section on intra-sequence
//! pipelined prefill); [`Pacing`] chooses how long each is, and how many sequences decode in one
//! micro-batch follows from what steps take. A micro-batch mixes both, decode rows first. While
//! others decode, a chunk goes only when at most one went since each of them had its last row: so a
//! row that is ready waits for one chunk of a prompt at most, and two stages still never wait for
//! work.

use std::cmp::Reverse;

use jupiter_models::{KvOp, Row, SequenceId};

use super::pacing::Pacing;
use super::sequence::{Role, Sequence};
use super::speculator::{DraftWish, Drafted};
use super::step_times::StepTimes;
use crate::message::{DraftRows, SequenceOpen};
use crate::planning::cost::Work;
use crate::speculation::draft::DraftLimits;
use crate::speculation::inflight::SentRows;
use crate::speculation::tree::DraftTree;
use crate::{RequestId, StepId};

/// The rows of one step, and what stages and Verifier have to know for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) kv_ops: Vec<KvOp>,
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

/// What a step is made from beside the sequences.
pub(super) struct Resources<'a> {
    pub(super) pacing: &'a Pacing,
    pub(super) times: &'a StepTimes,
    /// Sequences that decode in one micro-batch, when each has as many rows as the others.
    pub(super) n_alike: usize,
    /// Micro-batches under way in which sequences decode.
    pub(super) n_decoding: usize,
    pub(super) n_stages: usize,
    /// Cells of the KV cache that are in use.
    pub(super) n_cells: usize,
    /// The step.
    pub(super) step: StepId,
    /// Sequences of the KV cache for the branches of trees.
    pub(super) spare: &'a mut Vec<SequenceId>,
    /// What the draft model is to guess.
    pub(super) wishes: Vec<Wanted>,
}

/// What the draft model is to guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) request: RequestId,
    pub(super) limits: DraftLimits,
}

/// Takes the next rows from the sequences and marks them as sent. Nothing when no row is due.
pub(super) fn next_batch(
    sequences: &mut [Sequence],
    resources: &mut Resources<'_>,
) -> Option<MicroBatch> {
    let mut batch = MicroBatch::default();
    batch.work.cells = u32::try_from(resources.n_cells).unwrap_or(u32::MAX);
    // KV operations come before the rows of their step: what this one computes is forked later.
    let is_complete = |s: &&Sequence| s.role == Role::Shared && s.n_unsent() == 0;
    let bases: Vec<SequenceId> = sequences
        .iter()
        .filter(is_complete)
        .map(|s| s.seq)
        .collect();
    if !is_spread(sequences, resources) {
        take_drafts(sequences, resources, &mut batch);
    }
    let is_served = |s: &Sequence, batch: &MicroBatch| {
        let in_batch = batch.parts.iter().any(|part| part.request == s.request);
        in_batch || s.n_chunks_behind == 0
    };
    let may_prefill = sequences
        .iter()
        .filter(|s| s.is_answering())
        .all(|s| is_served(s, &batch));
    if may_prefill && take_chunks(sequences, &bases, resources, &mut batch) {
        for sequence in sequences.iter_mut().filter(|s| s.is_answering()) {
            let in_batch = batch
                .parts
                .iter()
                .any(|part| part.request == sequence.request);
            sequence.n_chunks_behind += u32::from(!in_batch);
        }
    }
    (!batch.rows.is_empty()).then_some(batch)
}

/// Whether the sequences that decode are under way in as many micro-batches as is best: one more would
/// only wait for the first stage, and be smaller than it need be.
fn is_spread(sequences: &[Sequence], resources: &Resources<'_>) -> bool {
    let n_decoding = sequences.iter().filter(|s| s.has_answer()).count();
    // Few sequences may have several steps of guesses under way each.
    let is_few = 2 * n_decoding <= resources.n_stages + 1;
    let n_batches = n_decoding.div_ceil(resources.n_alike.max(1));
    !is_few && resources.n_decoding >= n_batches
}

/// Takes the next rows of sequences that decode, those with the fewest steps under way first; as
/// many rows as are expected of `n_alike` sequences, so that micro-batches are even.
fn take_drafts(sequences: &mut [Sequence], resources: &mut Resources<'_>, batch: &mut MicroBatch) {
    let decoding = sequences.iter().filter(|s| s.has_answer());
    let rows: Vec<usize> = decoding.map(|s| s.speculator.n_rows()).collect();
    let mean = rows.iter().sum::<usize>() as f64 / rows.len().max(1) as f64;
    let mut rows_left = mean * resources.n_alike as f64;
    let is_due = |s: &Sequence| s.is_decoding() || s.may_go_ahead();
    let mut due: Vec<usize> = (0..sequences.len())
        .filter(|&at| is_due(&sequences[at]))
        .collect();
    // Those with many rows first, so that the others fill what is left.
    due.sort_by_key(|&at| {
        let sequence = &sequences[at];
        (
            sequence.steps.n_live(),
            Reverse(sequence.speculator.n_rows()),
        )
    });
    for at in due {
        let sequence = &mut sequences[at];
        let room = resources.pacing.largest() - batch.rows.len();
        if rows_left < 0.5 || room == 0 {
            return;
        }
        let guesses = match sequence.draft(room) {
            Drafted::Guesses(guesses) => guesses,
            Drafted::Later(wish) => {
                resources.want(sequence, wish);
                continue;
            }
        };
        if guesses.is_empty() && sequence.steps.n_live() > 0 {
            continue;
        }
        sequence.n_chunks_behind = 0;
        let n_before = batch.rows.len();
        take_draft(sequence, &guesses, resources, batch);
        rows_left -= (batch.rows.len() - n_before) as f64;
    }
}

impl Resources<'_> {
    fn want(&mut self, sequence: &Sequence, wish: DraftWish) {
        self.wishes.extend(wish.map(|limits| Wanted {
            request: sequence.request,
            limits,
        }));
    }
}

/// Adds the last token of the text, or what goes behind it, with `guesses`.
fn take_draft(
    sequence: &mut Sequence,
    guesses: &DraftTree,
    resources: &mut Resources<'_>,
    batch: &mut MicroBatch,
) {
    let n_spare = guesses.leaves().len().saturating_sub(1);
    let spare = resources
        .spare
        .split_off(resources.spare.len().saturating_sub(n_spare));
    let sent = sequence
        .steps
        .send(resources.step.0, &sequence.tokens, guesses, &spare);
    match sent {
        Ok(sent) => add_judged(sequence, sent, batch),
        Err(error) => {
            // The bounds of guesses were chosen so that this cannot be: without them there is less
            // speed, and the same text.
            tracing::error!(%error, "guesses that cannot be sent");
            resources.spare.extend(spare);
            let plain = DraftTree::new();
            let sent = sequence
                .steps
                .send(resources.step.0, &sequence.tokens, &plain, &[]);
            if let Ok(sent) = sent {
                add_judged(sequence, sent, batch);
            }
        }
    }
}

/// Adds rows that the Verifier judges; they are the last ones of the sequence's part.
fn add_judged(sequence: &mut Sequence, sent: SentRows, batch: &mut MicroBatch) {
    let n_rows = sent.rows.len();
    let context = match batch.parts.last() {
        // The end of a prompt: its chunk is computed at once.
        Some(part) if part.request == sequence.request => part.n_rows,
        _ => 0,
    };
    let pos = sent.rows.first().map_or(0, |row| row.pos as usize);
    batch.kv_ops.extend(sent.kv_ops);
    batch.drafts.push(DraftRows {
        seq: sequence.seq,
        generation: sent.generation,
        first_row: batch.rows.len() as u32,
        parents: sent.parents,
        wants_guesses: sequence.speculator.wants_guesses(),
    });
    batch.rows.extend(sent.rows);
    batch.work.rows += n_rows as u32;
    batch.work.logits += n_rows as u32;
    batch.work.row_context += n_rows as u64 * (pos - context) as u64;
    batch.opens.extend(sequence.open());
    sequence.n_sent = sequence.tokens.len();
    match batch.parts.last_mut() {
        Some(part) if part.request == sequence.request => {
            part.n_rows += n_rows;
            part.is_judged = true;
        }
        _ => batch.parts.push(Part {
            request: sequence.request,
            n_rows,
            is_prompt: false,
            is_judged: true,
            is_dead: false,
        }),
    }
}

/// Fills the micro-batch with prompts; true when there was one. First come, first served: a prompt
/// is finished before the next begins. Branches begin when `bases` has what they share, not all in
/// one micro-batch: so the stages overlap, and the first ones decode while others begin.
fn take_chunks(
    sequences: &mut [Sequence],
    bases: &[SequenceId],
    resources: &mut Resources<'_>,
    batch: &mut MicroBatch,
) -> bool {
    let n_before = batch.rows.len();
    let beginning = sequences.iter().filter(|s| s.is_begun(bases));
    let n_beginning: usize = beginning.map(Sequence::n_own).sum();
    let share = n_before + resources.times.rows_at_once(n_beginning as u32) as usize;
    for sequence in sequences.iter_mut() {
        let room = resources.pacing.largest() - batch.rows.len();
        if room == 0 {
            break;
        }
        if sequence.is_beginning(bases) && batch.rows.len() >= share {
            continue;
        }
        if sequence.n_unsent() > 0 && !sequence.is_decoding() && sequence.may_begin(bases) {
            batch.kv_ops.extend(sequence.fork());
            let chunk = sequence.next_chunk(resources.pacing, room);
            take_chunk(sequence, chunk, resources, batch);
            // A planned chunk goes as it was planned: the next prompt begins with the next one.
            if sequence.n_unsent() > 0 {
                break;
            }
        }
    }
    batch.rows.len() > n_before
}

/// Adds the next tokens of the text, at most `at_most`; the last token is judged.
fn take_chunk(
    sequence: &mut Sequence,
    at_most: usize,
    resources: &mut Resources<'_>,
    batch: &mut MicroBatch,
) {
    let (begin, n_text) = (sequence.n_sent, sequence.tokens.len());
    let end = n_text.min(begin + at_most);
    let is_prompt = n_text == sequence.n_prompt;
    let n_judged = usize::from(sequence.role != Role::Shared);
    let unjudged = begin..end.min(n_text - n_judged);
    batch.parts.push(Part {
        request: sequence.request,
        n_rows: unjudged.len(),
        is_prompt,
        is_judged: false,
        is_dead: false,
    });
    batch.work.rows += unjudged.len() as u32;
    batch.work.row_context += unjudged.len() as u64 * begin as u64;
    batch.rows.extend(unjudged.map(|pos| Row {
        seq_ids: vec![sequence.seq],
        pos: pos as u32,
        token: sequence.tokens[pos],
        wants_logits: false,
    }));
    sequence.n_sent = end;
    if end == n_text && n_judged > 0 {
        take_draft(sequence, &DraftTree::new(), resources, batch);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use jupiter_models::{SequenceId, Token};
    use tokio::sync::mpsc;

    use super::super::speculator::Available;
    use super::*;
    use crate::request::GenerateRequest;
    use crate::speculation::accept::Next;
    use crate::speculation::inflight::StepVerdict;

    fn sequence(id: u32, n_prompt: usize, n_generated: usize, n_sent: usize) -> Sequence {
        let request = GenerateRequest::new(RequestId(u64::from(id)), vec![1; n_prompt]);
        let mut sequence = Sequence::new(
            (SequenceId(id), 0),
            request,
            mpsc::unbounded_channel().0,
            1000,
            Available::default(),
            Instant::now(),
        );
        sequence.tokens.extend(std::iter::repeat_n(2, n_generated));
        sequence.n_sent = n_sent;
        sequence
    }

    /// Half of those that decode.
    fn n_alike(sequences: &[Sequence]) -> usize {
        let decoding = sequences.iter().filter(|s| s.has_answer());
        decoding.count().div_ceil(2)
    }

    fn next(sequences: &mut [Sequence], pacing: &Pacing) -> Option<MicroBatch> {
        let mut spare = Vec::new();
        let times = StepTimes::new(None, 2);
        let mut resources = Resources {
            pacing,
            times: &times,
            n_alike: n_alike(sequences),
            n_decoding: 0,
            n_stages: 2,
            n_cells: 0,
            step: StepId(0),
            spare: &mut spare,
            wishes: Vec::new(),
        };
        next_batch(sequences, &mut resources)
    }

    /// The verdict on what was sent last: nothing was guessed, and `token` is next.
    fn accept(sequence: &mut Sequence, token: Token) {
        let verdict = StepVerdict {
            pos: sequence.tokens.len() as u32 - 1,
            last: 0,
            next: Next { token, ends: false },
        };
        sequence.steps.report(0, Some(verdict)).unwrap();
        sequence.tokens.push(token);
    }

    /// (sequence, first position, rows, whether the last wants logits) of each part.
    fn parts(batch: &MicroBatch) -> Vec<(u32, u32, usize, bool)> {
        let mut at = 0;
        let part = |part: &Part| {
            let rows = &batch.rows[at..at + part.n_rows];
            at += part.n_rows;
            (
                rows[0].seq_ids[0].0,
                rows[0].pos,
                part.n_rows,
                rows[part.n_rows - 1].wants_logits,
            )
        };
        batch.parts.iter().map(part).collect()
    }

    #[test]
    fn a_prompt_goes_in_chunks_and_only_its_last_row_wants_logits() {
        let mut all = [sequence(0, 10, 0, 0)];
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut all, &Pacing::equal(4)))
            .map(|b| parts(&b))
            .collect();
        assert_eq!(
            sent,
            [[(0, 0, 4, false)], [(0, 4, 4, false)], [(0, 8, 2, true)]]
        );
    }

    #[test]
    fn decoding_sequences_spread_over_the_stages() {
        let mut all: Vec<_> = (0..5).map(|id| sequence(id, 3, 1, 3)).collect();
        let sent: Vec<_> = std::iter::from_fn(|| next(&mut all, &Pacing::equal(8)))
            .map(|b| b.rows.len())
            .collect();
        assert_eq!(sent, [3, 2]);
    }

    #[test]
    fn decode_rows_come_before_a_prompt_and_share_its_chunk() {
        let mut all = [sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)];
        let batch = next(&mut all, &Pacing::equal(8)).unwrap();
        assert_eq!(parts(&batch), [(1, 4, 1, true), (0, 0, 7, false)]);
    }

    #[test]
    fn a_row_that_is_ready_waits_for_one_chunk_of_a_prompt_at_most() {
        let pacing = Pacing::equal(8);
        let mut all = [sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)];
        let next_parts = |all: &mut [Sequence]| next(all, &pacing).map(|b| parts(&b));
        assert_eq!(
            next_parts(&mut all).unwrap().len(),
            2,
            "a row, and a chunk with it"
        );
        assert_eq!(
            next_parts(&mut all).unwrap(),
            [(0, 7, 8, false)],
            "one more chunk"
        );
        assert_eq!(
            next_parts(&mut all),
            None,
            "the next one waits for the next row"
        );
        accept(&mut all[1], 2);
        let again = next_parts(&mut all).unwrap();
        assert_eq!(again[0], (1, 5, 1, true));
    }

    #[test]
    fn the_work_of_a_step_knows_the_cells_in_use() {
        let mut all = [sequence(0, 10, 0, 4)];
        let mut spare = Vec::new();
        let times = StepTimes::new(None, 2);
        let mut resources = Resources {
            pacing: &Pacing::equal(4),
            times: &times,
            n_alike: 1,
            n_decoding: 0,
            n_stages: 2,
            n_cells: 100,
            step: StepId(0),
            spare: &mut spare,
            wishes: Vec::new(),
        };
        let batch = next_batch(&mut all, &mut resources).unwrap();
        assert_eq!(batch.work, Work::chunk(4, 4).among(100));
    }

    #[test]
    fn the_verifier_is_told_once_in_an_epoch() {
        let mut all = [sequence(0, 3, 0, 0)];
        assert_eq!(next(&mut all, &Pacing::equal(8)).unwrap().opens.len(), 1);
        accept(&mut all[0], 5);
        assert_eq!(next(&mut all, &Pacing::equal(8)).unwrap().opens.len(), 0);
        all[0].rewind();
        let replayed = next(&mut all, &Pacing::equal(8)).unwrap();
        assert_eq!(replayed.rows.len(), 4);
        assert_eq!(replayed.opens[0].generated, [5]);
    }
}
