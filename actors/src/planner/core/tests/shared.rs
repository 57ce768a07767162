//! Beginnings that several requests have are computed once, by one for all.

use jupiter_models::Token;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::*;
use super::parts::assert_idle;
use super::world::*;

const N_SHARED: usize = 40;

type Asked = (Vec<Token>, UnboundedReceiver<StreamEvent>);

/// Requests that begin alike, each with `n_own` tokens of its own.
fn ask_alike(world: &mut World, n: u64, n_own: usize) -> Vec<Asked> {
    let ask = |id: u64| {
        let own = vec![500 + id as Token; n_own];
        let prompt = [&(0..N_SHARED as Token).collect::<Vec<_>>()[..], &own].concat();
        let events = world.ask(id, &prompt, 4);
        (prompt, events)
    };
    (1..=n).map(ask).collect()
}

/// All have their texts; rows that were computed beside those of their own.
fn n_beside(world: &World, asked: &mut [Asked], n_own: usize) -> usize {
    let n_answers = asked.iter_mut().map(|(prompt, events)| {
        let done = assert_text(events, prompt, 4);
        // The last token is in no row; nor is it when the model ends the text.
        n_own + done.n_eval as usize - usize::from(done.n_eval == 4)
    });
    let n_answers: usize = n_answers.sum();
    world.n_cells as usize - n_answers
}

#[test]
fn what_many_begin_with_is_computed_once_though_they_come_at_once() {
    let mut world = World::crowded(2, 8);
    let mut asked = ask_alike(&mut world, 16, 3);
    assert!(
        world.core.live.len() > 3,
        "they have room beside each other"
    );
    world.run();
    assert_eq!(n_beside(&world, &mut asked, 3), N_SHARED);
    assert_idle(&world);
    // All of it was told.
    let mut again = ask_alike(&mut world, 1, 4);
    world.run();
    let (prompt, events) = &mut again[0];
    assert!(assert_text(events, prompt, 4).n_cached as usize >= N_SHARED);
}

fn with_states(n: u32) -> PlannerConfig {
    let mut config = crowded(n);
    config.past = Some(0);
    config
}

#[test]
fn a_state_that_many_begin_with_is_computed_once() {
    let mut world = World::of(2, with_states(8));
    let mut asked = ask_alike(&mut world, 16, 3);
    assert!(world.core.live.len() > 3);
    world.run();
    assert_eq!(n_beside(&world, &mut asked, 3), N_SHARED);
    assert_eq!(world.n_torn, 0);
    // It stays: whoever comes later goes on from it.
    for id in 20..24 {
        let own = [700 + id as Token; 3];
        let prompt = [&(0..N_SHARED as Token).collect::<Vec<_>>()[..], &own].concat();
        let mut events = world.ask(id, &prompt, 4);
        world.run();
        assert_eq!(
            assert_text(&mut events, &prompt, 4).n_cached,
            N_SHARED as u32
        );
    }
    assert_eq!(world.n_torn, 0);
    assert_idle(&world);
}

/// Of three texts two begin with 60 tokens, the third as both with 35: whatever ends, no state is asked for
/// that has gone on, and nobody waits for ever.
#[test]
fn states_of_several_lengths_are_forked_where_they_are() {
    for (order, ends) in [([0, 1, 2], 0), ([2, 0, 1], 1), ([0, 2, 1], 2)] {
        for n_steps in 0..10 {
            let mut world = World::of(2, with_states(8));
            let prompt = |which: usize| match which {
                2 => [&(0..35).collect::<Vec<Token>>()[..], &[700; 20]].concat(),
                _ => [
                    &(0..60).collect::<Vec<Token>>()[..],
                    &[710 + which as Token; 5],
                ]
                .concat(),
            };
            let ask = |(at, which): (usize, usize)| {
                let id = at as u64 + 1;
                (id, prompt(which), world.ask(id, &prompt(which), 4))
            };
            let asked: Vec<_> = order.into_iter().enumerate().map(ask).collect();
            (0..n_steps).for_each(|_| _ = world.step());
            world.core.cancel(RequestId(ends + 1), world.now);
            world.settle();
            world.run();
            for (id, prompt, mut events) in asked {
                if id != ends + 1 {
                    assert_text(&mut events, &prompt, 4);
                }
            }
            assert_eq!(world.n_torn, 0, "{order:?} without {ends} after {n_steps}");
            assert_idle(&world);
        }
    }
}

