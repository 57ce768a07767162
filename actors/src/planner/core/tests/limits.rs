//! Where answers end, and what those without a limit of their own take of the context.

use super::super::super::SplitPolicy;
use super::world::*;
use crate::request::{FinishReason, LengthLimit};
use jupiter_models::Token;

#[test]
fn what_is_used_up_is_told() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt = endless(90, 0);
    let mut limits = Vec::new();
    for (id, n) in [(1, 1000), (2, 6), (3, 5)] {
        let mut events = world.ask(id, &prompt, n);
        world.run();
        let done = assert_text(&mut events, &prompt, n);
        assert_eq!(done.reason, FinishReason::Length);
        limits.extend(done.limit);
    }
    use LengthLimit::{Context, NPredict};
    assert_eq!(limits, [Context, NPredict, NPredict]);
}

#[test]
fn an_answer_without_a_limit_has_what_is_free() {
    for source in [Guessing::None, Guessing::Oracle(0.9), Guessing::Auto] {
        let mut world = World::new(2, SplitPolicy::Stages(2));
        world.source = source;
        let prompt = endless(20, 0);
        // What an earlier conversation left makes room, too.
        let mut earlier = world.ask(1, &[9; 40], 3);
        world.run();
        assert_text(&mut earlier, &[9; 40], 3);
        let mut events = world.ask_for_all(2, &prompt);
        world.run();
        let done = assert_text(&mut events, &prompt, N_CTX);
        assert_eq!(done.n_eval, 76, "all of the context");
        assert_eq!(done.limit, Some(LengthLimit::Context));
    }
}

#[test]
fn what_wants_less_runs_beside_it() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt = endless(4, 0);
    let mut long = world.ask_for_all(1, &prompt);
    for id in 2..6 {
        let mut short = world.ask(id, &[id as Token; 3], 4);
        while world.is_live(id) {
            assert!(world.step());
        }
        assert_text(&mut short, &[id as Token; 3], 4);
        assert!(world.is_live(1), "beside it, not behind it");
    }
    world.run();
    assert_eq!(assert_text(&mut long, &prompt, N_CTX).n_eval, 92);
}

#[test]
fn several_without_a_limit_all_fill_the_context() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompts: Vec<Vec<Token>> = (0..7).map(|i| endless(3, 100 * i)).collect();
    let ids = prompts.iter().zip(1..);
    let mut answers: Vec<_> = ids
        .map(|(prompt, id)| world.ask_for_all(id, prompt))
        .collect();
    world.run();
    for (prompt, events) in prompts.iter().zip(&mut answers) {
        let done = assert_text(events, prompt, N_CTX);
        assert_eq!((done.n_eval, done.limit), (93, Some(LengthLimit::Context)));
    }
}

#[test]
fn parts_without_a_limit_fill_the_context_each() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let is_endless = |suffix: &Vec<Token>| {
        let prompt = [&[1, 2], &suffix[..]].concat();
        expected(&prompt, N_CTX).len() + prompt.len() == N_CTX as usize
    };
    let suffixes: Vec<_> = (3..).map(|i| vec![i]).filter(is_endless).take(2).collect();
    let mut parts = world.ask_parts_within(1, &[1, 2], &suffixes, None, None);
    world.run();
    for (prompt, events) in &mut parts {
        let done = assert_text(events, prompt, N_CTX);
        assert_eq!(done.limit, Some(LengthLimit::Context));
    }
}
