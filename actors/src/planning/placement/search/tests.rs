//! The search against all placements there are, in any order and with classes side by side.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::classes::Order;
use super::super::scenario::{Goal, PlannerWays};
use super::super::sets::Sets;
use super::*;
use crate::planning::memory::StageMemory;
use crate::speculation::draw::uniform;

/// Up to three classes of up to three devices, at most five layers.
fn case(seed: u64, order: Order) -> (Space, Scenario, i64, Option<AtLeast>) {
    let mut n_drawn = 0;
    let mut draw = |least: i64, most: i64| {
        n_drawn += 1;
        least + (uniform(seed, n_drawn) * (most - least + 1) as f64) as i64
    };
    let n_classes = draw(1, 3) as usize;
    let n_layer = draw(1, 5) as usize;
    let counts: Vec<usize> = (0..n_classes).map(|_| draw(1, 3) as usize).collect();
    let mut each =
        |least, most| -> Vec<i64> { (0..n_classes).map(|_| draw(least, most)).collect() };
    let (step, embedding, head) = (each(0, 3), each(0, 9), each(0, 9));
    let planner = PlannerWays {
        entry: each(0, 9),
        back: each(0, 9),
    };
    let pairs = |most, each: &mut dyn FnMut(i64, i64) -> Vec<i64>| -> Vec<Vec<i64>> {
        (0..n_classes).map(|_| each(0, most)).collect()
    };
    let (occupied, latency) = (pairs(12, &mut each), pairs(4, &mut each));
    let layer = each(1, 9);
    let prefix = layer
        .iter()
        .map(|ms| (0..=n_layer as i64).map(|n| n * ms).collect());
    let scenario = Scenario {
        prefix: prefix.collect(),
        step,
        embedding,
        paced_head: head.clone(),
        head,
        occupied,
        latency,
        planner: (draw(0, 1) == 1).then_some(planner),
        goal: Goal::Pace,
    };
    // Each class has memory for so many layers.
    let most: Vec<usize> = counts.iter().map(|_| draw(1, 5) as usize).collect();
    // And in some cases two of three ranges may be stages.
    let rules: Vec<Vec<bool>> = (0..=n_layer)
        .map(|_| (0..=n_layer).map(|_| draw(0, 2) > 0).collect())
        .collect();
    let has_rules = draw(0, 1) == 1;
    let memory = StageMemory::of_rules(n_layer, if has_rules { rules } else { Vec::new() });
    let space = Space {
        first_fits: most
            .iter()
            .map(|&most| {
                (0..=n_layer)
                    .map(|n| n > 0 && n <= most && memory.allows(0, n))
                    .collect()
            })
            .collect(),
        first_start: (most.iter())
            .map(|&most| {
                (0..=n_layer)
                    .map(|n| n.saturating_sub(most).max(1).min(n))
                    .collect()
            })
            .collect(),
        sets: Sets::new(counts, order).unwrap(),
        memory,
    };
    let at_least = (draw(0, 2) == 0).then(|| AtLeast {
        class: draw(0, n_classes as i64 - 1) as usize,
        count: draw(1, 3) as usize,
    });
    let limit = [draw(5, 40), i64::MAX][draw(0, 1) as usize];
    (space, scenario, limit, at_least)
}

/// The smallest sum of all placements that go on from `stages`.
fn smallest(
    (space, scenario, limit, at_least): &(Space, Scenario, i64, Option<AtLeast>),
    order: Order,
    stages: &mut Vec<(usize, Range<usize>)>,
) -> Option<i64> {
    let begin = stages.last().map_or(0, |(_, layers)| layers.end);
    let used: Vec<usize> = stages.iter().map(|(class, _)| *class).collect();
    let count = |class| used.iter().filter(|other| **other == class).count();
    if begin == scenario.n_layer() {
        let has = |least: &AtLeast| count(least.class) >= least.count;
        return at_least
            .as_ref()
            .is_none_or(has)
            .then(|| sum(scenario, stages));
    }
    let mut best = None;
    for class in 0..space.sets.counts.len() {
        let last = used.last().copied();
        let is_apart = count(class) > 0 && last != Some(class);
        let is_slow = last.is_some_and(|last| scenario.occupied[last][class] > *limit);
        let is_possible = count(class) < space.sets.counts[class]
            && !is_slow
            && !(is_apart && order == Order::SideBySide);
        if !is_possible {
            continue;
        }
        for end in begin + 1..=scenario.n_layer() {
            let fits = match begin {
                0 => space.first_fits[class][end],
                _ => space.first_start[class][end] <= begin,
            };
            let fits = fits && space.memory.allows(begin, end);
            if fits && scenario.stage(class, begin, end, &scenario.paced_head) <= *limit {
                stages.push((class, begin..end));
                let case = (space.clone(), scenario.clone(), *limit, *at_least);
                let sum = smallest(&case, order, stages);
                best = best.into_iter().chain(sum).min();
                stages.pop();
            }
        }
    }
    best
}

fn sum(scenario: &Scenario, stages: &[(usize, Range<usize>)]) -> i64 {
    let (first, last) = (stages[0].0, stages[stages.len() - 1].0);
    let back = match &scenario.planner {
        Some(ways) => ways.back[last],
        None if stages.len() == 1 => 0,
        None => scenario.latency[last][first],
    };
    let stage = |(class, layers): &(usize, Range<usize>)| {
        scenario.stage(*class, layers.start, layers.end, &scenario.head) + 1
    };
    let hop = |pair: &[(usize, Range<usize>)]| {
        let (from, to) = (pair[0].0, pair[1].0);
        scenario.occupied[from][to] + scenario.latency[from][to]
    };
    let stages_sum: i64 = stages.iter().map(stage).sum();
    scenario.entry(first) + stages_sum + stages.windows(2).map(hop).sum::<i64>() + back
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_placement_has_a_smaller_sum(seed: u64) {
        for order in [Order::Any, Order::SideBySide] {
            let case = case(seed, order);
            let (space, scenario, limit, at_least) = &case;
            let found = Search::new(space, scenario, *at_least).best(*limit);
            let smallest = smallest(&case, order, &mut Vec::new());
            prop_assert_eq!(found.as_ref().map(|found| found.sum), smallest, "{:?}", case);
            if let Some(found) = found {
                prop_assert_eq!(sum(scenario, &found.stages), found.sum);
                prop_assert!(found.slowest <= *limit);
            }
        }
    }
}
