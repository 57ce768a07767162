//! Branches that are written side by side.

use super::super::super::SplitPolicy;
use super::super::epochs::MAX_RECOVERIES;
use super::super::*;
use super::world::*;
use crate::request::{Completion, StreamEvent};
use jupiter_models::Token;

/// So many endings, each different.
pub(super) fn suffixes(n: i32) -> Vec<Vec<Token>> {
    (0..n).map(|i| vec![100 + i, 7]).collect()
}

#[track_caller]
pub(super) fn assert_all(forked: &mut Forked, n: u32) -> Vec<Completion> {
    let mut done = Vec::new();
    for (prompt, events) in &mut forked.branches {
        done.push(assert_text(events, prompt, n));
    }
    let (tokens, end) = read(&mut forked.whole);
    assert!(tokens.is_empty());
    assert!(matches!(end, Some(StreamEvent::Done(_))), "{end:?}");
    done
}

#[track_caller]
pub(super) fn assert_idle(world: &World) {
    let status = world.core.status();
    assert_eq!((status.n_live, status.n_waiting), (0, 0));
    // So all slots are free, or hold what is cached.
    assert!(world.core.live.is_empty());
    world.core.assert_conserved();
}

#[test]
fn each_branch_is_as_if_it_were_alone_and_what_they_share_is_computed_once() {
    for source in [Guessing::None, Guessing::Auto, Guessing::Oracle(0.8)] {
        let mut world = World::new(2, SplitPolicy::Stages(2));
        world.source = source;
        let shared: Vec<Token> = (0..23).collect();
        let mut forked = world.fork(1, &shared, &suffixes(4), 8);
        world.run();
        let done = assert_all(&mut forked, 8);
        assert!(
            done.iter()
                .all(|done| done.n_cached == 23 && done.n_prompt == 25)
        );
        if source == Guessing::None {
            let n_answers: usize = forked
                .branches
                .iter()
                .map(|(p, _)| expected(p, 8).len())
                .sum();
            // Of each branch its own two tokens, and its answer but for the last token.
            assert!(
                world.n_cells as usize <= 23 + 4 * 2 + n_answers,
                "{}",
                world.n_cells
            );
        }
        assert_idle(&world);
    }
}

#[test]
fn branches_fill_the_stages() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut forked = world.fork(1, &[1, 2, 3], &suffixes(4), 30);
    while world.pipeline.iter().any(|header| header.drafts.is_empty()) {
        world.step();
    }
    for _ in 0..4 {
        world.step();
        assert!(world.pipeline.len() >= 2, "no stage waits for a branch");
    }
    world.run();
    assert_all(&mut forked, 30);
}

#[test]
fn what_an_earlier_answer_left_is_shared_too() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    let mut outline = world.ask(1, &prompt, 4);
    world.run();
    assert_text(&mut outline, &prompt, 4);
    let mut shared = prompt.clone();
    shared.extend(expected(&prompt, 4));
    let n_before = world.n_cells;
    let mut forked = world.fork(2, &shared, &suffixes(3), 1);
    world.run();
    assert_all(&mut forked, 1);
    assert!(world.n_cells - n_before <= 2 + 3 * 2, "computed again");
}

#[test]
fn thirty_two_branches_take_turns_where_ten_have_room() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    // 32 shared cells and 16 for each branch: four slots, and room for four of them.
    let shared: Vec<Token> = (0..32).collect();
    let mut forked = world.fork(1, &shared, &suffixes(32), 14);
    let mut most = 0;
    while world.step() {
        most = most.max(world.core.live.len().saturating_sub(1));
    }
    assert_eq!(most, 4);
    assert_all(&mut forked, 14);
    assert_idle(&world);
}

#[test]
fn where_memory_is_short_all_are_written_with_what_they_share_computed_once() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    // 96 cells: 40 shared, and room for one branch of 32, not for two.
    let shared: Vec<Token> = (0..40).collect();
    let mut forked = world.fork(1, &shared, &suffixes(3), 30);
    while let Some(base) = world.core.live.get(&RequestId(1)) {
        assert_eq!(base.sequence.n_preempted, 0);
        assert!(world.step());
    }
    world.run();
    assert_all(&mut forked, 30);
    assert_idle(&world);
}

#[test]
fn two_requests_of_branches_share_the_slots() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut first = world.fork(10, &[1, 2, 3], &suffixes(8), 6);
    let mut second = world.fork(20, &[4, 5], &suffixes(8), 6);
    let mut others = world.ask(1, &[9, 9, 9], 5);
    let mut was_even = false;
    while world.step() {
        let running = |base: u64| {
            let ids = base + 1..base + 9;
            let live = world.core.live.keys();
            live.filter(|id| ids.contains(&id.0)).count()
        };
        was_even |= (running(10), running(20)) == (2, 2);
    }
    assert!(was_even, "the one with fewer branches is next");
    assert_all(&mut first, 6);
    assert_all(&mut second, 6);
    assert_text(&mut others, &[9, 9, 9], 5);
    assert_idle(&world);
}

#[test]
fn a_cancelled_request_frees_all_its_branches_at_once() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut forked = world.fork(1, &[1, 2, 3], &suffixes(6), 30);
    for _ in 0..6 {
        world.step();
    }
    let n_computed = world.n_cells;
    world.core.cancel(RequestId(1), world.now);
    world.settle();
    assert_idle(&world);
    for (_, events) in &mut forked.branches {
        assert_eq!(read(events).1, None);
    }
    // The next step of whatever request tells the stages.
    let mut next = world.ask(100, &[5, 6, 7], 3);
    world.run();
    assert_text(&mut next, &[5, 6, 7], 3);
    assert!(world.n_cells - n_computed <= 3 + 3, "rows of branches");
    assert_eq!(world.kv.len(), 2, "what was shared, and the last request");
}

