//! The state machine against a pipeline that exists only as its contract: it checks that rows
//! continue what the KV cache holds, and its next token depends on every token before. Guesses come
//! from an oracle that is often wrong, and from heads that are, too.

#![allow(clippy::unwrap_used)]

mod answers;
mod asking;
mod drifting;
mod events;
mod histories;
mod limits;
mod parts;
mod planned;
mod preemption;
mod shared;
mod stages;
mod texts;
mod urgency;
mod world;

use jupiter_models::Token;
use tokio::sync::mpsc::unbounded_channel;

pub(in crate::planner) use self::world::config;
use self::world::*;
use super::super::{ClusterPhase, SplitPolicy};
use super::epochs::MAX_RECOVERIES;
use super::*;
use crate::message::{NodeReport, StageTiming, StepHeader};
use crate::request::{FinishReason, GenerateRequest};
use crate::{NodeId, PlanEpoch};

#[test]
fn a_prompt_is_answered_and_its_chunks_overlap() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompt: Vec<Token> = (0..23).collect();
    let mut events = world.ask(1, &prompt, 20);
    assert_eq!(
        world.pipeline.len(),
        3,
        "as many steps in flight as stages, and one more"
    );
    world.run();
    assert_text(&mut events, &prompt, 20);
}

#[test]
fn bad_requests_are_refused_in_a_line() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    assert_error(&mut world.ask(1, &[], 5), "empty");
    assert_error(&mut world.ask(2, &[1; N_CTX as usize], 5), "context 96");
    assert_error(&mut world.ask(3, &[1], 0), "at least one token");
}

#[test]
fn a_request_that_breaks_every_step_takes_no_other_with_it() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut bad = world.ask(1, &[9, 9], 12);
    for n in 0..=MAX_RECOVERIES {
        // Its steps are lost each time; one that comes later is not to blame.
        if n == MAX_RECOVERIES {
            let mut good = world.ask(2, &[1, 2, 3], 12);
            world.pipeline.clear();
            world.tick(2500);
            assert_error(&mut bad, "gave up");
            world.run();
            assert_text(&mut good, &[1, 2, 3], 12);
            return;
        }
        world.pipeline.clear();
        world.tick(2500);
    }
}

#[test]
fn a_lost_node_costs_no_token() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut events = world.ask(1, &[1, 2, 3], 12);
    for _ in 0..5 {
        world.step();
    }
    world.node_down(1);
    let placed: Vec<_> = world
        .core
        .status()
        .stages
        .into_iter()
        .map(|s| s.node.0)
        .collect();
    assert_eq!(
        placed,
        ["n0", "n0"],
        "the one that is left holds both stages"
    );
    world.run();
    assert_eq!(assert_text(&mut events, &[1, 2, 3], 12).n_replays, 1);
    world.node_up(1);
    assert_eq!(
        world.core.status().stages[1].node.0,
        "n1",
        "used again when idle"
    );
}

#[test]
fn a_node_that_returns_is_used_again_under_steady_load_too() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() > 40;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let mut events = world.ask(1, &prompt, 60);
    world.node_down(1);
    world.step();
    world.node_up(1);
    let node = |world: &World| world.core.status().stages[1].node.0.clone();
    for _ in 0..20 {
        world.step();
        world.tick(1000);
        assert_eq!(node(&world), "n0", "the stream is not disturbed at once");
    }
    world.step();
    world.tick(1000);
    assert_eq!(node(&world), "n1");
    world.run();
    assert_text(&mut events, &prompt, 60);
}

#[test]
fn nobody_waits_for_ever_for_a_node() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    world.step();
    world.node_down(0);
    assert_eq!(world.core.status().phase, ClusterPhase::Waiting);
    let mut late = world.ask(2, &[1, 2], 12);
    world.tick(5001);
    world.tick(1);
    assert_error(&mut events, "start `jupiter worker`");
    assert_error(&mut late, "node n0 is gone");
}

#[test]
fn a_step_without_report_is_replayed_and_a_fault_that_stays_is_told() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    world.step();
    world.pipeline.clear();
    world.tick(2500);
    world.run();
    assert_text(&mut events, &[1, 2], 12);

    let mut events = world.ask(2, &[5, 2], 12);
    for _ in 0..=MAX_RECOVERIES {
        world.pipeline.clear();
        world.tick(2500);
    }
    assert_error(&mut events, "gave up after 10 recoveries");
    let mut events = world.ask(3, &[5, 3], 12);
    world.run();
    assert_text(&mut events, &[5, 3], 12);
}

#[test]
fn repeats_are_dropped_and_gaps_are_recovered() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let prompt: Vec<Token> = (0..23).collect();
    let mut events = world.ask(1, &prompt, 12);
    let header = world.pipeline.pop_front().unwrap();
    let report = world.compute(&header);
    world.core.report(report.clone(), world.now);
    world.core.report(report, world.now);
    world.settle();
    assert_eq!(world.core.status().epoch, PlanEpoch(1));
    let lost = world.pipeline.pop_front().unwrap();
    world.compute(&lost);
    world.step();
    assert_eq!(world.core.status().epoch, PlanEpoch(2));
    world.run();
    assert_text(&mut events, &prompt, 12);
}

#[test]
fn a_model_that_cannot_be_loaded_is_told_to_everyone() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2], 12);
    let down = NodeReport::StageDown {
        epoch: world.epoch,
        stage: 0,
        node: NodeId("n0".into()),
        why: "no room".into(),
        restarting: false,
    };
    world.core.node_report(down, world.now);
    world.core.tell_clients();
    assert_error(&mut events, "no room");
    assert_error(&mut world.ask(2, &[1], 1), "no room");
}

