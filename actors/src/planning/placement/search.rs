//! The smallest sum under a limit on every server: a shortest path over sets of devices.
//!
//! State: the set of devices used, the class of the last one, the layers behind it. The time of a
//! stage `i..j` is `prefix[j] - prefix[i]`, so the best start of a stage that ends at `j` is the
//! least `cost(i) - prefix[i]` over a window of `i`, and both ends of the window only move forward
//! with `j` (memory and limit bound a stage from both sides): a queue of candidates gives each of
//! them in constant time. With `S` sets, `D` classes and `L` layers a pass is `O(S D (D + 1) L)`.

use std::collections::VecDeque;
use std::ops::Range;

use super::scenario::{SCALE, Scenario, Space};

/// No way to reach a state.
const NEVER: i64 = i64::MAX / 4;

/// A placement that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Sum of all stages, links, latencies and the ways from and to the Planner, scaled, plus one
    /// for each stage.
    pub(super) sum: i64,
    /// The slowest server, scaled.
    pub(super) slowest: i64,
    /// Class and layers of each stage.
    pub(super) stages: Vec<(usize, Range<usize>)>,
}

/// Only placements with at least so many devices of a class count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtLeast {
    pub(super) class: usize,
    pub(super) count: usize,
}

/// A search over one scenario; keeps its tables between passes.
pub(super) struct Search<'a> {
    pub(super) space: &'a Space,
    pub(super) scenario: &'a Scenario,
    at_least: Option<AtLeast>,
    /// First classes that can share a pass, and the way back to them, by class of the last stage.
    starts: Vec<(Vec<usize>, Vec<i64>)>,
    /// `cost[state * (layers + 1) + behind]`; see [`Sets::state`](super::sets::Sets::state).
    cost: Vec<i64>,
    /// By set: the numbers of layers that it may have behind it; empty if it cannot be reached.
    behind: Vec<Range<usize>>,
    /// `window[class][j]`: the first start that memory and the limit of this pass allow.
    window: Vec<Vec<usize>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        space: &'a Space,
        scenario: &'a Scenario,
        at_least: Option<AtLeast>,
    ) -> Search<'a> {
        Search {
            space,
            scenario,
            at_least,
            starts: starts(space, scenario),
            cost: Vec::new(),
            behind: Vec::new(),
            window: Vec::new(),
        }
    }

    /// The smallest sum of all placements with no server slower than `limit`, if there is one.
    pub(super) fn best(&mut self, limit: i64) -> Option<Found> {
        self.window = self.windows(limit);
        let mut best: Option<Found> = None;
        for index in 0..self.starts.len() {
            let (firsts, back) = self.starts[index].clone();
            self.fill(&firsts, limit);
            if let Some((sum, set, last)) = self.cheapest(&back)
                && best.as_ref().is_none_or(|best| sum < best.sum)
            {
                let stages = self.trace(set, last, limit);
                let slowest = self.slowest(&stages);
                best = Some(Found {
                    sum,
                    slowest,
                    stages,
                });
            }
        }
        best
    }

    /// All values that the slowest server of some placement may have, ascending.
    pub(super) fn paces(&self) -> Vec<i64> {
        let (space, scenario) = (self.space, self.scenario);
        let n_layer = scenario.n_layer();
        let mut paces: Vec<i64> = scenario.occupied.iter().flatten().copied().collect();
        for class in 0..space.sets.counts.len() {
            for end in 1..=n_layer {
                let pace = |start| scenario.stage(class, start, end, &scenario.paced_head);
                if space.first_fits[class][end] {
                    paces.push(pace(0));
                }
                paces.extend((space.first_start[class][end].max(1)..end).map(pace));
            }
        }
        paces.sort_unstable();
        paces.dedup();
        paces
    }

    fn at(&self, set: usize, class: usize, behind: usize) -> usize {
        self.space.sets.state(set, class) * (self.scenario.n_layer() + 1) + behind
    }

    fn windows(&self, limit: i64) -> Vec<Vec<usize>> {
        let scenario = self.scenario;
        let window = |class: usize| {
            let mut start = 1;
            let mut first = |end: usize| {
                start = start.max(self.space.first_start[class][end]);
                while start < end && scenario.stage(class, start, end, &scenario.paced_head) > limit
                {
                    start += 1;
                }
                start.min(end)
            };
            (0..=scenario.n_layer()).map(&mut first).collect()
        };
        (0..self.space.sets.counts.len()).map(window).collect()
    }

    /// Fills the table for placements that begin on one of `firsts`.
    fn fill(&mut self, firsts: &[usize], limit: i64) {
        let (space, scenario) = (self.space, self.scenario);
        let (n_classes, n_layer) = (space.sets.counts.len(), scenario.n_layer());
        self.cost.clear();
        self.cost
            .resize(space.sets.n_states() * (n_layer + 1), NEVER);
        self.behind.clear();
        self.behind.resize(space.sets.number, 0..0);
        for &class in firsts {
            for end in 1..=n_layer {
                if space.first_fits[class][end]
                    && scenario.stage(class, 0, end, &scenario.paced_head) <= limit
                {
                    let first = space.sets.first(class);
                    let at = self.at(first, class, end);
                    let stage = scenario.stage(class, 0, end, &scenario.head) + 1;
                    self.cost[at] = scenario.entry(class) + stage;
                    reach(&mut self.behind[first], end);
                }
            }
        }
        let mut arrival = vec![NEVER; n_layer];
        let mut queue = VecDeque::with_capacity(n_layer);
        for set in 1..space.sets.number {
            // All layers behind leave none for the next stage.
            let behind = self.behind[set].start..self.behind[set].end.min(n_layer);
            if behind.is_empty() {
                continue;
            }
            for next in 0..n_classes {
                if let Some(more) = space.sets.with(set, next, self.at_least) {
                    self.arrive(set, next, limit, &behind, &mut arrival);
                    self.extend(more, next, &behind, &arrival, &mut queue);
                }
            }
        }
    }

    /// `arrival[i]`, for `i` in `behind`: the least cost of layers `0..i` on `set`, up to their
    /// arrival at `next`.
    fn arrive(
        &self,
        set: usize,
        next: usize,
        limit: i64,
        behind: &Range<usize>,
        arrival: &mut [i64],
    ) {
        arrival[behind.clone()].fill(NEVER);
        let scenario = self.scenario;
        for last in 0..self.space.sets.counts.len() {
            if !self.space.sets.may_end(set, last) || scenario.occupied[last][next] > limit {
                continue;
            }
            let hop = scenario.occupied[last][next] + scenario.latency[last][next];
            let costs =
                &self.cost[self.at(set, last, behind.start)..self.at(set, last, behind.end)];
            for (best, &cost) in arrival[behind.clone()].iter_mut().zip(costs) {
                *best = (*best).min(cost + hop);
            }
        }
    }

    /// Adds a stage of class `next`, which makes it `set`, behind every arrival.
    fn extend(
        &mut self,
        set: usize,
        next: usize,
        behind: &Range<usize>,
        arrival: &[i64],
        queue: &mut VecDeque<(i64, usize)>,
    ) {
        let scenario = self.scenario;
        let prefix = &scenario.prefix[next];
        let n_layer = scenario.n_layer();
        let step_and_one = scenario.step[next] + 1;
        let row = self.at(set, next, 0);
        queue.clear();
        for end in behind.start + 1..=n_layer {
            let start = end - 1;
            if start < behind.end && arrival[start] < NEVER {
                let lead = arrival[start] - prefix[start];
                while queue.back().is_some_and(|&(before, _)| before >= lead) {
                    queue.pop_back();
                }
                queue.push_back((lead, start));
            }
            let first = self.window[next][end];
            while queue.front().is_some_and(|&(_, start)| start < first) {
                queue.pop_front();
            }
            // With rules for cuts the least start need not be at the front.
            let least = match self.space.memory.is_free() {
                true => queue.front().map(|&(lead, _)| lead),
                false => (first.max(behind.start)..end.min(behind.end))
                    .filter(|&start| arrival[start] < NEVER && self.space.memory.allows(start, end))
                    .map(|start| arrival[start] - prefix[start])
                    .min(),
            };
            if let Some(lead) = least {
                let is_last = end == n_layer;
                let head = if is_last { scenario.head[next] } else { 0 };
                let cost = lead + prefix[end] + step_and_one + head;
                // Side by side, several sets become this one.
                let best = &mut self.cost[row + end];
                *best = cost.min(*best);
                reach(&mut self.behind[set], end);
            } else if end >= behind.end && self.space.memory.is_free() {
                break;
            }
        }
    }

    /// The cheapest complete placement of the table: sum with the way back, set, last class.
    fn cheapest(&self, back: &[i64]) -> Option<(i64, usize, usize)> {
        let (space, n_layer) = (self.space, self.scenario.n_layer());
        let mut best: Option<(i64, usize, usize)> = None;
        for set in 1..space.sets.number {
            if !self.at_least.is_none_or(|least| space.sets.has(set, least)) {
                continue;
            }
            for (last, &back) in back.iter().enumerate() {
                if !space.sets.may_end(set, last) {
                    continue;
                }
                let cost = self.cost[self.at(set, last, n_layer)];
                if cost < NEVER {
                    // A Planner beside the first stage is beside a lone one, whatever `back` says.
                    let is_beside =
                        self.scenario.planner.is_none() && set == space.sets.first(last);
                    let sum = cost + if is_beside { 0 } else { back };
                    if best.is_none_or(|(least, ..)| sum < least) {
                        best = Some((sum, set, last));
                    }
                }
            }
        }
        best
    }

    /// The stages of a state of the table, found again from its costs.
    fn trace(&self, set: usize, last: usize, limit: i64) -> Vec<(usize, Range<usize>)> {
        let scenario = self.scenario;
        let mut stages = Vec::new();
        let (mut set, mut last, mut end) = (set, last, scenario.n_layer());
        while set != self.space.sets.first(last) {
            let cost = self.cost[self.at(set, last, end)];
            let came_from = |&(before, class, start): &(usize, usize, usize)| {
                let hop = scenario.occupied[class][last] + scenario.latency[class][last];
                let stage = scenario.stage(last, start, end, &scenario.head) + 1;
                scenario.occupied[class][last] <= limit
                    && self.space.memory.allows(start, end)
                    && self.cost[self.at(before, class, start)] + hop + stage == cost
            };
            let starts = self.window[last][end]..end;
            let before = self.space.sets.before(set, last, self.at_least);
            let Some((before, class, start)) = before
                .into_iter()
                .flat_map(|(set, class)| starts.clone().map(move |start| (set, class, start)))
                .find(came_from)
            else {
                unreachable!("the table has no state without the one before it");
            };
            stages.push((last, start..end));
            (set, last, end) = (before, class, start);
        }
        stages.push((last, 0..end));
        stages.reverse();
        stages
    }

    fn slowest(&self, stages: &[(usize, Range<usize>)]) -> i64 {
        let scenario = self.scenario;
        let stage = |(class, layers): &(usize, Range<usize>)| {
            scenario.stage(*class, layers.start, layers.end, &scenario.paced_head)
        };
        let hops = stages
            .windows(2)
            .map(|pair| scenario.occupied[pair[0].0][pair[1].0]);
        stages.iter().map(stage).chain(hops).max().unwrap_or(0)
    }
}

