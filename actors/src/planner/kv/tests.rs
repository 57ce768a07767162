#![allow(clippy::unwrap_used)]

use super::*;

/// 3 slots of requests, 2 of branches, 2 of guesses.
fn kv(n_ctx: usize) -> Kv {
    Kv {
        n_ctx,
        n_cached_max: n_ctx,
        past: None,
        slots: (0..7).map(|_| Slot::default()).collect(),
        n_requests: 3,
        n_branches: 2,
        n_used: 0,
        n_cached: 0,
        ops: Vec::new(),
        n_takings: 0,
        n_uses: 0,
        n_returns: 0,
    }
}

/// The same where layers have a state.
fn kv_of_states(n_ctx: usize) -> Kv {
    Kv {
        past: Some(0),
        ..kv(n_ctx)
    }
}

fn whose(answer: u64, is_open: bool) -> Whose {
    let answer = RequestId(answer);
    Whose { answer, is_open }
}

fn admission(text: &[Token]) -> Admission<'_> {
    Admission {
        text,
        whose: whose(9, true),
    }
}

fn computing(place: Place, text: &[Token], n_computed: usize) -> Computing<'_> {
    Computing {
        seq: place.seq,
        text,
        n_computed,
        whose: whose(8, true),
        n_max: text.len() + 10,
        fork_point: None,
    }
}

fn leaving(tokens: &[Token]) -> Leaving {
    Leaving {
        generation: 0,
        lent: Vec::new(),
        last_chunk: None,
        tokens: tokens.to_vec(),
        whose: whose(1, true),
        is_kept: true,
    }
}

fn admit(kv: &mut Kv, text: &[Token]) -> Option<Place> {
    let found = kv.find(&admission(text), std::iter::empty());
    kv.place(found, text.len())
}

/// A sequence of these tokens that has come and gone.
fn cache(kv: &mut Kv, tokens: &[Token]) -> SequenceId {
    let place = kv.place(None, tokens.len()).unwrap();
    kv.leave(place.seq, leaving(tokens));
    kv.ops.clear();
    place.seq
}

fn cached(kv: &Kv) -> Vec<(u32, usize)> {
    let nodes = nodes(&kv.slots);
    nodes
        .map(|(seq, node)| (seq.0, node.tokens.len()))
        .collect()
}

fn holder(place: Place, n_computed: usize) -> Holder {
    Holder {
        seq: place.seq,
        n_computed,
        base: place.base.map(|base| (base, place.n_shared)),
        lent: Vec::new(),
    }
}

#[test]
fn the_longest_common_beginning_is_forked_but_never_the_whole_text() {
    let mut kv = kv(100);
    let (short, long): (Vec<Token>, Vec<Token>) = ((0..20).collect(), (50..80).collect());
    cache(&mut kv, &short);
    let seq = cache(&mut kv, &long);
    // Part of it: the node stays, and costs no cell but for what is new.
    let place = admit(&mut kv, &long[..20]).unwrap();
    assert_eq!(place.n_shared, 19);
    let (dst, len) = (place.seq, 19);
    assert_eq!(kv.take_ops(), [KvOp::Fork { src: seq, dst, len }]);
    assert_eq!((kv.n_used(), kv.n_live()), (20 + 30 + 1, 20));
    // All of it: it goes on in its own slot.
    let next = [&long[..], &[7, 8]].concat();
    let place = admit(&mut kv, &next).unwrap();
    assert_eq!((place.seq, place.n_shared), (seq, 30));
    assert_eq!(kv.take_ops(), [KvOp::Truncate { seq, pos: 30 }]);
    assert_eq!(kv.n_used(), 20 + 32 + 1);
    // Little in common is not worth it.
    assert_eq!(admit(&mut kv, &[0, 1, 2, 9, 9]).unwrap().n_shared, 0);
}

#[test]
fn what_a_live_sequence_computes_is_shared_before_it_is_there() {
    let mut kv = kv(100);
    let first: Vec<Token> = (0..40).collect();
    let base = admit(&mut kv, &first).unwrap();
    let second = [&first[..30], &[70, 71]].concat();
    let live = || [computing(base, &first[..39], 0)].into_iter();
    let found = kv.find(&admission(&second), live());
    assert_eq!(kv.n_live_with(found, second.len()), 42);
    let fork = kv.place(found, second.len()).unwrap();
    assert_eq!((fork.base, fork.n_shared), (Some(base.seq), 30));
    assert_eq!(kv.take_ops(), [], "not before it is computed");
    assert_eq!(kv.n_used(), 42);
    kv.assert_conserved(&[holder(base, 0), holder(fork, 0)]);
    // What is computed already comes first.
    let left = cache(&mut kv, &first[..30]);
    let found = kv.find(&admission(&second), live());
    assert_eq!(kv.place(found, second.len()).unwrap().seq, left);
}

