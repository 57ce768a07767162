#![allow(clippy::unwrap_used)]
//! The router against two tables of questions. The rules were written with the first in view; the
//! second was written before any rule, and its first score was 153 of 160. After it only rules for
//! phrasings of the default model were added, none for a mistake that it showed.

use std::collections::BTreeMap;

use super::*;

const SEEN: &str = include_str!("questions_seen.tsv");
const HELD_OUT: &str = include_str!("questions_held_out.tsv");

/// Least accuracy on questions that no rule was written for.
const HELD_OUT_PERCENT: usize = 92;

struct Question {
    class: String,
    may_be_undecided: bool,
    text: String,
}

fn questions(table: &str) -> Vec<Question> {
    let line = |line: &str| {
        let (class, text) = line.split_once('\t').unwrap();
        Question {
            class: class.trim_end_matches('?').into(),
            may_be_undecided: class.ends_with('?'),
            text: text.replace("\\n", "\n"),
        }
    };
    table.lines().map(line).collect()
}

fn class(name: &str) -> Class {
    use Class::*;
    match name {
        "list" => List,
        "how-to" => HowTo,
        "comparison" => Comparison,
        "advice" => Advice,
        "explanation" => Explanation,
        "causes" => Causes,
        "code" => Code,
        "mathematics" => Mathematics,
        "fact" => Fact,
        "brief" => Brief,
        "reasoning" => Reasoning,
        "chat" => Chat,
        "rewriting" => Rewriting,
        "creative" => Creative,
        "command" => Command,
        "follow-up" => FollowUp,
        "foreign" => Foreign,
        other => panic!("no class {other}"),
    }
}

/// (right, all) of a table, and a line for each class and each mistake.
fn score(table: &str) -> (usize, usize, String) {
    let mut by_class: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut mistakes = String::new();
    for question in questions(table) {
        let expected = class(&question.class);
        let found = decide(&question.text);
        let wanted = decision(expected, String::new()).verdict;
        let is_right = found.verdict == wanted
            || (question.may_be_undecided && found.verdict == Verdict::Undecided);
        let row = by_class.entry(question.class.clone()).or_default();
        row[0] += 1;
        row[1] += usize::from(is_right);
        row[2] += usize::from(found.verdict == Verdict::Undecided);
        row[3] += usize::from(found.class == expected);
        if !is_right {
            mistakes += &format!(
                "  {} as {:?}, {}: {}\n",
                question.class, found.class, found.reason, question.text
            );
        }
    }
    let sum = |i: usize| by_class.values().map(|row| row[i]).sum::<usize>();
    let (all, right) = (sum(0), sum(1));
    let mut report = format!(
        "{:12} {:>4} {:>6} {:>10} {:>6}\n",
        "class", "n", "right", "undecided", "class"
    );
    for (name, row) in &by_class {
        report += &format!(
            "{name:12} {:>4} {:>6} {:>10} {:>6}\n",
            row[0], row[1], row[2], row[3]
        );
    }
    report += &format!(
        "{:12} {all:>4} {right:>6} {:>10} {:>6}\n{mistakes}",
        "all",
        sum(2),
        sum(3)
    );
    (right, all, report)
}

#[test]
fn questions_that_rules_were_written_for_are_decided() {
    let (right, all, report) = score(SEEN);
    println!("{report}");
    assert!(right * 100 >= all * 97, "{report}");
}

#[test]
fn held_out_questions_are_decided() {
    let (right, all, report) = score(HELD_OUT);
    println!("{report}");
    assert!(right * 100 >= all * HELD_OUT_PERCENT, "{report}");
}

#[test]
fn the_tables_are_large_and_share_no_question() {
    let (seen, held_out) = (questions(SEEN), questions(HELD_OUT));
    assert!(seen.len() + held_out.len() >= 200);
    let mut texts: Vec<String> = seen
        .iter()
        .chain(&held_out)
        .map(|q| q.text.to_lowercase())
        .collect();
    let classes: std::collections::BTreeSet<_> =
        seen.iter().chain(&held_out).map(|q| &q.class).collect();
    assert!(classes.len() >= 12);
    texts.sort();
    let n = texts.len();
    texts.dedup();
    assert_eq!(texts.len(), n);
}

#[test]
fn other_languages_are_left_to_the_model() {
    for text in [
        "如何学习一门新语言？",
        "Как приготовить борщ?",
        "Wie lade ich die Batterie?",
    ] {
        assert_eq!(decide(text).class, Class::Foreign, "{text}");
    }
    assert_ne!(decide("Is der Spiegel a magazine?").class, Class::Foreign);
}

#[test]
fn bad_input_is_decided_too() {
    let long = "word ".repeat(200_000);
    let sentences = "Is it so? ".repeat(20_000);
    for text in [
        "",
        " \n\t",
        "?",
        "\u{0}\u{1b}[31m",
        "ÄÖÜ ß",
        "a",
        "1",
        "+",
        "((((",
        &long,
        &sentences,
        &"é".repeat(9000),
        &"x".repeat(9000),
    ] {
        assert!(!decide(text).reason.contains('\n'));
    }
    assert_eq!(decide("").verdict, Verdict::Undecided);
}

#[test]
fn what_is_asked_is_found_around_a_long_context() {
    let context = "The meeting was on a Monday and the budget was discussed. ".repeat(60);
    assert_eq!(
        decide(&format!("{context}\nHow do I prepare the next one?")).class,
        Class::HowTo
    );
    assert_eq!(
        decide(&format!("Summarize the following text.\n{context}")).class,
        Class::Rewriting
    );
}
