#![allow(clippy::unwrap_used)]
//! The router against two tables of questions: the phrases were written with the first in view, none
//! for a question of the second.

use super::*;

const SEEN: &str = include_str!("questions_seen.tsv");
const HELD_OUT: &str = include_str!("questions_held_out.tsv");

/// Of a hundred questions that the rules outline, at least so many suit: the others get worse answers.
const RIGHT_PERCENT: usize = 95;
/// Of a hundred held-out questions that suit, at least so many are known: the others get slower ones.
const KNOWN_PERCENT: usize = 55;

fn suits(class: &str) -> bool {
    let suiting = "list how-to comparison advice explanation causes foreign";
    suiting.split(' ').any(|known| known == class)
}

/// The class and the text of each question.
fn questions(table: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (class, text) = line.split_once('\t').unwrap();
        let class = class.trim_end_matches('?');
        (class.to_owned(), text.replace("\\n", "\n"))
    };
    table.lines().map(line).collect()
}

#[test]
fn what_is_outlined_suits_and_most_of_what_suits_is() {
    for (table, known_percent) in [(SEEN, 85), (HELD_OUT, KNOWN_PERCENT)] {
        let (mut outlined, mut wrong, mut suiting, mut known) = (0, Vec::new(), 0, 0);
        for (class, text) in questions(table) {
            let found = decide(&text);
            let is_outlined = found.verdict == Verdict::Outline;
            outlined += usize::from(is_outlined);
            // Of other languages some are known, which is no fault.
            let is_asked = suits(&class) && class != "foreign";
            suiting += usize::from(is_asked);
            known += usize::from(is_asked && is_outlined);
            if is_outlined && !suits(&class) {
                wrong.push(format!("{class}: {text} ({found:?})"));
            }
        }
        let right = outlined - wrong.len();
        assert!(right * 100 >= outlined * RIGHT_PERCENT, "{wrong:#?}");
        assert!(
            known * 100 >= suiting * known_percent,
            "{known} of {suiting}"
        );
    }
}

#[test]
fn other_languages_have_their_words_or_one_piece() {
    for (text, class) in [
        ("如何学习一门新语言？", Class::OnePiece),
        ("Как приготовить борщ на обед?", Class::Unclear),
        ("Wie wechsle ich einen Reifen?", Class::HowTo),
        ("Cuáles son las ventajas de la energía solar?", Class::List),
    ] {
        assert_eq!(decide(text).class, class, "{text}");
    }
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
    assert_eq!(decide("").verdict, Verdict::Plain);
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
        Class::OnePiece
    );
}
