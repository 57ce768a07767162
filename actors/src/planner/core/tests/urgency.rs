//! Who passes whom, who is given up and when, and what a cancel leaves behind.

use std::time::Duration;

use jupiter_models::Token;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::super::SplitPolicy;
use super::super::waiting::MAX_WAITING_EACH;
use super::super::*;
use super::parts::{assert_idle, suffixes};
use super::world::*;
use crate::request::{
    ClientId, Deadline, DeadlineKind, DraftChoice, GenerateRequest, Priority, RequestError,
    SpeculationParams,
};

type Events = UnboundedReceiver<StreamEvent>;

/// A request for `n` tokens after a prompt of 5.
fn plain(id: u64, n: u32) -> GenerateRequest {
    let prompt = vec![id as Token % 900; 5];
    let mut request = GenerateRequest::new(RequestId(id), prompt);
    (request.n_predict, request.cache_prompt) = (Some(n), false);
    request.speculation = Some(SpeculationParams {
        source: DraftChoice::None,
        ..SpeculationParams::default()
    });
    request
}

/// The same with an answer that does not end before.
fn long(id: u64) -> GenerateRequest {
    let prompt = endless(5, 10 * id as Token);
    GenerateRequest {
        prompt,
        ..plain(id, 60)
    }
}

fn within(kind: DeadlineKind, ms: u64) -> Option<Deadline> {
    let within = Duration::from_millis(ms);
    Some(Deadline { kind, within })
}

#[track_caller]
fn error(events: &mut Events) -> RequestError {
    match read(events).1 {
        Some(StreamEvent::Failed(error)) => error,
        end => panic!("{end:?}"),
    }
}

/// Steps until the answer has a token.
fn steps_to_first(world: &mut World, events: &mut Events) -> usize {
    for n in 0.. {
        if let Ok(StreamEvent::Token(_)) = events.try_recv() {
            return n;
        }
        assert!(world.step(), "after {n} steps");
    }
    unreachable!()
}

#[test]
fn one_that_floods_hurts_itself() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let mut flood: Vec<Events> = (0..10_000)
        .map(|id| {
            let client = ClientId(1);
            world.submit(GenerateRequest {
                client,
                ..plain(id, 8)
            })
        })
        .collect();
    let n_waiting = world.core.status().n_waiting;
    assert_eq!(n_waiting, MAX_WAITING_EACH);
    let RequestError::Busy {
        waiting,
        retry_after_ms,
    } = error(&mut flood.pop().unwrap())
    else {
        panic!("the flood is taken")
    };
    assert_eq!(waiting, MAX_WAITING_EACH);
    assert!(retry_after_ms >= 100);
    // Another client is served as soon as one of those that run has ended.
    let polite = GenerateRequest {
        client: ClientId(2),
        ..plain(20_001, 8)
    };
    let mut polite = world.submit(polite);
    let n_steps = steps_to_first(&mut world, &mut polite);
    assert!(n_steps <= 30, "{n_steps}");
    world.run();
    let n_answered = flood.iter_mut().filter_map(|events| match read(events).1 {
        Some(StreamEvent::Done(_)) => Some(()),
        Some(StreamEvent::Failed(RequestError::Busy { .. })) => None,
        end => panic!("{end:?}"),
    });
    assert_eq!(n_answered.count(), MAX_WAITING_EACH + N_SEQ as usize);
    assert_idle(&world);
}

