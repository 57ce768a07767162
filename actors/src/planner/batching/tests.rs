#![allow(clippy::unwrap_used)]

use std::time::Instant;

use jupiter_models::Token;
use tokio::sync::mpsc;

use super::super::core::tests::config;
use super::super::drafting::speculator::Available;
use super::super::kv::Place;
use super::super::sequence::Sequence;
use super::*;
use crate::request::GenerateRequest;
use crate::speculation::accept::Next;
use crate::speculation::inflight::StepVerdict;

type All = BTreeMap<RequestId, Live>;

fn all(live: impl IntoIterator<Item = Live>) -> All {
    let live = live.into_iter();
    live.map(|live| (live.sequence.id, live)).collect()
}

fn sequence(id: u32, n_prompt: usize, n_generated: usize, n_computed: usize) -> Live {
    let request = GenerateRequest::new(RequestId(u64::from(id)), vec![1; n_prompt]);
    let (sink, now) = (mpsc::unbounded_channel().0, Instant::now());
    let sequence = Sequence::new(request, sink, &config(), now);
    let place = Place {
        seq: SequenceId(id),
        generation: 0,
        n_shared: n_computed,
        base: None,
    };
    let mut live = Live::new(sequence, place, Available::default(), now);
    live.sequence
        .tokens
        .extend(std::iter::repeat_n(2, n_generated));
    live.sequence.n_max = 1000;
    if n_generated > 0 {
        live.phase = Phase::Decode;
    }
    live
}

fn next_of(all: &mut All, chunking: Chunking, n_cells: usize) -> Option<MicroBatch> {
    let batching = Batching {
        scheduling: Scheduling::default(),
        n_ctx: 4096,
        chunking,
        times: StepTimes::new(None, 2),
    };
    let progress = Progress {
        step: StepId(0),
        n_stages: 2,
        under_way: Vec::new(),
        n_decode_steps: 0,
        n_cells,
        n_cached: 0,
        n_queued: 0,
    };
    let mut config = config();
    config.engine.n_ctx = 1000;
    next_batch(all, &mut Kv::new(&config), &batching, &progress).0
}

fn next(all: &mut All, largest: u32) -> Option<MicroBatch> {
    next_of(all, Chunking::equal(largest), 0)
}

/// The verdict on what was sent last: nothing was guessed, and `token` is next.
fn accept(all: &mut All, id: u64, token: Token) {
    let live = all.get_mut(&RequestId(id)).unwrap();
    let verdict = StepVerdict {
        pos: live.sequence.tokens.len() as u32 - 1,
        last: 0,
        next: Next { token, ends: false },
    };
    live.steps.report(0, Some(verdict)).unwrap();
    live.sequence.tokens.push(token);
}