#[test]
fn a_client_that_vanishes_takes_its_branches_along() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let forked = world.fork(1, &[1, 2, 3], &suffixes(6), 30);
    world.step();
    drop(forked);
    world.tick(10);
    world.run();
    assert_idle(&world);
}

#[test]
fn a_branch_may_be_long_enough_for_its_client() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let is_long =
        |suffix: &Vec<Token>| expected(&[&[1, 2, 3], &suffix[..]].concat(), 20).len() == 20;
    let long: Vec<_> = suffixes(200).into_iter().filter(is_long).take(3).collect();
    let mut forked = world.fork(1, &[1, 2, 3], &long, 20);
    for _ in 0..6 {
        world.step();
    }
    world.core.finish(RequestId(2), world.now);
    world.settle();
    world.run();
    let (prompt, events) = &mut forked.branches[0];
    let (tokens, end) = read(events);
    assert!(tokens.len() < 20 && expected(prompt, 20).starts_with(&tokens));
    assert!(matches!(end, Some(StreamEvent::Done(_))));
    for (prompt, events) in &mut forked.branches[1..] {
        assert_text(events, prompt, 20);
    }
    assert_idle(&world);
}

#[test]
fn a_lost_step_replays_what_is_shared_once() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let shared: Vec<Token> = (0..30).collect();
    let mut forked = world.fork(1, &shared, &suffixes(4), 8);
    for _ in 0..10 {
        world.step();
    }
    let n_accepted: usize = world
        .core
        .live
        .values()
        .map(|live| live.sequence.tokens.len() - live.sequence.n_prompt)
        .sum();
    assert!(n_accepted > 2);
    world.pipeline.clear();
    world.tick(3000);
    let n_before = world.n_cells;
    let n_left = |forked: &Forked| -> usize {
        forked
            .branches
            .iter()
            .map(|(p, _)| expected(p, 8).len())
            .sum()
    };
    world.run();
    let n_replayed = world.n_cells - n_before;
    assert!(
        n_replayed as usize <= 30 + 4 * 2 + n_left(&forked),
        "{n_replayed}"
    );
    assert_all(&mut forked, 8);
    assert_idle(&world);
}

#[test]
fn a_fault_that_stays_is_told_to_all_branches() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut forked = world.fork(1, &[1, 2, 3], &suffixes(6), 8);
    for _ in 0..=MAX_RECOVERIES {
        world.pipeline.clear();
        world.tick(2500);
    }
    assert_error(&mut forked.whole, "gave up");
    for (_, events) in &mut forked.branches {
        assert_error(events, "gave up");
    }
    world.run();
    assert_idle(&world);
}

#[test]
fn many_faults_with_progress_between_them_are_no_reason_to_give_up() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let is_long =
        |suffix: &Vec<Token>| expected(&[&[1, 2, 3], &suffix[..]].concat(), 40).len() == 40;
    let long: Vec<_> = suffixes(500).into_iter().filter(is_long).take(2).collect();
    let mut forked = world.fork(1, &[1, 2, 3], &long, 40);
    for _ in 0..2 * MAX_RECOVERIES - 3 {
        let lengths = |world: &World| -> Vec<usize> {
            let live = world.core.live.values().map(|live| &live.sequence);
            let branches = live.filter(|sequence| !sequence.is_base());
            branches.map(|branch| branch.tokens.len()).collect()
        };
        let before = lengths(&world);
        while lengths(&world)
            .iter()
            .zip(&before)
            .any(|(now, before)| now == before)
        {
            assert!(world.step());
        }
        world.pipeline.clear();
        world.tick(2500);
    }
    world.run();
    assert_all(&mut forked, 40);
}

#[test]
fn what_waits_for_cells_takes_turns_with_branches() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    // 16 shared cells, and room for two branches of 32.
    let shared: Vec<Token> = (0..16).collect();
    let mut forked = world.fork(10, &shared, &suffixes(8), 30);
    let prompt = [3, 4, 5];
    let mut other = world.ask(1, &prompt, 20);
    while world.core.queue.len() > 0 {
        assert!(world.step());
    }
    let n_waiting = world.core.queue.n_branches(RequestId(10));
    assert!(n_waiting >= 4, "it waited for {} branches", 8 - n_waiting);
    // One that needs more than branches can leave waits for all of them, and they for nothing.
    let long = vec![7; 60];
    let mut long_one = world.ask(2, &long, 30);
    world.run();
    assert_all(&mut forked, 30);
    assert_text(&mut other, &prompt, 20);
    assert_text(&mut long_one, &long, 30);
    assert_idle(&world);
}

#[test]
fn without_slots_for_branches_they_are_refused() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut config = world.core.config.clone();
    config.n_branches = 0;
    world.core = PlannerCore::new(config, world.now);
    let mut forked = world.fork(1, &[1, 2], &suffixes(3), 5);
    assert_error(&mut forked.whole, "--parallel");
}

#[test]
fn bad_branches_are_refused_in_a_line() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let cases = [
        (2, vec![], 5, "no branches"),
        (0, suffixes(3), 5, "share"),
        (2, vec![vec![3], vec![]], 5, "share"),
        (2, vec![vec![3], vec![4; 95]], 5, "context 96"),
        (2, suffixes(3), 0, "at least one token"),
    ];
    for (n_shared, suffixes, n, part) in cases {
        let mut forked = world.fork(1, &vec![1; n_shared], &suffixes, n);
        assert_error(&mut forked.whole, part);
        for (_, events) in &mut forked.branches {
            assert_error(events, part);
        }
    }
    assert_idle(&world);
}