#[test]
fn an_urgent_question_passes_and_the_least_urgent_is_served_too() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let of = |id, level| GenerateRequest {
        priority: Priority::new(level).unwrap(),
        client: ClientId(id),
        ..plain(id, 8)
    };
    let mut running: Vec<Events> = (0..u64::from(N_SEQ))
        .map(|id| world.submit(of(id, 4)))
        .collect();
    let least = world.submit(of(100, 7));
    let mut waiting: Vec<Events> = (10..30).map(|id| world.submit(of(id, 4))).collect();
    let mut urgent = world.submit(of(201, 0));
    let n_steps = steps_to_first(&mut world, &mut urgent);
    assert!(n_steps <= 20, "{n_steps}");
    assert!(waiting.iter_mut().all(|events| events.try_recv().is_err()));
    // Others that are urgent keep coming, more than can be served.
    let (began, mut id) = (world.now, 300);
    let mut others = Vec::new();
    while least.is_empty() {
        while world.core.queue.len() < 4 {
            others.push(world.submit(of(id, 0)));
            id += 1;
        }
        (0..4).for_each(|_| _ = world.step());
        world.tick(500);
        let waited = world.now - began;
        assert!(waited < Duration::from_secs(90), "it is never served");
    }
    assert!(id > 350, "nobody was in its way");
    world.run();
    for events in running.iter_mut().chain(&mut waiting) {
        assert!(matches!(read(events).1, Some(StreamEvent::Done(_))));
    }
    assert_idle(&world);
}

#[test]
fn what_missed_its_deadline_is_told_and_costs_nothing_more() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let kind = DeadlineKind::Answer;
    let ask = |id, ms| GenerateRequest {
        deadline: within(kind, ms),
        ..long(id)
    };
    let past = error(&mut world.submit(ask(1, 0)));
    assert_eq!(past, RequestError::DeadlineInThePast { within_ms: 0 });
    let mut late = world.submit(ask(2, 40));
    steps_to_first(&mut world, &mut late);
    let n_computed = world.n_cells;
    world.tick(40);
    let deadline = Duration::from_millis(40);
    assert_eq!(
        error(&mut late),
        RequestError::DeadlineMissed {
            kind,
            within: deadline
        }
    );
    world.run();
    assert_eq!(
        world.n_cells, n_computed,
        "no row of it is computed any more"
    );
    // The first token was in time: the answer may take what it takes.
    let mut first = world.submit(GenerateRequest {
        deadline: within(DeadlineKind::FirstToken, 40),
        ..long(3)
    });
    steps_to_first(&mut world, &mut first);
    world.tick(500);
    world.run();
    assert!(matches!(read(&mut first).1, Some(StreamEvent::Done(_))));
    assert_idle(&world);
}

#[test]
fn what_cannot_be_in_time_is_told_before_it_is_late() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    // So that it is known what steps take: 1 ms each here.
    let mut before = world.submit(plain(1, 20));
    world.run();
    assert!(matches!(read(&mut before).1, Some(StreamEvent::Done(_))));
    let running: Vec<Events> = (10..13).map(|id| world.submit(plain(id, 20))).collect();
    let waiting: Vec<Events> = (20..40).map(|id| world.submit(plain(id, 20))).collect();
    let kind = DeadlineKind::FirstToken;
    let ask = |id, ms| GenerateRequest {
        deadline: within(kind, ms),
        priority: Priority::LOWEST,
        ..plain(id, 20)
    };
    // Some 20 answers of 20 tokens come first, three side by side.
    let RequestError::DeadlineOutOfReach { expected_ms, .. } =
        error(&mut world.submit(ask(50, 20)))
    else {
        panic!("nobody can answer that soon")
    };
    assert!((100..2000).contains(&expected_ms), "{expected_ms}");
    let mut hopeful = world.submit(ask(51, 4000));
    assert!(hopeful.try_recv().is_err(), "it waits");
    // Nothing moves: so it becomes hopeless before its deadline.
    let mut waited = 0;
    while hopeful.is_empty() {
        world.tick(50);
        waited += 50;
    }
    assert!(waited < 4000, "{waited}");
    let told = error(&mut hopeful);
    assert!(
        matches!(told, RequestError::DeadlineOutOfReach { .. }),
        "{told}"
    );
    drop((running, waiting));
    world.run();
    world.tick(50);
    world.run();
    assert_idle(&world);
}

