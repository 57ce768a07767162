//! Answers that leave their cells for what follows them.

use jupiter_models::Token;

use super::super::super::SplitPolicy;
use super::forks::assert_idle;
use super::world::*;
use crate::RequestId;

/// The prompt with its answer, and a token more.
fn next_of(prompt: &[Token], n: u32) -> Vec<Token> {
    [prompt, &expected(prompt, n), &[5]].concat()
}

#[test]
fn what_follows_an_answer_goes_on_from_its_cells_before_those_who_wait() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    // All slots are wanted.
    let answered = world.ask_holding(1, &prompt, 3);
    let mut others: Vec<_> = (10..26)
        .map(|id| (id, world.ask(id, &[id as Token; 4], 3)))
        .collect();
    while !world.core.kv.has_left(RequestId(1)) {
        assert!(world.step());
    }
    drop(answered);
    let next = next_of(&prompt, 3);
    let mut follower = world.follow(2, 1, &next, 4);
    while !world.is_live(2) {
        assert!(world.step());
    }
    assert!(world.core.queue.len() > 2, "it came before others");
    world.run();
    let done = assert_text(&mut follower, &next, 4);
    assert!(done.n_cached as usize >= next.len() - 2, "{done:?}");
    for (id, events) in &mut others {
        assert_text(events, &[*id as Token; 4], 3);
    }
    assert_idle(&world);
}

#[test]
fn what_is_left_for_who_follows_is_nobody_elses() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    let _answered = world.ask_holding(1, &prompt, 3);
    world.run();
    let mut other = world.ask(2, &prompt, 3);
    world.run();
    assert_eq!(assert_text(&mut other, &prompt, 3).n_cached, 0);
    // Others may need the cells before it comes: it computes them again.
    let mut long = world.ask(3, &endless(90, 0), 6);
    world.run();
    assert_text(&mut long, &endless(90, 0), 6);
    assert!(!world.core.kv.has_left(RequestId(1)));
    let next = next_of(&prompt, 3);
    let mut follower = world.follow(4, 1, &next, 4);
    world.run();
    assert_text(&mut follower, &next, 4);
    // Nor does it stay when its client lets go.
    let _answered = world.ask_holding(5, &prompt, 3);
    world.run();
    assert!(world.core.kv.has_left(RequestId(5)));
    world.core.cancel(RequestId(5), world.now);
    assert!(!world.core.kv.has_left(RequestId(5)));
    assert_idle(&world);
}