#[test]
fn a_command_is_repeated_until_it_is_answered() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let before = world.n_commands;
    world.core.new_epoch(world.now);
    world.core.take_outbox();
    world.tick(150);
    assert_eq!(world.n_commands, before + 1);
    assert_eq!(world.core.status().phase, ClusterPhase::Running);
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let prompt: Vec<Token> = (0..20).collect();
    let mut events = world.ask(1, &prompt, 4);
    world.run();
    assert_text(&mut events, &prompt, 4);
    let mut next = prompt.clone();
    next.extend(expected(&prompt, 4));
    next.push(7);
    let mut events = world.ask(2, &next, 4);
    assert_eq!(world.pipeline[0].rows[0].pos, 23);
    world.run();
    assert_eq!(assert_text(&mut events, &next, 4).n_cached, 23);
}

#[test]
fn a_step_is_costed_among_all_cells_in_use() {
    for n_steps in 0..40 {
        let mut world = World::new(1, SplitPolicy::PerNode);
        let first = world.ask(1, &[5; 12], 6);
        world.run();
        let _second = world.ask(2, &[1, 2, 3], 12);
        let _parts = world.ask_parts(10, &[7; 10], &[vec![1], vec![2, 3]], 8);
        for _ in 0..n_steps {
            world.step();
        }
        for header in std::mem::take(&mut world.pipeline) {
            world.compute(&header);
        }
        if !world.core.kv.take_ops().is_empty() {
            continue;
        }
        let mut cells: Vec<u64> = world.kv.values().flatten().map(|cell| cell.1).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(world.core.n_cells(), cells.len(), "after {n_steps} steps");
        drop(first);
    }
}

#[test]
fn a_verdict_for_a_cancelled_request_is_not_its_successors() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let (sink, _events) = unbounded_channel();
    let mut request = GenerateRequest::new(RequestId(1), vec![1, 2, 3]);
    request.cache_prompt = false;
    world.core.generate(request, sink, world.now);
    world.settle();
    world.core.cancel(RequestId(1), world.now);
    // The same slot and the same length, asked while the old step is on its way.
    let mut events = world.ask(2, &[4, 5, 6], 12);
    assert_eq!(
        world.pipeline[1].rows[0].seq_ids,
        world.pipeline[0].rows[0].seq_ids
    );
    world.run();
    assert_text(&mut events, &[4, 5, 6], 12);
}

#[test]
fn a_client_may_hold_its_answer_for_complete() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut events = world.ask(1, &[1, 2, 3], 12);
    world.step();
    world.core.finish(RequestId(1), world.now);
    world.core.finish(RequestId(1), world.now);
    world.settle();
    let (tokens, end) = read(&mut events);
    assert_eq!(tokens, expected(&[1, 2, 3], 12)[..1]);
    let Some(StreamEvent::Done(done)) = end else {
        panic!("{end:?}")
    };
    assert_eq!((done.reason, done.n_eval), (FinishReason::Stop, 1));
    world.run();
    assert_eq!(world.core.status().n_live, 0);
}

#[test]
fn guesses_bring_the_same_text_in_fewer_steps() {
    for (source, most_steps) in [
        (Guessing::Oracle(0.9), 14),
        (Guessing::Oracle(0.0), 40),
        (Guessing::Auto, 25),
        (Guessing::Model, 20),
    ] {
        for hears_cancels in [true, false] {
            let mut world = World::new(2, SplitPolicy::Stages(2));
            (world.source, world.hears_cancels) = (source, hears_cancels);
            let is_long = |prompt: &Vec<Token>| expected(prompt, 30).len() == 30;
            let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
            let mut events = world.ask(1, &prompt, 30);
            world.run();
            let done = assert_text(&mut events, &prompt, 30);
            let used = done.speculation.unwrap();
            assert!(used.n_steps <= most_steps, "{source:?}: {used:?}");
            assert_eq!(used.n_tokens, 30);
        }
    }
}

#[test]
fn a_cancelled_answer_leaves_no_work_behind() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    world.source = Guessing::Oracle(1.0);
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() == 60;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let _events = world.ask(1, &prompt, 60);
    let has_guesses = |header: &StepHeader| header.rows.len() > 1 && header.rows[0].pos > 4;
    while !world.pipeline.iter().any(has_guesses) {
        world.step();
    }
    let n_computed = world.n_cells;
    world.core.cancel(RequestId(1), world.now);
    world.settle();
    world.run();
    assert_eq!(
        world.n_cells, n_computed,
        "no row of it is computed any more"
    );
}

#[test]
fn what_was_cancelled_is_computed_again_in_the_next_turn() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    world.source = Guessing::Oracle(1.0);
    let is_long = |prompt: &Vec<Token>| expected(prompt, 60).len() == 60;
    let prompt = (0..).map(|i| vec![i, 1, 2]).find(is_long).unwrap();
    let mut events = world.ask(1, &prompt, 60);
    // The client has enough while steps are on their way.
    while world.pipeline.len() < 2 || world.kv.values().all(|cells| cells.len() < 20) {
        assert!(world.step());
    }
    world.core.finish(RequestId(1), world.now);
    world.settle();
    let (answer, _) = read(&mut events);
    let next = [&prompt[..], &answer, &[7]].concat();
    let mut events = world.ask(2, &next, 5);
    world.run();
    let done = assert_text(&mut events, &next, 5);
    assert!(done.n_cached as usize >= next.len() - 2, "{done:?}");
}
