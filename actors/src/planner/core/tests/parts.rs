//! Requests that are parts of one answer, written side by side.

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
pub(super) fn assert_all(parts: &mut Parts, n: u32) -> Vec<Completion> {
    let done = parts.iter_mut();
    done.map(|(prompt, events)| assert_text(events, prompt, n))
        .collect()
}

#[track_caller]
pub(super) fn assert_idle(world: &World) {
    let status = world.core.status();
    assert_eq!((status.n_live, status.n_waiting), (0, 0));
    // So all slots are free, or hold what is cached.
    assert!(world.core.live.is_empty());
    world.core.assert_conserved();
}

/// Tokens of all answers.
fn n_answers(parts: &Parts, n: u32) -> usize {
    parts.iter().map(|(p, _)| expected(p, n).len()).sum()
}

/// Those of `suffixes` whose answers behind `shared` are not ended by the model before `n` tokens.
fn long_suffixes(shared: &[Token], n: u32) -> impl Iterator<Item = Vec<Token>> {
    let is_long =
        move |suffix: &Vec<Token>| expected(&[shared, suffix].concat(), n).len() == n as usize;
    suffixes(500).into_iter().filter(is_long)
}

#[test]
fn each_part_is_as_if_it_were_alone_and_what_they_share_is_computed_once() {
    for (source, is_private) in [
        (Guessing::None, false),
        (Guessing::None, true),
        (Guessing::Auto, false),
        (Guessing::Oracle(0.8), true),
    ] {
        let mut world = World::new(2, SplitPolicy::Stages(2));
        (world.source, world.parts_are_private) = (source, is_private);
        let shared: Vec<Token> = (0..23).collect();
        let mut parts = world.ask_parts(1, &shared, &suffixes(4), 8);
        world.run();
        let done = assert_all(&mut parts, 8);
        let n_cached: Vec<u32> = done.iter().map(|done| done.n_cached).collect();
        assert_eq!(n_cached, [0, 23, 23, 23]);
        assert!(done.iter().all(|done| done.n_prompt == 25));
        if source == Guessing::None {
            // Of each part its own two tokens, and its answer but for the last token.
            let n_most = 23 + 4 * 2 + n_answers(&parts, 8);
            assert!(world.n_cells as usize <= n_most, "{}", world.n_cells);
        }
        assert_idle(&world);
        world.core.cancel(RequestId(1), world.now);
        assert_eq!(is_private, world.core.kv.n_used() == 0);
    }
}

#[test]
fn parts_fill_the_stages() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut parts = world.ask_parts(1, &[1, 2, 3], &suffixes(4), 30);
    while world.pipeline.iter().any(|header| header.drafts.is_empty()) {
        world.step();
    }
    for _ in 0..4 {
        world.step();
        assert!(world.pipeline.len() >= 2, "no stage waits for a part");
    }
    world.run();
    assert_all(&mut parts, 30);
}

#[test]
fn they_go_on_from_an_answer_that_is_still_being_written() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompt = endless(20, 0);
    let mut outline = world.ask_part(1, 2, &prompt, 40);
    let is_written = |world: &World, n| {
        let outline = world.core.live.get(&RequestId(2));
        outline.is_some_and(|outline| outline.sequence.n_answer() >= n)
    };
    let mut parts = Vec::new();
    for (id, n_lines) in [(3, 4), (4, 9)] {
        while !is_written(&world, n_lines) {
            assert!(world.step());
        }
        let lines = &expected(&prompt, 40)[..n_lines - 1];
        let part = [&prompt, lines, &[100, 7]].concat();
        let events = world.ask_part(1, id, &part, 3);
        assert!(world.is_live(2) && world.is_live(id));
        parts.push((part, events));
    }
    world.run();
    let done = assert_all(&mut parts, 3);
    let n_cached: Vec<u32> = done.iter().map(|done| done.n_cached).collect();
    assert_eq!(n_cached, [23, 28]);
    assert_text(&mut outline, &prompt, 40);
    assert_idle(&world);
}

