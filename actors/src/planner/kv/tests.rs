#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

/// 3 slots of requests, 2 of branches, 2 of guesses.
fn kv(n_ctx: usize) -> Kv {
    Kv {
        n_ctx,
        slots: (0..7).map(|_| Slot::default()).collect(),
        requests: 0..3,
        branches: 3..5,
        ops: Vec::new(),
        n_left: 0,
    }
}

fn wanted(text: &[Token], n_cells: usize) -> Wanted<'_> {
    Wanted {
        text,
        follows: None,
        is_cached: true,
        n_cells,
    }
}

fn complete(tokens: &[Token]) -> Leaving {
    Leaving {
        tokens: tokens.to_vec(),
        is_cached: true,
        ..Leaving::default()
    }
}

/// A sequence of these tokens that has come and gone.
fn cache(kv: &mut Kv, tokens: &[Token]) -> SequenceId {
    let place = kv.admit(&wanted(tokens, tokens.len())).unwrap();
    kv.leave(place.seq, complete(tokens));
    kv.ops.clear();
    place.seq
}

fn cached(kv: &Kv) -> Vec<u32> {
    nodes(&kv.slots).map(|(seq, _)| seq.0).collect()
}

#[test]
fn the_longest_common_beginning_is_taken_but_never_the_whole_text() {
    let mut kv = kv(100);
    let (short, long): (Vec<Token>, Vec<Token>) = ((0..20).collect(), (50..80).collect());
    cache(&mut kv, &short);
    let seq = cache(&mut kv, &long);
    let text = &long[..25];
    let place = kv.admit(&wanted(text, 30)).unwrap();
    assert_eq!((place.seq, place.n_cached), (seq, 24));
    assert_eq!(kv.take_ops(), [KvOp::Truncate { seq, pos: 24 }]);
    // Little in common is not worth it.
    let place = kv.admit(&wanted(&[0, 1, 2, 9, 9], 5)).unwrap();
    assert_eq!(place.n_cached, 0);
}

#[test]
fn what_was_left_longest_ago_goes_first() {
    let mut kv = kv(30);
    for i in 0..3 {
        cache(&mut kv, &[i; 10]);
    }
    assert_eq!(cached(&kv), [0, 1, 2]);
    kv.admit(&wanted(&[9; 3], 5)).unwrap();
    assert_eq!(cached(&kv), [1, 2], "for its slot and cells");
    assert_eq!(kv.take_ops(), [KvOp::Drop { seq: SequenceId(0) }]);
    kv.admit(&wanted(&[8; 3], 20)).unwrap();
    assert_eq!(cached(&kv), [2; 0], "for its cells");
    assert!(kv.admit(&wanted(&[7; 3], 6)).is_none(), "5 are left");
}

#[test]
fn what_is_held_goes_to_who_follows_and_to_nobody_else() {
    let mut kv = kv(40);
    let text: Vec<Token> = (0..20).collect();
    let now = Instant::now();
    let of = RequestId(1);
    let until = now + Duration::from_secs(2);
    let hold = |kv: &mut Kv| {
        let place = kv.admit(&wanted(&text, 20)).unwrap();
        let hold = Some(Hold { of, until });
        let leaving = Leaving {
            hold,
            ..complete(&text)
        };
        kv.leave(
            place.seq,
            Leaving {
                is_cached: false,
                ..leaving
            },
        );
        place.seq
    };
    let seq = hold(&mut kv);
    assert!(kv.admit(&wanted(&text, 21)).is_none(), "no cells");
    let other = kv.admit(&wanted(&text, 20)).unwrap();
    assert_eq!(other.n_cached, 0);
    let follows = Some(of);
    let follower = Wanted {
        follows,
        ..wanted(&text, 20)
    };
    let place = kv.admit(&follower).unwrap();
    assert_eq!((place.seq, place.n_cached), (seq, 19));
    kv.leave(place.seq, Leaving::default());
    // Not for ever, nor when its client lets go.
    for (at, client) in [(until, None), (now, Some(of))] {
        hold(&mut kv);
        kv.release(now, Some(RequestId(9)));
        assert!(kv.is_held(of));
        kv.release(at, client);
        assert!(!kv.is_held(of));
        assert_eq!(cached(&kv), [0; 0]);
    }
}

#[test]
fn a_branch_is_never_kept_whatever_it_asks() {
    let mut kv = kv(40);
    let base = kv.admit(&wanted(&[1; 10], 10)).unwrap();
    let branch = kv.admit_branch(base.seq, 10).unwrap();
    let until = Instant::now();
    let hold = Some(Hold {
        of: RequestId(1),
        until,
    });
    let leaving = Leaving {
        hold,
        ..complete(&[1; 15])
    };
    kv.leave(branch.seq, leaving);
    assert_eq!(cached(&kv), [0; 0]);
    assert_eq!(kv.admit_branch(base.seq, 10).unwrap().seq, branch.seq);
    kv.admit_branch(base.seq, 10).unwrap();
    assert!(kv.admit_branch(base.seq, 5).is_none(), "no slot");
}

#[test]
fn generations_of_a_slot_only_rise_within_an_epoch() {
    let mut kv = kv(40);
    let place = kv.admit(&wanted(&[1; 10], 10)).unwrap();
    let leaving = Leaving {
        generation: 7,
        ..Leaving::default()
    };
    kv.leave(place.seq, leaving);
    assert_eq!(kv.admit(&wanted(&[1; 10], 10)).unwrap().generation, 7);
    kv.restart(std::iter::empty());
    assert_eq!(kv.admit(&wanted(&[1; 10], 10)).unwrap().generation, 0);
}

#[test]
fn an_epoch_brings_back_whatever_was_lost() {
    let mut kv = kv(40);
    let live = kv.admit(&wanted(&[1; 10], 10)).unwrap();
    // Sequences that were forgotten in the middle of a change.
    kv.admit(&wanted(&[2; 10], 10)).unwrap();
    kv.lend(2);
    let holder = Holder {
        seq: live.seq,
        n_reserved: 10,
        base: None,
        lent: Vec::new(),
    };
    kv.restart([(live.seq, 10, None)].into_iter());
    kv.assert_conserved(&[holder]);
    assert_eq!((kv.n_free(), kv.n_draft_seqs()), (30, 2));
}

#[test]
#[should_panic(expected = "has no such sequence")]
fn a_slot_that_nobody_has_is_noticed() {
    let mut kv = kv(40);
    kv.admit(&wanted(&[1; 10], 10)).unwrap();
    kv.assert_conserved(&[]);
}
