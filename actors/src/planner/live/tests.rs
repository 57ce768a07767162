#![allow(clippy::unwrap_used)]

use jupiter_models::Token;
use tokio::sync::mpsc::unbounded_channel;

use super::super::core::tests::config;
use super::*;
use crate::RequestId;
use crate::request::GenerateRequest;

fn place(seq: u32, n_shared: usize, base: Option<SequenceId>) -> Place {
    Place {
        seq: SequenceId(seq),
        generation: 3,
        n_shared,
        base,
    }
}

fn live(sequence: Sequence, place: Place) -> Live {
    Live::new(sequence, place, Available::default(), Instant::now())
}

fn asked(prompt: Vec<Token>) -> Sequence {
    let request = GenerateRequest::new(RequestId(1), prompt);
    let sink = unbounded_channel().0;
    Sequence::new(request, sink, &config(), Instant::now())
}

/// Sends chunks of at most 2 rows until none is due; their sizes.
fn prefill(live: &mut Live) -> Vec<usize> {
    let chunking = Chunking::equal(2);
    std::iter::from_fn(|| {
        let n_rows = live.next_chunk(Some(&chunking), 2)?;
        live.chunk_sent(StepId(0), live.n_computed + n_rows);
        Some(n_rows)
    })
    .collect()
}

#[test]
fn a_fork_begins_with_the_cells_of_its_base() {
    let base = SequenceId(0);
    let mut fork = live(asked((0..7).collect()), place(3, 4, Some(base)));
    assert_eq!(prefill(&mut fork), [0; 0], "not before it is forked");
    assert_eq!(fork.fork(), Some((base, 4)));
    assert_eq!(fork.fork(), None, "once");
    assert_eq!(prefill(&mut fork), [2, 1]);
    assert_eq!((&fork.phase, fork.n_own()), (&Phase::Decode, 3));
    assert_eq!(
        fork.computing().text.len(),
        6,
        "its last row may be left out"
    );
    fork.rewind();
    assert_eq!((fork.n_computed, fork.sequence.n_replays), (0, 1));
    fork.put(place(4, 4, Some(base)));
    assert_eq!((&fork.phase, fork.seq), (&Phase::Unforked, SequenceId(4)));
}

#[test]
fn what_a_base_has_not_computed_its_heir_does() {
    let mut heir = live(asked(vec![1; 6]), place(1, 5, Some(SequenceId(0))));
    assert_eq!(heir.sequence.n_cached, 5);
    heir.inherit(2);
    assert_eq!((heir.sequence.n_cached, heir.n_own()), (2, 4));
    assert_eq!(prefill(&mut heir), [2, 2]);
}

#[test]
fn a_replayed_answer_goes_on_with_its_last_token() {
    let mut live = live(asked(vec![1; 3]), place(0, 0, None));
    assert_eq!(prefill(&mut live), [2, 1]);
    assert_eq!(live.phase, Phase::Decode);
    assert!(!live.is_answering(), "it has no token yet");
    live.sequence.tokens.extend([8, 9]);
    live.rewind();
    assert_eq!(prefill(&mut live), [2, 2]);
    assert!(live.is_due());
    assert_eq!(live.n_next(), Some(5));
}

#[test]
fn what_is_under_way_is_not_left_behind() {
    let mut live = live(asked(vec![1; 8]), place(0, 0, None));
    live.chunk_sent(StepId(0), 4);
    live.chunk_sent(StepId(1), 6);
    live.chunks_reported(StepId(0));
    assert_eq!(live.n_before_chunks(), Some(4));
    let left = live.leaving(true);
    assert_eq!((left.tokens.len(), left.last_chunk), (6, Some(StepId(1))));
    live.drop_chunks();
    let left = live.leaving(true);
    assert_eq!((left.tokens.len(), left.last_chunk), (4, None));
    live.chunk_sent(StepId(2), 8);
    let text: Vec<Token> = live.sequence.tokens.clone();
    live.steps.send(2, &text, &Default::default(), &[]).unwrap();
    let left = live.leaving(true);
    assert_eq!(left.tokens.len(), 7, "nor is what is judged");
    assert!(left.generation > 3);
}
