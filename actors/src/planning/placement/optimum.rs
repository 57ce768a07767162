//! The best placement of sum and slowest server together.
//!
//! A search gives the smallest sum under a limit on the slowest server. The best `sum + times *
//! slowest` lies on the front of both; instead of walking along all of it, limits are bisected,
//! and a half is skipped once its smallest possible sum and its smallest possible pace together
//! are no better than the best placement so far. Nothing that could be better is skipped.

use super::scenario::{Goal, Scenario, Space};
use super::search::{AtLeast, Found, Search};

/// What is minimised, exact; the second number breaks ties.
pub(super) type Total = (i128, i128);

/// The total of a placement.
pub(super) fn total(goal: Goal, found: &Found) -> Total {
    let (sum, slowest) = (i128::from(found.sum), i128::from(found.slowest));
    match goal {
        Goal::SumAndPace { times } => (sum + i128::from(times) * slowest, 0),
        Goal::Pace => (slowest, sum),
    }
}

/// The best placement over all scenarios, and the scenario in which it is.
pub(super) fn best_of<'a>(
    space: &Space,
    scenarios: &'a [Scenario],
) -> Option<(&'a Scenario, Found)> {
    let mut best: Option<(&Scenario, Found)> = None;
    for scenario in scenarios {
        let bound = best.as_ref().map(|(of, found)| total(of.goal, found));
        if let Some(found) = best_in(space, scenario, None, bound) {
            best = Some((scenario, found));
        }
    }
    best
}

/// The best placement of one scenario, if it is better than `bound`.
pub(super) fn best_in(
    space: &Space,
    scenario: &Scenario,
    at_least: Option<AtLeast>,
    bound: Option<Total>,
) -> Option<Found> {
    let mut search = Search::new(space, scenario, at_least);
    match scenario.goal {
        Goal::SumAndPace { times } => best_sum(&mut search, times, bound),
        Goal::Pace => best_pace(&mut search),
    }
}

/// Placements whose slowest server is among `paces[low..=high]` have a sum of at least `sum`.
struct Band {
    low: usize,
    high: usize,
    sum: i64,
}

fn best_sum(search: &mut Search<'_>, times: u32, bound: Option<Total>) -> Option<Found> {
    let goal = Goal::SumAndPace { times };
    let mut bound = bound.map_or(i128::MAX, |(bound, _)| bound);
    let mut best = None;
    let loose = search.best(i64::MAX)?;
    let (loose_sum, loose_pace) = (loose.sum, loose.slowest);
    let mut offer = |found: Found, bound: &mut i128| {
        let (total, _) = total(goal, &found);
        if total < *bound {
            *bound = total;
            best = Some(found);
        }
    };
    offer(loose, &mut bound);
    if times == 0 {
        return best;
    }
    let paces = search.paces();
    let least = |sum: i64, pace: i64| i128::from(sum) + i128::from(times) * i128::from(pace);
    let below = |pace: i64| paces.partition_point(|&other| other < pace);
    let mut parts = Vec::new();
    if let Some(high) = below(loose_pace).checked_sub(1) {
        let (low, sum) = (0, loose_sum);
        parts.push(Band { low, high, sum });
    }
    while let Some(Band { low, high, sum }) = parts.pop() {
        // Slower than this cannot be better than the best so far.
        let end = paces[low..=high].partition_point(|&pace| least(sum, pace) < bound);
        let Some(high) = (low + end).checked_sub(1).filter(|&high| high >= low) else {
            continue;
        };
        let Some(found) = search.best(paces[high]) else {
            continue;
        };
        let (sum, n_below) = (found.sum, below(found.slowest));
        offer(found, &mut bound);
        if n_below > low {
            let high = n_below - 1;
            let middle = low + (high - low) / 2;
            if middle < high {
                let low = middle + 1;
                parts.push(Band { low, high, sum });
            }
            let high = middle;
            parts.push(Band { low, high, sum });
        }
    }
    best
}

/// The smallest slowest server, and the smallest sum with it.
fn best_pace(search: &mut Search<'_>) -> Option<Found> {
    let mut best = search.best(i64::MAX)?;
    let paces = search.paces();
    let mut low = 0;
    let mut high = paces.partition_point(|&pace| pace < best.slowest);
    while low < high {
        let middle = low + (high - low) / 2;
        match search.best(paces[middle]) {
            Some(found) => {
                high = paces.partition_point(|&pace| pace < found.slowest);
                best = found;
            }
            None => low = middle + 1,
        }
    }
    Some(best)
}