#[test]
fn what_goes_on_with_an_answer_comes_before_those_who_wait() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    // All slots are wanted.
    let answered = world.ask_part(100, 1, &prompt, 3);
    let mut others: Vec<_> = (10..26)
        .map(|id| (id, world.ask(id, &[id as Token; 4], 3)))
        .collect();
    while !world.core.kv.has_left(RequestId(100)) {
        assert!(world.step());
    }
    drop(answered);
    let next = [&prompt[..], &expected(&prompt, 3), &[5]].concat();
    let mut part = world.ask_part(100, 2, &next, 4);
    while !world.is_live(2) {
        assert!(world.step());
    }
    assert!(world.core.queue.len() > 2, "it came before others");
    world.run();
    let done = assert_text(&mut part, &next, 4);
    assert!(done.n_cached as usize >= next.len() - 2, "{done:?}");
    for (id, events) in &mut others {
        assert_text(events, &[*id as Token; 4], 3);
    }
    assert_idle(&world);
}

#[test]
fn thirty_two_parts_take_turns_where_ten_have_room() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    // 32 shared cells and at most 16 for each part: room for four of them or five.
    let shared: Vec<Token> = (0..32).collect();
    let mut parts = world.ask_parts(1, &shared, &suffixes(32), 14);
    let mut most = 0;
    while world.step() {
        most = most.max(world.core.live.len());
    }
    assert!((4..=5).contains(&most), "{most}");
    assert_all(&mut parts, 14);
    assert_idle(&world);
}

#[test]
fn where_memory_is_short_all_are_written_with_what_they_share_computed_once() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    // 96 cells: 40 shared, and room for one part of 32, not for two.
    let shared: Vec<Token> = (0..40).collect();
    let mut parts = world.ask_parts(1, &shared, &suffixes(3), 30);
    world.run();
    assert_all(&mut parts, 30);
    let n_most = 40 + 3 * 2 + n_answers(&parts, 30);
    assert!(world.n_cells as usize <= n_most, "{}", world.n_cells);
    assert_idle(&world);
}

#[test]
fn many_parts_leave_others_the_slots_of_requests() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut first = world.ask_parts(10, &[1, 2, 3], &suffixes(8), 6);
    let mut second = world.ask_parts(20, &[4, 5], &suffixes(8), 6);
    let mut other = world.ask(1, &[9, 9, 9], 5);
    assert!(world.is_live(11) && world.is_live(21) && world.is_live(1));
    assert_eq!(world.core.status().n_live, 3);
    assert_eq!(world.core.live.len(), 3 + N_BRANCHES as usize);
    world.run();
    assert_all(&mut first, 6);
    assert_all(&mut second, 6);
    assert_text(&mut other, &[9, 9, 9], 5);
    assert_idle(&world);
}

#[test]
fn parts_that_are_cancelled_are_free_at_once() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut parts = world.ask_parts(1, &[1, 2, 3], &suffixes(6), 30);
    for _ in 0..6 {
        world.step();
    }
    let n_computed = world.n_cells;
    world.cancel_parts(1, 6);
    assert_idle(&world);
    for (_, events) in &mut parts {
        assert_eq!(read(events).1, None);
    }
    let mut next = world.ask(100, &[5, 6, 7], 3);
    world.run();
    assert_text(&mut next, &[5, 6, 7], 3);
    assert!(world.n_cells - n_computed <= 3 + 3, "rows of parts");
}

#[test]
fn what_parts_left_for_themselves_goes_with_their_answer() {
    let mut world = World::crowded(1, 2);
    world.parts_are_private = true;
    world.expects_short_answers();
    let shared: Vec<Token> = (0..30).collect();
    let long: Vec<_> = long_suffixes(&shared, 40).take(4).collect();
    let parts = world.ask_parts(10, &shared, &long, 40);
    while world.core.status().n_preempted == 0 {
        assert!(world.step());
    }
    assert!(world.core.kv.has_left(RequestId(10)));
    world.cancel_parts(10, parts.len());
    assert!(!world.core.kv.has_left(RequestId(10)));
    assert_idle(&world);
}