#[test]
fn who_keeps_its_cells_to_itself_shares_them_with_its_own_alone() {
    let mut kv = kv(100);
    let text: Vec<Token> = (0..20).collect();
    let place = admit(&mut kv, &text).unwrap();
    let private = Leaving {
        whose: whose(1, false),
        ..leaving(&text)
    };
    kv.leave(place.seq, private);
    let find =
        |kv: &Kv, admission: &Admission<'_>| kv.find(admission, std::iter::empty()).is_some();
    assert!(!find(&kv, &admission(&text)));
    let own = Admission {
        whose: whose(1, false),
        ..admission(&text[..4])
    };
    assert!(find(&kv, &own));
    assert!(kv.has_left(RequestId(1)));
    kv.forget(RequestId(2));
    kv.forget(RequestId(1));
    assert!(!kv.has_left(RequestId(1)));
    assert_eq!(kv.n_used(), 0);
}

#[test]
fn the_end_of_what_was_used_longest_ago_goes_first() {
    let mut kv = kv(150);
    let texts: Vec<Vec<Token>> = (0..3).map(|i| vec![i; 50]).collect();
    for text in &texts {
        cache(&mut kv, text);
    }
    // The first is used again.
    let place = admit(&mut kv, &[0; 20]).unwrap();
    assert_eq!(cached(&kv), [(0, 50), (1, 50 - 32), (2, 50)]);
    kv.take_ops();
    assert!(kv.take(place.seq, 60));
    let (seq, pos) = (SequenceId(1), 18);
    assert_eq!(cached(&kv), [(0, 50), (2, 50)], "{pos} cells are of no use");
    assert!(kv.take_ops().contains(&KvOp::Drop { seq }));
    assert!(!kv.take(place.seq, 151), "nobody has so many");
    assert!(kv.take(place.seq, 150) && kv.n_used() == 150);
    assert!(kv.place(None, 1).is_none());
    kv.assert_conserved(&[holder(place, 60)]);
}

#[test]
fn a_node_gives_up_only_what_nobody_shares() {
    let mut kv = kv(60);
    let text: Vec<Token> = (0..50).collect();
    cache(&mut kv, &text);
    let place = admit(&mut kv, &text[..31]).unwrap();
    assert_eq!((place.n_shared, kv.n_used()), (30, 51));
    assert!(kv.take(place.seq, 45));
    assert_eq!(cached(&kv), [(0, 30)]);
    assert!(kv.take(place.seq, 60));
    assert_eq!(cached(&kv), [(0, 30)], "it costs nothing");
    assert_eq!((kv.n_used(), kv.n_live()), (60, 60));
}

#[test]
fn the_prompt_cache_has_a_bound() {
    let mut kv = kv(100);
    kv.n_cached_max = 30;
    cache(&mut kv, &[1; 20]);
    cache(&mut kv, &[2; 20]);
    assert_eq!(cached(&kv), [(0, 10), (1, 20)]);
    cache(&mut kv, &[3; 50]);
    assert_eq!(kv.n_used(), 30);
    kv.assert_conserved(&[]);
}

#[test]
fn slots_of_nodes_are_for_who_begins_and_guesses_have_their_own() {
    let mut kv = kv(1000);
    for i in 0..9 {
        cache(&mut kv, &[i; 10]);
    }
    assert_eq!(cached(&kv).len(), 5);
    assert_eq!(
        (kv.n_draft_seqs(), kv.lend(9).len(), kv.n_draft_seqs()),
        (2, 2, 0)
    );
    let places: Vec<_> = (20..25)
        .map(|i| admit(&mut kv, &[i; 10]).unwrap())
        .collect();
    assert_eq!(cached(&kv), []);
    assert!(admit(&mut kv, &[30; 10]).is_none(), "no slot");
    assert_eq!(places.len(), 5);
}

