//! What a block is told of texts, step by step.

#![allow(clippy::unwrap_used)]

use jupiter_models::Row;
use jupiter_models::engine::Logits;

use super::*;
use crate::message::DraftRows;
use crate::speculation::accept::Next;

const TEXT: SequenceId = SequenceId(0);
const FORK: SequenceId = SequenceId(1);
const BRANCH: SequenceId = SequenceId(2);

/// A step of `seq`: `n_prompt` rows from `pos` on that nobody judges, then a root and `n_guesses` of which
/// `n_right` are accepted. Tokens are their positions, the state at one is a hundred more.
fn step(
    guesser: &mut Guesser,
    kv_ops: Vec<KvOp>,
    (seq, pos, n_prompt): (SequenceId, u32, u32),
    (n_guesses, n_right): (usize, usize),
) {
    let n_rows = n_prompt + 1 + n_guesses as u32;
    let rows = (0..n_rows).map(|at| Row {
        seq_ids: if at < n_prompt {
            vec![seq]
        } else {
            vec![seq, BRANCH]
        },
        pos: pos + at,
        token: (pos + at) as Token,
        wants_logits: at >= n_prompt,
    });
    let header = StepHeader {
        kv_ops,
        rows: rows.collect(),
        drafts: vec![DraftRows {
            seq,
            generation: 0,
            first_row: n_prompt,
            parents: (0..n_guesses as u16).collect(),
            n_places: 1,
        }],
        ..StepHeader::default()
    };
    let logits = Logits {
        n_rows: 1 + n_guesses,
        n_vocab: 1,
        data: vec![0.0; 1 + n_guesses],
        states: RowStates {
            rows: (0..n_rows).collect(),
            data: (0..n_rows).map(|at| (100 + pos + at) as f32).collect(),
        },
    };
    guesser.take_step(&header, &logits.states);
    let draft = JudgedDraft::new(&header, &header.drafts[0], &logits).unwrap();
    let next = Next {
        token: (pos + n_prompt) as Token + n_right as Token + 1,
        ends: false,
    };
    let path = (0..n_right).collect();
    guesser.take_verdict(&draft, &Verdict { path, next });
}

fn take(guesser: &mut Guesser, seq: SequenceId) -> std::ops::Range<u32> {
    let rows = guesser.text(seq).unwrap().untold.take();
    for ((pos, &token), &state) in (rows.pos..).zip(&rows.tokens).zip(&rows.states) {
        assert_eq!((token, state), (pos as Token, (99 + pos) as f32));
    }
    rows.pos..rows.end()
}

#[test]
fn prompts_and_what_was_accepted_are_told() {
    let mut guesser = Guesser::new(true);
    let branch = |src, dst, len| KvOp::Fork { src, dst, len };
    step(&mut guesser, Vec::new(), (TEXT, 0, 5), (0, 0));
    step(
        &mut guesser,
        vec![branch(TEXT, BRANCH, 6)],
        (TEXT, 6, 0),
        (3, 2),
    );
    // The text goes on where the branch that was right ends.
    let won = vec![branch(BRANCH, TEXT, 9), KvOp::Drop { seq: BRANCH }];
    step(&mut guesser, won, (TEXT, 9, 0), (0, 0));
    assert_eq!(take(&mut guesser, TEXT), 1..11);
    assert!(!guesser.untold.as_ref().unwrap().contains_key(&BRANCH));
    step(&mut guesser, Vec::new(), (TEXT, 10, 0), (2, 0));
    assert_eq!(take(&mut guesser, TEXT), 11..12);
}

#[test]
fn a_text_that_begins_as_another_does_is_told_of_it() {
    let mut guesser = Guesser::new(true);
    step(&mut guesser, Vec::new(), (TEXT, 0, 7), (0, 0));
    let fork = KvOp::Fork {
        src: TEXT,
        dst: FORK,
        len: 4,
    };
    // It may ride with a step of others.
    step(&mut guesser, vec![fork], (TEXT, 8, 0), (0, 0));
    step(&mut guesser, Vec::new(), (FORK, 4, 2), (0, 0));
    assert_eq!(take(&mut guesser, FORK), 1..8);
    assert_eq!(take(&mut guesser, TEXT), 1..10);
    // Another text in the slot.
    step(
        &mut guesser,
        vec![KvOp::Drop { seq: FORK }],
        (FORK, 0, 2),
        (0, 0),
    );
    assert_eq!(take(&mut guesser, FORK), 1..4);
}

#[test]
fn a_shortened_text_goes_on_from_there() {
    let mut guesser = Guesser::new(true);
    step(&mut guesser, Vec::new(), (TEXT, 0, 7), (0, 0));
    let to = |pos| KvOp::Truncate { seq: TEXT, pos };
    // Refused guesses only.
    step(&mut guesser, vec![to(8)], (TEXT, 8, 0), (0, 0));
    assert_eq!(take(&mut guesser, TEXT), 1..10);
    step(&mut guesser, vec![to(4)], (TEXT, 4, 1), (0, 0));
    let rows = guesser.text(TEXT).unwrap().untold.take();
    assert_eq!((rows.pos, rows.end()), (4, 7));
}

#[test]
fn idle_texts_go_first_where_there_are_too_many() {
    let mut guesser = Guesser::new(true);
    for seq in 0..20 {
        step(
            &mut guesser,
            Vec::new(),
            (SequenceId(10 + seq), 0, 400),
            (0, 0),
        );
    }
    let texts = guesser.untold.as_ref().unwrap();
    let n_rows: usize = texts.values().map(|text| text.untold.len()).sum();
    assert!(
        (MOST_UNTOLD / 2..=MOST_UNTOLD + 1).contains(&n_rows),
        "{n_rows}"
    );
    assert!(texts[&SequenceId(29)].untold.len() > 0);
}

#[test]
fn nothing_is_kept_of_who_never_asks() {
    let mut guesser = Guesser::new(true);
    let mut wishless = |pos| {
        let header = StepHeader {
            rows: vec![Row {
                seq_ids: vec![TEXT],
                pos,
                token: pos as Token,
                wants_logits: true,
            }],
            drafts: vec![DraftRows {
                seq: TEXT,
                generation: 0,
                first_row: 0,
                parents: Vec::new(),
                n_places: 0,
            }],
            ..StepHeader::default()
        };
        let logits = Logits {
            n_rows: 1,
            n_vocab: 1,
            data: vec![0.0],
            states: RowStates {
                rows: vec![0],
                data: vec![1.0],
            },
        };
        let draft = JudgedDraft::new(&header, &header.drafts[0], &logits).unwrap();
        let next = Next {
            token: pos as Token + 1,
            ends: false,
        };
        guesser.take_verdict(&draft, &Verdict { path: vec![], next });
        guesser.text(TEXT).unwrap().untold.len()
    };
    let kept: Vec<usize> = (0..MOST_UNASKED as u32 + 9).map(&mut wishless).collect();
    assert_eq!(kept[MOST_UNASKED - 2], MOST_UNASKED - 1);
    assert!(kept[MOST_UNASKED - 1..].iter().all(|&n| n == 0));
}