/// (sequence, first position, rows, whether the last wants logits) of each part.
fn parts(batch: &MicroBatch) -> Vec<(u32, u32, usize, bool)> {
    let mut at = 0;
    let part = |part: &RequestRows| {
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
    let mut all = all([sequence(0, 10, 0, 0)]);
    let sent: Vec<_> = std::iter::from_fn(|| next(&mut all, 4))
        .map(|b| parts(&b))
        .collect();
    assert_eq!(
        sent,
        [[(0, 0, 4, false)], [(0, 4, 4, false)], [(0, 8, 2, true)]]
    );
}

#[test]
fn decoding_sequences_spread_over_the_stages() {
    let mut all = all((0..5).map(|id| sequence(id, 3, 1, 3)));
    let sent: Vec<_> = std::iter::from_fn(|| next(&mut all, 8))
        .map(|b| b.rows.len())
        .collect();
    assert_eq!(sent, [3, 2]);
}

#[test]
fn decode_rows_come_before_a_prompt_and_share_its_chunk() {
    let mut all = all([sequence(0, 100, 0, 0), sequence(1, 3, 2, 4)]);
    let batch = next(&mut all, 8).unwrap();
    assert_eq!(parts(&batch), [(1, 4, 1, true), (0, 0, 7, false)]);
}

#[test]
fn short_prompts_share_a_micro_batch_with_those_that_decode() {
    let prompts = [sequence(0, 6, 0, 0), sequence(1, 5, 0, 0)];
    let mut all = all(prompts.into_iter().chain([sequence(2, 3, 2, 4)]));
    let batch = next(&mut all, 64).unwrap();
    // Eight rows of prompts: all of the first, and what the second one has room for.
    let expected = [(2, 4, 1, true), (0, 0, 6, true), (1, 0, 2, false)];
    assert_eq!(parts(&batch), expected);
}

#[test]
fn the_work_of_a_step_knows_the_cells_in_use() {
    let mut all = all([sequence(0, 10, 0, 4)]);
    let batch = next_of(&mut all, Chunking::equal(4), 100).unwrap();
    assert_eq!(batch.work, Work::chunk(4, 4).among(100));
}

/// In the order of the queue.
fn in_turn<const N: usize>(live: [Live; N]) -> All {
    let mut queue = super::super::queue::Queue::default();
    for live in &live {
        let config = config();
        let request = GenerateRequest::new(live.sequence.id, vec![1; 6]);
        let (sink, now) = (mpsc::unbounded_channel().0, Instant::now());
        queue.push(Sequence::new(request, sink, &config, now), false);
    }
    let mut all = all(live);
    while let Some(sequence) = queue.pop_first(Instant::now()) {
        let live = all.get_mut(&sequence.id).unwrap();
        live.sequence.turn = sequence.turn;
    }
    all
}

#[test]
fn prompts_go_in_the_order_of_the_queue_whatever_their_ids() {
    let mut all = in_turn([sequence(5, 6, 0, 0), sequence(3, 6, 0, 0)]);
    let batch = next(&mut all, 8).unwrap();
    assert_eq!(parts(&batch), [(5, 0, 6, true), (3, 0, 2, false)]);
}

/// It goes by the turn of who waits for it, also where that one is waited for itself, and by its own again
/// when it has computed what they begin with.
#[test]
fn what_others_wait_for_goes_in_their_turn() {
    let waits_for = |id: u32, base: u32| {
        let mut live = sequence(id, 30, 0, 0);
        live.rebase(SequenceId(base), 20);
        live.phase = Phase::Unforked;
        live
    };
    let order = |n_computed: usize| {
        let base = sequence(1, 100, 0, n_computed);
        let other = sequence(2, 100, 0, 0);
        let mut all = in_turn([waits_for(4, 3), other, base, waits_for(3, 1)]);
        parts(&next(&mut all, 8).unwrap())[0].0
    };
    assert_eq!(order(10), 1);
    // The first one waits for the second still; that one may begin.
    assert_eq!(order(50), 3);
    let mut all = in_turn([waits_for(3, 1), sequence(1, 100, 0, 50)]);
    assert_eq!(parts(&next(&mut all, 8).unwrap())[0].0, 3);
}

#[test]
fn the_verifier_is_told_once_in_an_epoch() {
    let mut all = all([sequence(0, 3, 0, 0)]);
    assert_eq!(next(&mut all, 8).unwrap().opens.len(), 1);
    accept(&mut all, 0, 5);
    assert_eq!(next(&mut all, 8).unwrap().opens.len(), 0);
    all.get_mut(&RequestId(0)).unwrap().rewind();
    let replayed = next(&mut all, 8).unwrap();
    assert_eq!(replayed.rows.len(), 4);
    assert_eq!(replayed.opens[0].generated, [5]);
}

#[test]
fn chunks_of_a_few_rows_leave_nothing_to_plan() {
    assert!((1..4).all(|largest| super::chunking::grid(largest, 64).is_none()));
    assert!(super::chunking::grid(4, 64).is_some());
}