#[test]
fn what_another_node_has_is_not_kept_twice() {
    let mut kv = kv(100);
    let text: Vec<Token> = (0..30).collect();
    cache(&mut kv, &text[..20]);
    // It shares little enough for a slot of its own.
    let place = admit(&mut kv, &text[..12]).unwrap();
    kv.leave(place.seq, leaving(&text[..11]));
    assert_eq!(cached(&kv), [(0, 20), (1, 11)]);
    let place = admit(&mut kv, &text).unwrap();
    kv.leave(place.seq, leaving(&text));
    assert_eq!(cached(&kv), [(0, 30)]);
    assert_eq!(kv.n_used(), 30);
}

#[test]
fn behind_a_sliding_window_only_whole_texts_go_on() {
    let mut kv = kv(100);
    kv.past = Some(10);
    let text: Vec<Token> = (0..30).collect();
    let place = admit(&mut kv, &text).unwrap();
    let live = [computing(place, &text[..29], 29)].into_iter();
    assert_eq!(kv.find(&admission(&text), live), None);
    kv.past = Some(40);
    let live = [computing(place, &text[..29], 29)].into_iter();
    let found = kv.find(&admission(&text), live);
    assert!(found.is_some(), "it never becomes longer than the window");
    kv.past = Some(10);
    kv.leave(place.seq, leaving(&text));
    assert_eq!(admit(&mut kv, &text[..20]).unwrap().n_shared, 0);
    let next = [&text[..], &[7]].concat();
    assert_eq!(admit(&mut kv, &next).unwrap().n_shared, 30);
}

#[test]
fn cells_behind_the_text_are_given_back_with_the_next_step() {
    let mut kv = kv(40);
    let place = admit(&mut kv, &[1; 10]).unwrap();
    assert!(kv.take(place.seq, 16) && kv.n_used() == 16);
    assert_eq!(kv.n_within_reach(place.seq), 40);
    assert!(kv.take(place.seq, 12) && kv.n_used() == 12);
}

#[test]
fn generations_of_a_slot_only_rise_within_an_epoch() {
    let mut kv = kv(40);
    let place = admit(&mut kv, &[1; 10]).unwrap();
    let left = Leaving {
        generation: 7,
        ..leaving(&[])
    };
    kv.leave(place.seq, left);
    assert_eq!(admit(&mut kv, &[1; 10]).unwrap().generation, 7);
    kv.restart();
    assert_eq!(admit(&mut kv, &[1; 10]).unwrap().generation, 0);
}

#[test]
fn an_epoch_brings_back_whatever_was_lost() {
    let mut kv = kv(40);
    // Sequences that were forgotten in the middle of a change.
    admit(&mut kv, &[1; 10]).unwrap();
    admit(&mut kv, &[2; 10]).unwrap();
    kv.lend(2);
    kv.restart();
    kv.assert_conserved(&[]);
    assert_eq!((kv.n_used(), kv.n_draft_seqs()), (0, 2));
}

#[test]
#[should_panic(expected = "has no such sequence")]
fn a_slot_that_nobody_has_is_noticed() {
    let mut kv = kv(40);
    admit(&mut kv, &[1; 10]).unwrap();
    kv.assert_conserved(&[]);
}

#[test]
#[should_panic(expected = "rows without cells")]
fn a_row_without_a_cell_is_noticed() {
    let mut kv = kv(40);
    let place = admit(&mut kv, &[1; 10]).unwrap();
    kv.assert_conserved(&[holder(place, 11)]);
}

#[test]
fn rows_that_others_need_are_known() {
    let mut kv = kv(100);
    let text: Vec<Token> = (0..40).collect();
    let first = admit(&mut kv, &text).unwrap();
    let needs = |kv: &Kv, n, oldest| kv.needs_rows(first.seq, n, StepId(oldest));
    assert!(!needs(&kv, 0, 0), "it is alone");
    let found = kv.find(
        &admission(&text[..20]),
        [computing(first, &text, 8)].into_iter(),
    );
    let second = kv.place(found, 20).unwrap();
    assert!(needs(&kv, second.n_shared - 1, 0));
    assert!(!needs(&kv, second.n_shared, 0));
    kv.fork(first.seq, second.seq, second.n_shared);
    kv.leave(
        second.seq,
        Leaving {
            is_kept: false,
            ..leaving(&text[..20])
        },
    );
    assert!(needs(&kv, second.n_shared - 1, 0), "its rows may go on");
    kv.leave(
        first.seq,
        Leaving {
            last_chunk: Some(StepId(5)),
            is_kept: false,
            ..leaving(&text)
        },
    );
    let third = admit(&mut kv, &[7; 20]).unwrap();
    assert_eq!(third.seq, first.seq);
    assert!(needs(&kv, 0, 5), "what was computed before for the second");
    assert!(!needs(&kv, 0, 6));
}

