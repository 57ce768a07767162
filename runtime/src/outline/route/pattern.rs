//! Patterns of words, and the rules that match in a question.
//!
//! `^` at the front: at the begin of a clause, polite words before it not counted. `$` at the end:
//! at the end of a sentence. `a|b`: one of these words. `a?`: there or not. `_`: any word. `...`:
//! up to six words. `#`: a number. `*s`: a word that ends so, as plurals do.

use std::collections::HashMap;

use super::Class;
use super::words::{Text, is_number};

/// Most words that `...` stands for: further away, words belong to something else.
const MAX_GAP: usize = 6;

/// A rule, as the table has it.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) class: Class,
    /// The one with most decides; of equals the one that stands first.
    pub(super) weight: u8,
    pub(super) patterns: &'static [&'static str],
}

/// Rules ready to be matched.
pub(super) struct Compiled {
    rules: Vec<&'static Rule>,
    patterns: Vec<Pattern>,
    /// Patterns by their first word.
    by_word: HashMap<&'static str, Vec<usize>>,
    /// Patterns that may begin with any number or ending.
    by_form: Vec<usize>,
    lead_ins: Vec<Vec<Element>>,
}

struct Pattern {
    rule: usize,
    at_start: bool,
    elements: Vec<Element>,
}

#[derive(Clone, Debug)]
struct Element {
    kind: Kind,
    optional: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Words(Vec<&'static str>),
    Any,
    Gap,
    End,
}

impl Compiled {
    pub(super) fn new(tables: &[&'static [Rule]], lead_ins: &'static [&'static str]) -> Self {
        let rules: Vec<&'static Rule> = tables.iter().flat_map(|table| table.iter()).collect();
        let mut all = Self {
            rules: rules.clone(),
            patterns: Vec::new(),
            by_word: HashMap::new(),
            by_form: Vec::new(),
            lead_ins: lead_ins.iter().map(|source| elements(source)).collect(),
        };
        for (rule, source) in rules
            .iter()
            .enumerate()
            .flat_map(|(i, rule)| rule.patterns.iter().map(move |p| (i, *p)))
        {
            let stripped = source.strip_prefix('^');
            let elements = elements(stripped.unwrap_or(source));
            let index = all.patterns.len();
            match elements.first().map(|first| &first.kind) {
                Some(Kind::Words(words))
                    if words.iter().all(|word| !word.starts_with(['#', '*'])) =>
                {
                    for word in words {
                        all.by_word.entry(word).or_default().push(index);
                    }
                }
                _ => all.by_form.push(index),
            }
            all.patterns.push(Pattern {
                rule,
                at_start: stripped.is_some(),
                elements,
            });
        }
        all
    }

    /// The rules that match, in the order of the table, each with the words that it found first.
    pub(super) fn matches(&self, text: &Text) -> Vec<(&'static Rule, String)> {
        let mut found: Vec<Option<(usize, usize)>> = vec![None; self.rules.len()];
        for &(begin, end) in &text.sentences {
            let words = &text.words[..end];
            let starts = self.starts(text, begin, end);
            for at in begin..end {
                let first = words[at].as_str();
                let by_word = self.by_word.get(first).into_iter().flatten();
                for &index in by_word.chain(&self.by_form) {
                    let pattern = &self.patterns[index];
                    if found[pattern.rule].is_some() || (pattern.at_start && !starts.contains(&at))
                    {
                        continue;
                    }
                    if let Some(to) = match_at(&pattern.elements, words, at) {
                        found[pattern.rule] = Some((at, to));
                    }
                }
            }
        }
        let found = self.rules.iter().copied().zip(found);
        found
            .filter_map(|(rule, at)| at.map(|(from, to)| (rule, text.words[from..to].join(" "))))
            .collect()
    }

    /// Where clauses of a sentence begin, also behind polite words.
    fn starts(&self, text: &Text, begin: usize, end: usize) -> Vec<usize> {
        let mut starts: Vec<usize> = text
            .starts
            .iter()
            .copied()
            .filter(|at| (begin..end).contains(at))
            .collect();
        let mut next = 0;
        while let Some(&at) = starts.get(next) {
            for lead_in in &self.lead_ins {
                if let Some(to) = match_at(lead_in, &text.words[..end], at)
                    .filter(|to| *to < end && !starts.contains(to))
                {
                    starts.push(to);
                }
            }
            next += 1;
        }
        starts
    }
}

fn elements(source: &'static str) -> Vec<Element> {
    let element = |word: &'static str| {
        let (word, optional) = word
            .strip_suffix('?')
            .map_or((word, false), |word| (word, true));
        let kind = match word {
            "_" => Kind::Any,
            "..." => Kind::Gap,
            "$" => Kind::End,
            _ => Kind::Words(word.split('|').collect()),
        };
        Element { kind, optional }
    };
    source.split(' ').map(element).collect()
}

/// One past the last word that matches from `at` on; `words` ends with the sentence.
fn match_at(elements: &[Element], words: &[String], at: usize) -> Option<usize> {
    let Some((first, rest)) = elements.split_first() else {
        return Some(at);
    };
    let word = words.get(at).map(String::as_str);
    let matches = match &first.kind {
        Kind::End => return word.is_none().then_some(at),
        Kind::Gap => {
            let last = (at + MAX_GAP).min(words.len());
            return (at..=last).find_map(|at| match_at(rest, words, at));
        }
        Kind::Words(known) => {
            word.is_some_and(|word| known.iter().any(|known| is_known(known, word)))
        }
        Kind::Any => word.is_some(),
    };
    let taken = if matches {
        match_at(rest, words, at + 1)
    } else {
        None
    };
    taken.or_else(|| {
        if first.optional {
            match_at(rest, words, at)
        } else {
            None
        }
    })
}

/// Whether a word is meant by an alternative of a pattern.
fn is_known(known: &str, word: &str) -> bool {
    match known.strip_prefix('*') {
        Some(suffix) => {
            word.len() > suffix.len() + 2
                && word.ends_with(suffix)
                && !word.ends_with("ss")
                && !word.ends_with("us")
        }
        None if known == "#" => is_number(word),
        None => known == word,
    }
}