#[test]
fn a_client_that_vanishes_takes_its_parts_along() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let parts = world.ask_parts(1, &[1, 2, 3], &suffixes(6), 30);
    world.step();
    drop(parts);
    world.tick(10);
    world.run();
    assert_idle(&world);
}

#[test]
fn a_part_may_be_long_enough_for_its_client() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let long: Vec<_> = long_suffixes(&[1, 2, 3], 20).take(3).collect();
    let mut parts = world.ask_parts(1, &[1, 2, 3], &long, 20);
    for _ in 0..6 {
        world.step();
    }
    world.core.finish(RequestId(2), world.now);
    world.settle();
    world.run();
    let (prompt, events) = &mut parts[0];
    let (tokens, end) = read(events);
    assert!(tokens.len() < 20 && expected(prompt, 20).starts_with(&tokens));
    assert!(matches!(end, Some(StreamEvent::Done(_))));
    for (prompt, events) in &mut parts[1..] {
        assert_text(events, prompt, 20);
    }
    assert_idle(&world);
}

#[test]
fn a_lost_step_replays_what_is_shared_once() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let shared: Vec<Token> = (0..30).collect();
    let mut parts = world.ask_parts(1, &shared, &suffixes(4), 8);
    for _ in 0..10 {
        world.step();
    }
    let live = world.core.live.values();
    let n_accepted: usize = live.map(|live| live.sequence.n_answer()).sum();
    assert!(n_accepted > 2);
    world.pipeline.clear();
    world.tick(3000);
    let n_before = world.n_cells;
    world.run();
    let n_replayed = (world.n_cells - n_before) as usize;
    let n_most = 30 + 4 * 2 + n_answers(&parts, 8);
    assert!(n_replayed <= n_most, "{n_replayed}");
    assert_all(&mut parts, 8);
    assert_idle(&world);
}

#[test]
fn a_fault_that_stays_is_told_to_all_parts() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut parts = world.ask_parts(1, &[1, 2, 3], &suffixes(5), 8);
    for _ in 0..=MAX_RECOVERIES {
        world.pipeline.clear();
        world.tick(2500);
    }
    for (_, events) in &mut parts {
        assert_error(events, "gave up");
    }
    world.run();
    assert_idle(&world);
}

#[test]
fn many_faults_with_progress_between_them_are_no_reason_to_give_up() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let long: Vec<_> = long_suffixes(&[1, 2, 3], 40).take(2).collect();
    let mut parts = world.ask_parts(1, &[1, 2, 3], &long, 40);
    for _ in 0..2 * MAX_RECOVERIES - 3 {
        let lengths = |world: &World| -> Vec<usize> {
            let live = world.core.live.values();
            live.map(|live| live.sequence.tokens.len()).collect()
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
    assert_all(&mut parts, 40);
}

#[test]
fn what_needs_more_than_parts_leave_waits_for_them() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    // 16 shared cells, and room for two parts of 32.
    let shared: Vec<Token> = (0..16).collect();
    let mut parts = world.ask_parts(10, &shared, &suffixes(8), 30);
    let long = vec![7; 60];
    let mut long_one = world.ask(1, &long, 30);
    let mut other = world.ask(2, &[3, 4, 5], 20);
    world.run();
    assert_all(&mut parts, 30);
    assert_text(&mut long_one, &long, 30);
    assert_text(&mut other, &[3, 4, 5], 20);
    assert_idle(&world);
}

#[test]
fn without_slots_for_parts_they_are_written_one_after_the_other() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut config = world.core.config.clone();
    (config.n_branches, config.n_parallel) = (0, 1);
    world = World::of(1, config);
    let mut parts = world.ask_parts(1, &[1, 2, 3], &suffixes(3), 5);
    while world.step() {
        assert!(world.core.live.len() <= 1);
    }
    assert_all(&mut parts, 5);
    assert_idle(&world);
}