#[test]
fn a_state_goes_on_from_its_end_alone() {
    let mut kv = kv_of_states(100);
    let text: Vec<Token> = (0..40).collect();
    let seq = cache(&mut kv, &text);
    // Not from its middle.
    assert_eq!(admit(&mut kv, &text[..30]).unwrap().n_shared, 0);
    let live = admit(&mut kv, &[70; 20]).unwrap();
    let live = || [computing(live, &[70; 20], 20)].into_iter();
    assert_eq!(kv.find(&admission(&[70; 20]), live()), None);
    // From its end.
    let next = [&text[..], &[7, 8]].concat();
    let place = admit(&mut kv, &next).unwrap();
    assert_eq!((place.seq, place.n_shared), (seq, 40));
}

#[test]
fn a_state_is_given_up_as_a_whole() {
    let mut kv = kv_of_states(100);
    let text: Vec<Token> = (0..90).collect();
    let seq = cache(&mut kv, &text);
    assert!(kv.evict(20));
    assert_eq!(kv.take_ops(), [KvOp::Drop { seq }]);
    assert_eq!((kv.n_used(), cached(&kv)), (0, vec![]));
}

#[test]
fn a_state_is_kept_where_most_is_spared() {
    let mut kv = kv_of_states(400);
    let text: Vec<Token> = (0..100).collect();
    let as_far_as = |n: usize| [&text[..n], &[900; 10]].concat();
    let others = [90, 60, 60, 60, 20].map(as_far_as);
    let others = || others.iter().map(|text| (&text[..], whose(8, true)));
    let private = || [(&text[..], whose(8, false))].into_iter();
    assert_eq!(kv.fork_point(&admission(&text), 0, others()), Some(60));
    assert_eq!(kv.fork_point(&admission(&text), 60, others()), Some(90));
    assert_eq!(kv.fork_point(&admission(&text), 90, others()), None);
    assert_eq!(kv.fork_point(&admission(&text[..25]), 0, others()), None);
    assert_eq!(kv.fork_point(&admission(&text), 0, private()), None);

    // Who begins alike waits for it, until it has gone on.
    let first = admit(&mut kv, &text).unwrap();
    let other = as_far_as(60);
    let at = |n_computed, fork_point| Computing {
        fork_point,
        ..computing(first, &text, n_computed)
    };
    let found = kv.find(&admission(&other), [at(10, Some(60))].into_iter());
    assert_eq!(found.map(|found| found.n_shared()), Some(60));
    for gone in [at(61, Some(60)), at(10, None), at(10, Some(70))] {
        assert_eq!(kv.find(&admission(&other), [gone].into_iter()), None);
    }
    let second = kv.place(found, other.len()).unwrap();
    assert_eq!(second.base, Some(first.seq));

    // It stays for the next ones, however many there are.
    kv.keep(first.seq, text[..60].to_vec(), whose(8, true));
    for end in [70, 71] {
        let next = [&text[..60], &[end; 9]].concat();
        let place = admit(&mut kv, &next).unwrap();
        assert_eq!((place.n_shared, place.base), (60, None));
        kv.leave(place.seq, leaving(&next));
    }
    kv = Kv { past: None, ..kv };
    assert_eq!(kv.fork_point(&admission(&text), 0, others()), None);
}

#[test]
fn a_state_that_many_begin_with_takes_the_slot_of_a_conversation() {
    let mut kv = kv_of_states(900);
    for i in 0..4 {
        cache(&mut kv, &[100 + i; 90]);
    }
    let text: Vec<Token> = (0..80).collect();
    let live = admit(&mut kv, &text).unwrap();
    assert!(kv.is_full());
    // Until there are only others that spare more.
    for n in [60, 70, 75, 77, 50] {
        kv.keep(live.seq, text[..n].to_vec(), whose(8, true));
    }
    let kept: Vec<usize> = cached(&kv)
        .iter()
        .map(|&(_, n)| n)
        .filter(|n| *n < 90)
        .collect();
    assert_eq!(kept, [60, 70, 75, 77]);
}