#[test]
fn each_part_of_an_answer_has_a_deadline() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut parts = world.ask_parts_within(
        1,
        &endless(6, 0),
        &suffixes(3),
        Some(60),
        within(DeadlineKind::Answer, 60),
    );
    for _ in 0..4 {
        assert!(world.step());
    }
    world.tick(60);
    for (_, events) in &mut parts {
        assert!(matches!(error(events), RequestError::DeadlineMissed { .. }));
    }
    let n_computed = world.n_cells;
    world.run();
    assert_eq!(world.n_cells, n_computed);
    let within = within(DeadlineKind::FirstToken, 60);
    let mut parts = world.ask_parts_within(10, &endless(6, 0), &suffixes(3), Some(8), within);
    for _ in 0..8 {
        assert!(world.step());
    }
    world.tick(500);
    world.run();
    for (_, events) in &mut parts {
        assert!(matches!(read(events).1, Some(StreamEvent::Done(_))));
    }
    assert_idle(&world);
}

#[test]
fn what_others_have_computed_of_a_part_does_not_make_it_late() {
    let mut world = World::new(1, SplitPolicy::PerNode);
    let mut before = world.submit(plain(1, 20));
    world.run();
    assert!(matches!(read(&mut before).1, Some(StreamEvent::Done(_))));
    let prompt = endless(80, 0);
    let _outline = world.ask_part(100, 101, &prompt, 10);
    while !world.core.live[&RequestId(101)].is_answering() {
        assert!(world.step());
    }
    let ask = |id, part_of| GenerateRequest {
        prompt: [&prompt[..], &[7]].concat(),
        cache_prompt: part_of == 100,
        part_of: Some(RequestId(part_of)),
        deadline: within(DeadlineKind::FirstToken, 5),
        ..plain(id, 4)
    };
    let alone = error(&mut world.submit(ask(102, 200)));
    assert!(matches!(alone, RequestError::DeadlineOutOfReach { .. }));
    let mut part = world.submit(ask(103, 100));
    world.run();
    assert!(matches!(read(&mut part).1, Some(StreamEvent::Done(_))));
}

#[test]
fn a_cancel_ends_what_waits_and_what_decodes_wherever_it_is() {
    let mut world = World::new(2, SplitPolicy::Stages(2));
    let running: Vec<Events> = (0..u64::from(N_SEQ))
        .map(|id| world.submit(plain(id, 10)))
        .collect();
    let _waiting = world.submit(plain(10, 10));
    world.core.cancel(RequestId(10), world.now);
    assert_eq!(world.core.status().n_waiting, 0);
    // Their clients are gone without a word.
    drop(running);
    world.tick(50);
    world.run();
    let parts = world.ask_parts(20, &endless(6, 0), &suffixes(4), 10);
    while world
        .core
        .live
        .values()
        .filter(|live| live.is_answering())
        .count()
        < 2
    {
        assert!(world.step());
    }
    world.cancel_parts(20, parts.len());
    let n_computed = world.n_cells;
    world.run();
    assert_eq!(
        world.n_cells, n_computed,
        "no row of it is computed any more"
    );
    drop(parts);
    assert_idle(&world);
}

#[test]
fn a_prompt_that_is_given_up_leaves_no_work_and_what_was_computed_of_it() {
    for hears_cancels in [true, false] {
        let mut world = World::new(2, SplitPolicy::Stages(2));
        world.hears_cancels = hears_cancels;
        let prompt: Vec<Token> = (0..80).collect();
        for n_steps in 2..18 {
            let _events = world.ask(1, &prompt, 5);
            (0..n_steps).for_each(|_| _ = world.step());
            let (n_computed, is_prompt) = (world.n_cells, n_steps < 16);
            world.core.cancel(RequestId(1), world.now);
            world.settle();
            world.run();
            if hears_cancels {
                assert_eq!(world.n_cells, n_computed, "after {n_steps} steps");
            }
            assert_idle(&world);
            // The same prompt goes on from the chunks that were reported.
            let mut events = world.ask(2, &prompt, 5);
            world.run();
            let done = assert_text(&mut events, &prompt, 5);
            assert!(
                done.n_cached > 0 && (done.n_cached >= 75 || is_prompt),
                "{done:?}"
            );
            // Nothing of it is left for the next round.
            let mut other = world.ask(3, &[999; 90], 6);
            world.run();
            assert_text(&mut other, &[999; 90], 6);
        }
    }
}
