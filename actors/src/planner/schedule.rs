//! Which rows go into the next micro-batch. Pure functions.
//!
//! Prompts go as rows of chunks, so that stages overlap (Jupiter, section on intra-sequence
//! pipelined prefill); how long each is and how many sequences decode in one micro-batch is
//! [`Pacing`]'s choice. A micro-batch mixes both, decode rows first. While others decode, a chunk
//! goes only when at most one went since each of them had its last row: so a row that is ready
//! waits for one chunk of a prompt at most, and two stages still never wait for work.

use jupiter_models::Row;

use super::pacing::Pacing;
use super::sequence::Sequence;
use crate::RequestId;
use crate::message::SequenceOpen;
use crate::planning::cost::Work;

/// The rows of one step, and what the Verifier has to know for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) rows: Vec<Row>,
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
}

/// Takes the next rows from the sequences and marks them as sent. Nothing when no row is due.
pub(super) fn next_batch(sequences: &mut [Sequence], pacing: &Pacing) -> Option<MicroBatch> {
    let mut batch = MicroBatch::default();
    let n_decoding = sequences.iter().filter(|s| s.has_answer()).count();
    for sequence in sequences
        .iter_mut()
        .filter(|s| s.is_decoding())
        .take(pacing.decode_rows(n_decoding))
    {
        sequence.n_chunks_behind = 0;
        take_rows(sequence, 1, &mut batch);
    }
    let is_served = |s: &Sequence, batch: &MicroBatch| {
        let in_batch = batch.parts.iter().any(|part| part.request == s.request);
        in_batch || s.n_chunks_behind == 0
    };
    let may_prefill = sequences
        .iter()
        .filter(|s| s.is_answering())
        .all(|s| is_served(s, &batch));
    if may_prefill && take_chunks(sequences, pacing, &mut batch) {
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

/// Fills the micro-batch with prompts; true when there was one. First come, first served: a prompt
/// is finished before the next begins.
fn take_chunks(sequences: &mut [Sequence], pacing: &Pacing, batch: &mut MicroBatch) -> bool {
    let n_before = batch.rows.len();
    for sequence in sequences.iter_mut() {
        let room = pacing.largest() - batch.rows.len();
        if room == 0 {
            break;
        }
        if sequence.n_unsent() > 0 && !sequence.is_decoding() {
            let chunk = sequence.next_chunk(pacing, room);
            take_rows(sequence, chunk, batch);
            // A planned chunk goes as it was planned: the next prompt begins with the next one.
            if sequence.n_unsent() > 0 {
                break;
            }
        }
    }
    batch.rows.len() > n_before
}

fn take_rows(sequence: &mut Sequence, at_most: usize, batch: &mut MicroBatch) {
    let (begin, end) = (sequence.n_sent, sequence.tokens.len());
    let is_prompt = sequence.tokens.len() == sequence.n_prompt;
    let n_rows = (end - begin).min(at_most);
    for pos in begin..begin + n_rows {
        batch.rows.push(Row {
            seq_ids: vec![sequence.seq],
            pos: pos as u32,
            token: sequence.tokens[pos],
            wants_logits: pos + 1 == end,
        });
    }
    batch.work.rows += n_rows as u32;
    batch.work.row_context += n_rows as u64 * begin as u64;
    sequence.n_sent += n_rows;
    if sequence.n_sent == end {
        batch.work.logits += 1;
        batch.opens.extend(sequence.open());
    }
    batch.parts.push(Part {
        request: sequence.request,
        n_rows,
        is_prompt,
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use jupiter_models::SequenceId;
    use tokio::sync::mpsc;

    use super::super::sequence::Waiting;
    use super::*;
    use crate::request::GenerateRequest;

    fn sequence(id: u32, n_prompt: usize, n_generated: usize, n_sent: usize) -> Sequence {
        let request = GenerateRequest::new(RequestId(u64::from(id)), vec![1; n_prompt]);
        let waiting = Waiting {
            request,
            sink: mpsc::unbounded_channel().0,
            since: Instant::now(),
        };
        let mut sequence = Sequence::new(SequenceId(id), waiting, 1000, Instant::now());
        sequence.tokens.extend(std::iter::repeat_n(2, n_generated));
        sequence.n_sent = n_sent;
        sequence
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
        let sent: Vec<_> = std::iter::from_fn(|| next_batch(&mut all, &Pacing::equal(4, 2)))
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
        let sent: Vec<_> = std::iter::from_fn(|| next_batch(&mut all, &Pacing::equal(8, 2)))
            .map(|b| b.rows.len())
            .collect();
        assert_eq!(sent, [3, 2]);
    }

    #[test]
    fn decode_rows_come_before_a_prompt_and_share_its_chunk() {
        let mut all = [sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)];
        let batch = next_batch(&mut all, &Pacing::equal(8, 2)).unwrap();
        assert_eq!(parts(&batch), [(1, 4, 1, true), (0, 0, 7, false)]);
    }

    #[test]
    fn a_row_that_is_ready_waits_for_one_chunk_of_a_prompt_at_most() {
        let pacing = Pacing::equal(8, 2);
        let mut all = [sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)];
        let next = |all: &mut [Sequence]| next_batch(all, &pacing).map(|b| parts(&b));
        assert_eq!(
            next(&mut all).unwrap().len(),
            2,
            "a row, and a chunk with it"
        );
        assert_eq!(
            next(&mut all).unwrap(),
            [(0, 7, 8, false)],
            "one more chunk"
        );
        assert_eq!(next(&mut all), None, "the next one waits for the next row");
        all[1].tokens.push(2);
        let again = next(&mut all).unwrap();
        assert_eq!(again[0], (1, 5, 1, true));
    }

    #[test]
    fn the_verifier_is_told_once_in_an_epoch() {
        let mut all = [sequence(0, 3, 0, 0)];
        assert_eq!(
            next_batch(&mut all, &Pacing::equal(8, 1))
                .unwrap()
                .opens
                .len(),
            1
        );
        all[0].tokens.push(5);
        assert_eq!(
            next_batch(&mut all, &Pacing::equal(8, 1))
                .unwrap()
                .opens
                .len(),
            0
        );
        all[0].rewind();
        let replayed = next_batch(&mut all, &Pacing::equal(8, 1)).unwrap();
        assert_eq!(replayed.rows.len(), 4);
        assert_eq!(replayed.opens[0].generated, [5]);
    }
}
