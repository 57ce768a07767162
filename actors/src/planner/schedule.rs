//! Which rows go into the next micro-batch. Pure functions.
//!
//! Prompts go as rows of chunks, so that stages overlap (Jupiter, section on intra-sequence
//! pipelined prefill). Sequences that decode are spread over as many micro-batches as there are
//! stages (gLLM: `#D = #RD / #PP_depth`), so that no stage waits for all of them. A micro-batch
//! mixes both, decode rows first: a long prompt delays others by one chunk at most.

use jupiter_models::Row;

use super::sequence::Sequence;
use crate::RequestId;
use crate::message::SequenceOpen;

/// The rows of one step, and what the Verifier has to know for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct MicroBatch {
    pub(super) rows: Vec<Row>,
    pub(super) opens: Vec<SequenceOpen>,
    /// Rows per request, in the order of the rows.
    pub(super) parts: Vec<Part>,
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
pub(super) fn next_batch(
    sequences: &mut [Sequence],
    n_stages: usize,
    chunk: usize,
) -> Option<MicroBatch> {
    let mut batch = MicroBatch::default();
    let n_decoding = sequences
        .iter()
        .filter(|s| s.tokens.len() > s.n_prompt)
        .count();
    let n_decode_rows = n_decoding.div_ceil(n_stages.max(1)).min(chunk);
    for sequence in sequences
        .iter_mut()
        .filter(|s| s.is_decoding())
        .take(n_decode_rows)
    {
        take_rows(sequence, 1, &mut batch);
    }
    // First come, first served: a prompt is finished before the next begins.
    for sequence in sequences.iter_mut() {
        let room = chunk - batch.rows.len();
        if room == 0 {
            break;
        }
        if sequence.n_unsent() > 0 && !sequence.is_decoding() {
            take_rows(sequence, room, &mut batch);
        }
    }
    (!batch.rows.is_empty()).then_some(batch)
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
    sequence.n_sent += n_rows;
    if sequence.n_sent == end {
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
        let sent: Vec<_> = std::iter::from_fn(|| next_batch(&mut all, 2, 4))
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
        let sent: Vec<_> = std::iter::from_fn(|| next_batch(&mut all, 2, 8))
            .map(|b| b.rows.len())
            .collect();
        assert_eq!(sent, [3, 2]);
    }

    #[test]
    fn decode_rows_come_before_a_prompt_and_share_its_chunk() {
        let mut all = [sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)];
        let batch = next_batch(&mut all, 2, 8).unwrap();
        assert_eq!(parts(&batch), [(1, 4, 1, true), (0, 0, 7, false)]);
    }

    #[test]
    fn the_verifier_is_told_once_in_an_epoch() {
        let mut all = [sequence(0, 3, 0, 0)];
        assert_eq!(next_batch(&mut all, 1, 8).unwrap().opens.len(), 1);
        all[0].tokens.push(5);
        assert_eq!(next_batch(&mut all, 1, 8).unwrap().opens.len(), 0);
        all[0].rewind();
        let replayed = next_batch(&mut all, 1, 8).unwrap();
        assert_eq!(replayed.rows.len(), 4);
        assert_eq!(replayed.opens[0].generated, [5]);
    }
}