#[test]
fn a_state_is_kept_for_the_third_where_the_second_begins_as_the_first_did() {
    let mut world = World::of(1, with_states(4));
    let mut n_cached = Vec::new();
    for id in 1..5 {
        let own = [500 + id as Token; 3];
        let prompt = [&(0..N_SHARED as Token).collect::<Vec<_>>()[..], &own].concat();
        let mut events = world.ask(id, &prompt, 4);
        world.run();
        n_cached.push(assert_text(&mut events, &prompt, 4).n_cached as usize);
    }
    assert_eq!(n_cached, [0, 0, N_SHARED, N_SHARED]);
    assert_eq!(world.n_torn, 0);
}

#[test]
fn who_waits_for_cells_of_another_is_told_that_they_are_not_its_own_work() {
    let mut world = World::crowded(1, 4);
    let mut asked = ask_alike(&mut world, 3, 3);
    world.run();
    let n_cached = |(prompt, events): &mut Asked| assert_text(events, prompt, 4).n_cached;
    let n_cached: Vec<u32> = asked.iter_mut().map(n_cached).collect();
    assert_eq!(n_cached, [0, N_SHARED as u32, N_SHARED as u32]);
}

#[test]
fn when_the_one_that_computes_it_is_cancelled_another_goes_on() {
    let configs = [crowded(8), with_states(8)].into_iter();
    for (config, n_steps) in configs.flat_map(|config| (0..12).map(move |n| (config.clone(), n))) {
        let mut world = World::of(2, config);
        let mut asked = ask_alike(&mut world, 5, 3);
        (0..n_steps).for_each(|_| _ = world.step());
        world.core.cancel(RequestId(1), world.now);
        world.settle();
        world.run();
        asked.remove(0);
        let n = n_beside(&world, &mut asked, 3);
        assert!(
            (N_SHARED..=N_SHARED + 6).contains(&n),
            "{n} rows after {n_steps}"
        );
        assert_eq!(world.n_torn, 0, "after {n_steps}");
        assert_idle(&world);
    }
}

#[test]
fn who_has_its_slot_then_and_is_cancelled_takes_nothing_of_it_along() {
    for n_steps in 1..12 {
        let mut config = crowded(2);
        config.n_branches = 0;
        let mut world = World::of(2, config);
        let mut asked = ask_alike(&mut world, 2, 3);
        (0..n_steps).for_each(|_| _ = world.step());
        world.core.cancel(RequestId(1), world.now);
        let _next = world.ask(3, &[900; 20], 4);
        assert!(world.is_live(3), "no other slot is there");
        world.core.cancel(RequestId(3), world.now);
        world.settle();
        world.run();
        let (prompt, events) = &mut asked[1];
        assert_text(events, prompt, 4);
        assert_idle(&world);
    }
}

#[test]
fn after_a_fault_it_is_computed_once_again() {
    for config in [crowded(8), with_states(8)] {
        let mut world = World::of(2, config);
        let mut asked = ask_alike(&mut world, 6, 3);
        (0..12).for_each(|_| _ = world.step());
        let n_before = world.n_cells;
        world.pipeline.clear();
        world.tick(3000);
        world.run();
        for (prompt, events) in &mut asked {
            assert_text(events, prompt, 4);
        }
        let n_again = (world.n_cells - n_before) as usize;
        assert!(n_again <= N_SHARED + 6 * (3 + 4), "{n_again} rows");
        assert_eq!(world.n_torn, 0);
    }
}

#[test]
fn without_leave_nothing_is_shared() {
    let mut world = World::crowded(1, 4);
    let prompt: Vec<Token> = (0..20).collect();
    let mut first = world.ask(1, &prompt, 4);
    let mut second = world.ask_privately(2, &prompt, 4);
    world.run();
    assert_text(&mut first, &prompt, 4);
    assert_eq!(assert_text(&mut second, &prompt, 4).n_cached, 0);
}

#[test]
fn what_is_cached_has_a_bound() {
    let mut config = config();
    config.cache_cells = Some(30);
    let mut world = World::of(1, config);
    for id in 0..6 {
        let prompt = vec![id as Token; 20];
        let mut events = world.ask(id, &prompt, 4);
        world.run();
        assert_text(&mut events, &prompt, 4);
        assert!(world.core.n_cells() <= 30);
    }
}