/// Widens a range to hold `end`.
fn reach(range: &mut Range<usize>, end: usize) {
    if range.start >= range.end {
        *range = end..end + 1;
    } else {
        *range = range.start.min(end)..range.end.max(end + 1);
    }
}

/// Where the Planner sits beside the first stage, the way back depends on that stage, so that each
/// first class needs a pass of its own; where all ways back from a class are equally long, or the
/// Planner's place is known, one pass serves all.
fn starts(space: &Space, scenario: &Scenario) -> Vec<(Vec<usize>, Vec<i64>)> {
    let n_classes = space.sets.counts.len();
    if let Some(ways) = &scenario.planner {
        return vec![((0..n_classes).collect(), ways.back.clone())];
    }
    let back_to = |first: usize| -> Vec<i64> {
        let back = |last: usize| scenario.latency[last][first];
        (0..n_classes).map(back).collect()
    };
    let mut common = vec![None; n_classes];
    let mut is_common = true;
    for (last, common) in common.iter_mut().enumerate() {
        for first in (0..n_classes).filter(|&first| first != last || space.sets.counts[last] > 1) {
            let back = scenario.latency[last][first];
            is_common &= *common.get_or_insert(back) == back;
        }
    }
    if is_common {
        let back = common.into_iter().map(|back| back.unwrap_or(0)).collect();
        return vec![((0..n_classes).collect(), back)];
    }
    (0..n_classes)
        .map(|first| (vec![first], back_to(first)))
        .collect()
}

/// The stages counted in a scaled sum.
pub(super) fn n_stages(sum: i64) -> i64 {
    sum % SCALE
}

#[cfg(test)]
mod tests;
