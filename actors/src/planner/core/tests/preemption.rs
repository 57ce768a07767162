//! Cells as tokens come: who gives them up when they end, and comes back.

use jupiter_models::Token;

use super::super::preemption::MAX_PREEMPTIONS;
use super::super::*;
use super::parts::{assert_all, assert_idle, suffixes};
use super::world::*;
use crate::request::FinishReason;

#[test]
fn the_last_one_gives_way_where_cells_end_and_comes_back() {
    for source in [Guessing::None, Guessing::Oracle(0.8), Guessing::Auto] {
        let mut world = World::crowded(2, 3);
        world.source = source;
        world.expects_short_answers();
        let (first, second) = (endless(20, 0), endless(25, 100));
        let mut long = world.ask_for_all(1, &first);
        let mut other = world.ask_for_all(2, &second);
        while world.core.status().n_preempted == 0 {
            assert!(world.step() || world.draft());
        }
        assert!(world.is_live(1) && !world.is_live(2));
        world.run();
        assert_eq!(assert_text(&mut long, &first, N_CTX).n_preempted, 0);
        let done = assert_text(&mut other, &second, N_CTX);
        assert!(
            (1..=MAX_PREEMPTIONS).contains(&done.n_preempted),
            "{done:?}"
        );
        assert_eq!(done.n_cached, 0, "its own cells are no others' work");
        assert_idle(&world);
    }
}

#[test]
fn what_was_computed_stays_until_others_need_it() {
    let mut world = World::crowded(1, 2);
    world.expects_short_answers();
    let (first, second) = (endless(20, 0), endless(40, 100));
    let mut long = world.ask(1, &first, 40);
    let mut other = world.ask(2, &second, 20);
    world.run();
    assert_text(&mut long, &first, 40);
    assert_eq!(assert_text(&mut other, &second, 20).n_preempted, 1);
    // Of 119 tokens that are computed at least, a part of the second is computed twice: what the first
    // needed of it.
    let n_again = world.n_cells - (59 + 59);
    assert!((1..=36).contains(&n_again), "{n_again} rows");
}

#[test]
fn thirty_two_requests_complete_in_a_context_for_eight() {
    let mut world = World::crowded(2, 16);
    let prompts: Vec<Vec<Token>> = (0..32).map(|i| vec![i, 1, 2, 3]).collect();
    let ids = prompts.iter().zip(1..);
    let mut answers: Vec<_> = ids.map(|(prompt, id)| world.ask(id, prompt, 40)).collect();
    let mut most = 0;
    while world.step() {
        most = most.max(world.core.live.len());
    }
    assert!(
        most > 3,
        "more than the longest of them would have room: {most}"
    );
    let mut n_preempted = 0;
    for (prompt, events) in prompts.iter().zip(&mut answers) {
        let done = assert_text(events, prompt, 40);
        assert!(done.n_preempted <= MAX_PREEMPTIONS);
        n_preempted += u64::from(done.n_preempted);
    }
    assert!(n_preempted > 0);
    assert_eq!(world.core.status().n_preempted, n_preempted);
    assert_idle(&world);
}

#[test]
fn nobody_is_preempted_for_ever() {
    let mut world = World::crowded(1, 4);
    let late = endless(10, 500);
    let mut answer = world.ask_for_all(1000, &late);
    let mut others = Vec::new();
    let mut most = 0;
    // Again and again one comes that is before it, as those of a higher priority are.
    while world.is_live(1000) || world.core.queue.get(RequestId(1000)).is_some() {
        world.expects_short_answers();
        if world.is_live(1000) && world.core.live.len() == 1 && world.core.queue.len() == 0 {
            let id = 1 + others.len() as u64;
            let prompt = endless(10, 10 * id as Token);
            others.push((prompt.clone(), world.ask_first(id, &prompt)));
        }
        let live = world.core.live.get(&RequestId(1000));
        most = live.map_or(most, |live| live.sequence.n_preempted);
        assert!(world.step() && others.len() < 20);
    }
    assert_eq!(most, MAX_PREEMPTIONS);
    assert_text(&mut answer, &late, N_CTX);
    world.run();
    for (prompt, events) in &mut others {
        assert!(assert_text(events, prompt, N_CTX).n_preempted <= MAX_PREEMPTIONS);
    }
}

#[test]
fn parts_that_are_preempted_come_back_behind_what_they_share() {
    let mut world = World::crowded(2, 2);
    world.expects_short_answers();
    let shared: Vec<Token> = (0..30).collect();
    let first = endless(10, 0);
    let mut long = world.ask_for_all(1, &first);
    let mut parts = world.ask_parts(10, &shared, &suffixes(6), 30);
    world.run();
    assert_text(&mut long, &first, N_CTX);
    assert_all(&mut parts, 30);
    assert!(world.core.status().n_preempted > 0);
    assert_idle(&world);
}

#[test]
fn a_preempted_answer_may_be_long_enough_for_its_client_or_given_up() {
    for gives_up in [false, true] {
        let mut world = World::crowded(1, 3);
        world.expects_short_answers();
        let prompts = [endless(20, 0), endless(25, 100)];
        let mut first = world.ask_for_all(1, &prompts[0]);
        let mut second = world.ask_for_all(2, &prompts[1]);
        while world.core.queue.get(RequestId(2)).is_none() {
            assert!(world.step());
        }
        match gives_up {
            true => world.core.cancel(RequestId(2), world.now),
            false => world.core.finish(RequestId(2), world.now),
        }
        world.settle();
        let (tokens, end) = read(&mut second);
        assert!(!tokens.is_empty() && expected(&prompts[1], N_CTX).starts_with(&tokens));
        match end {
            Some(StreamEvent::Done(done)) => {
                assert_eq!((done.reason, done.n_preempted), (FinishReason::Stop, 1));
            }
            end => assert!(gives_up && end.is_none(), "{end:?}"),
        }
        world.run();
        assert_text(&mut first, &prompts[0], N_CTX);
        assert_idle(&world);
    }
}
