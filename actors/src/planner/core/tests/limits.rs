//! Where answers end, and what those without a limit of their own take of the context.

use super::super::super::SplitPolicy;
use super::super::*;
use super::world::*;
use crate::request::{FinishReason, LengthLimit};
use jupiter_models::Token;

fn is_live(world: &World, id: u64) -> bool {
    world.core.live.contains_key(&RequestId(id))
}

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
        while is_live(&world, id) {
            assert!(world.step());
        }
        assert_text(&mut short, &[id as Token; 3], 4);
        assert!(is_live(&world, 1), "beside it, not behind it");
    }
    world.run();
    assert_eq!(assert_text(&mut long, &prompt, N_CTX).n_eval, 92);
}

#[test]
fn it_takes_no_cells_that_others_wait_for() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt = endless(4, 0);
    let mut long = world.ask_for_all(1, &prompt);
    for _ in 0..20 {
        assert!(world.step());
    }
    let mut next = world.ask(2, &[7; 50], 5);
    let n_before = world.core.live[&RequestId(1)].n_max;
    while is_live(&world, 1) {
        assert_eq!(world.core.live[&RequestId(1)].n_max, n_before);
        assert!(world.step());
    }
    assert!(
        is_live(&world, 2),
        "it is admitted with the step that makes room"
    );
    let done = assert_all_that_fits(&mut long, &prompt);
    assert!(done.n_eval < 92);
    world.run();
    assert_text(&mut next, &[7; 50], 5);
}

#[test]
fn several_without_a_limit_have_their_share_and_wait_for_nobody() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompts: Vec<Vec<Token>> = (0..7).map(|i| endless(3, 100 * i)).collect();
    let mut answers: Vec<_> = prompts
        .iter()
        .zip(1..)
        .map(|(prompt, id)| world.ask_for_all(id, prompt))
        .collect();
    world.run();
    let of = |(prompt, events): (&Vec<Token>, &mut _)| assert_all_that_fits(events, prompt).n_eval;
    let n_tokens: Vec<u32> = prompts.iter().zip(&mut answers).map(of).collect();
    assert_eq!(
        n_tokens[6], 93,
        "the last one is alone at its end: {n_tokens:?}"
    );
}

#[test]
fn branches_without_a_limit_share_the_context_evenly() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let is_long = |suffix: &Vec<Token>| expected(&[&[1, 2], &suffix[..]].concat(), 60).len() == 60;
    let suffixes: Vec<_> = (3..).map(|i| vec![i]).filter(is_long).take(2).collect();
    let mut forked = world.fork_for_all(1, &[1, 2], &suffixes);
    world.run();
    for (prompt, events) in &mut forked.branches {
        let done = assert_text(events, prompt, 46);
        assert_eq!(done.limit, Some(LengthLimit::Context));
    }
}
