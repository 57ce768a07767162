//! A grammar as flat rules, and what makes one unusable.

use crate::types::Token;

/// One step of an alternative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// One character out of the set with this index.
    Chars(u32),
    /// One token of the vocabulary, `<name>` or `<[id]>`; with `negated` any other token.
    Token { id: Token, negated: bool },
    /// Whatever the rule with this index matches.
    Rule(u32),
    /// The alternative ends here.
    End,
}

/// A set of characters: sorted, disjoint, inclusive ranges of code points.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CharSet(Vec<(u32, u32)>);

impl CharSet {
    /// From any ranges, with `negated` all characters outside them.
    pub(super) fn new(mut ranges: Vec<(u32, u32)>, negated: bool) -> Self {
        ranges.retain(|(low, high)| low <= high);
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        if !negated {
            return Self(merged);
        }
        let mut gaps = Vec::with_capacity(merged.len() + 1);
        let mut next = 0;
        for (low, high) in merged {
            if low > next {
                gaps.push((next, low - 1));
            }
            next = high.saturating_add(1);
        }
        if next <= char::MAX as u32 {
            gaps.push((next, char::MAX as u32));
        }
        Self(gaps)
    }

    /// Whether a code point of `low..=high` is in the set.
    pub(super) fn intersects(&self, low: u32, high: u32) -> bool {
        let i = self.0.partition_point(|range| range.1 < low);
        self.0.get(i).is_some_and(|range| range.0 <= high)
    }
}

/// A parsed grammar: rules as runs of elements in one vector, each run closed by `Element::End`.
#[derive(Clone, Debug)]
pub(super) struct Grammar {
    /// All alternatives of all rules, one after the other.
    pub(super) elements: Vec<Element>,
    /// For each rule where its alternatives start in `elements`.
    pub(super) rules: Vec<Vec<u32>>,
    /// The character sets that elements name.
    pub(super) sets: Vec<CharSet>,
    /// The rule called `root`.
    pub(super) root: u32,
}

impl Grammar {
    /// The elements of the alternative that starts there.
    fn alternative(&self, start: u32) -> impl Iterator<Item = &Element> {
        let elements = self.elements[start as usize..].iter();
        elements.take_while(|e| **e != Element::End)
    }
}

/// A rule on a cycle of leftmost references, if there is one: matching it would never end.
///
/// Without recursion, since a hostile grammar chains as many rules as the limits allow.
pub(super) fn left_recursive_rule(grammar: &Grammar) -> Option<u32> {
    let n_rules = grammar.rules.len();
    let nullable = nullable_rules(grammar);
    // Leftmost references as edges; what a topological order cannot place lies on or behind a cycle.
    let mut edges: Vec<Vec<u32>> = vec![Vec::new(); n_rules];
    let mut n_incoming = vec![0usize; n_rules];
    for (rule, starts) in grammar.rules.iter().enumerate() {
        for &start in starts {
            for element in grammar.alternative(start) {
                let Element::Rule(other) = element else { break };
                edges[rule].push(*other);
                n_incoming[*other as usize] += 1;
                if !nullable[*other as usize] {
                    break;
                }
            }
        }
    }
    let mut ready: Vec<u32> = (0..n_rules as u32)
        .filter(|&rule| n_incoming[rule as usize] == 0)
        .collect();
    while let Some(rule) = ready.pop() {
        for &other in &edges[rule as usize] {
            n_incoming[other as usize] -= 1;
            if n_incoming[other as usize] == 0 {
                ready.push(other);
            }
        }
    }
    n_incoming
        .iter()
        .position(|&n| n > 0)
        .map(|rule| rule as u32)
}

/// Which rules can match nothing: a rule becomes nullable when all of an alternative is.
fn nullable_rules(grammar: &Grammar) -> Vec<bool> {
    let n_rules = grammar.rules.len();
    let mut nullable = vec![false; n_rules];
    let mut waiting: Vec<Vec<(u32, usize)>> = vec![Vec::new(); n_rules];
    let mut missing: Vec<usize> = Vec::new();
    let mut ready = Vec::new();
    for (rule, starts) in grammar.rules.iter().enumerate() {
        for &start in starts {
            if grammar
                .alternative(start)
                .any(|e| !matches!(e, Element::Rule(_)))
            {
                continue;
            }
            let references = grammar.alternative(start).count();
            if references == 0 {
                ready.push(rule as u32);
            }
            for element in grammar.alternative(start) {
                if let Element::Rule(other) = element {
                    waiting[*other as usize].push((rule as u32, missing.len()));
                }
            }
            missing.push(references);
        }
    }
    while let Some(rule) = ready.pop() {
        if std::mem::replace(&mut nullable[rule as usize], true) {
            continue;
        }
        for &(owner, alternative) in &waiting[rule as usize] {
            missing[alternative] -= 1;
            if missing[alternative] == 0 {
                ready.push(owner);
            }
        }
    }
    nullable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_negated_and_merged() {
        let set = CharSet::new(vec![(97, 102), (100, 110), (111, 112), (5, 3)], false);
        assert_eq!(set.0, [(97, 112)]);
        assert_eq!(
            CharSet::new(vec![(97, 112)], true).0,
            [(0, 96), (113, 0x10FFFF)]
        );
        assert!(set.intersects(0, 97) && !set.intersects(113, 400) && !set.intersects(0, 96));
    }
}
