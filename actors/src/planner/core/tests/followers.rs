//! Answers that hold their cells for what follows them.

use jupiter_models::Token;

use super::super::super::SplitPolicy;
use super::forks::{assert_all, assert_idle, suffixes};
use super::world::*;
use crate::RequestId;

#[test]
fn what_follows_an_answer_goes_on_from_its_cells_whoever_waits() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    // All slots are wanted.
    let answered = world.ask_holding(1, &prompt, 3);
    let mut others: Vec<_> = (10..18)
        .map(|id| (id, world.ask(id, &[id as Token; 4], 3)))
        .collect();
    while !world.core.kv.is_held(RequestId(1)) {
        assert!(world.step());
    }
    drop(answered);
    let mut next = prompt.clone();
    next.extend(expected(&prompt, 3));
    next.push(5);
    let mut follower = world.follow(2, 1, &next, 4);
    world.run();
    let done = assert_text(&mut follower, &next, 4);
    assert!(done.n_cached as usize >= next.len() - 2, "{done:?}");
    for (id, events) in &mut others {
        assert_text(events, &[*id as Token; 4], 3);
    }
    assert_idle(&world);
}

#[test]
fn what_follows_a_held_answer_needs_no_other_slot() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    // 40 cells of a request that takes the third slot, 16 that branches share, and room for one branch
    // of 14 at a time beside the 22 that are held. What follows needs 3 more.
    let long = endless(4, 0);
    let mut third = world.ask(3, &long, 36);
    let mut forked = world.fork(10, &(50..66).collect::<Vec<_>>(), &suffixes(6), 12);
    let mut answered = world.ask_holding(1, &prompt, 3);
    while !world.core.kv.is_held(RequestId(1)) {
        assert!(world.step());
    }
    assert_text(&mut answered, &prompt, 3);
    let mut next = prompt.clone();
    next.extend(expected(&prompt, 3));
    next.push(5);
    let mut follower = world.follow(2, 1, &next, 1);
    while !world.core.live.contains_key(&RequestId(2)) {
        assert!(world.step());
    }
    assert!(
        world.core.live.contains_key(&RequestId(3)),
        "no slot was free"
    );
    let n_waiting = world.core.queue.n_branches(RequestId(10));
    assert!(n_waiting > 0, "it came too late");
    world.run();
    assert_text(&mut follower, &next, 1);
    assert_text(&mut third, &long, 36);
    assert_all(&mut forked, 12);
}

#[test]
fn cells_are_not_held_for_ever() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    let _answered = world.ask_holding(1, &prompt, 3);
    world.run();
    assert!(world.core.kv.is_held(RequestId(1)));
    world.tick(1900);
    assert!(world.core.kv.is_held(RequestId(1)));
    world.tick(200);
    assert!(!world.core.kv.is_held(RequestId(1)));
    // Nor when its client lets go.
    let _answered = world.ask_holding(3, &prompt, 3);
    world.run();
    assert!(world.core.kv.is_held(RequestId(3)));
    world.core.cancel(RequestId(3), world.now);
    assert!(!world.core.kv.is_held(RequestId(3)));
    // Without leave to keep them they are gone.
    let mut again = world.ask(2, &prompt, 3);
    world.run();
    assert_eq!(assert_text(&mut again, &prompt, 3).n_cached, 0);
    assert_idle(&world);
}
