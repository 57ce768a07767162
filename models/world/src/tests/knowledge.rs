//! The style of the knowledge: short plain sentences that a small model can learn.

use std::collections::BTreeSet;

use crate::World;
use crate::knowledge::{Subject, Topic, TopicKind};

/// Collects what is wrong, so that one run names all mistakes.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    fn need(&mut self, holds: bool, entry: &str, what: &str) {
        if !holds {
            self.0.push(format!("{entry}: {what}"));
        }
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[test]
fn sentences_are_short_and_plain() {
    let world = World::load().unwrap();
    let mut mistakes = Mistakes::default();
    for subject in &world.subjects {
        check_sentences(subject, &mut mistakes);
        check_facts(subject, &mut mistakes);
        check_topics(subject, &mut mistakes);
    }
    assert!(mistakes.0.is_empty(), "{:#?}", mistakes.0);
}

fn check_sentences(subject: &Subject, mistakes: &mut Mistakes) {
    for text in [&subject.what, &subject.purpose] {
        mistakes.need((9..=24).contains(&words(text)), text, "needs 9 to 24 words");
        mistakes.need(
            text.ends_with('.') && !text.contains(". "),
            text,
            "is one sentence",
        );
    }
    let named = subject
        .what
        .to_lowercase()
        .contains(&subject.name.to_lowercase());
    mistakes.need(named, &subject.what, "names its subject");
    for text in [&subject.pro, &subject.con] {
        mistakes.need(
            !text.ends_with('.') && words(text) <= 14,
            text,
            "is a short clause",
        );
    }
    mistakes.need(
        subject.also.len() <= 4,
        &subject.id,
        "has at most four other names",
    );
}

fn check_facts(subject: &Subject, mistakes: &mut Mistakes) {
    mistakes.need(
        (6..=8).contains(&subject.facts.len()),
        &subject.id,
        "needs 6 to 8 facts",
    );
    for fact in &subject.facts {
        mistakes.need(
            fact.question.ends_with('?'),
            &fact.question,
            "ends with a question mark",
        );
        mistakes.need(
            !fact.ask.ends_with(['?', '.']),
            &fact.ask,
            "is a noun phrase",
        );
        let short = fact.answer.ends_with('.') && words(&fact.answer) <= 24;
        mistakes.need(short, &fact.answer, "is one short sentence");
        mistakes.need(
            (1..=4).contains(&words(&fact.key)),
            &fact.key,
            "needs 1 to 4 words",
        );
        let plain = fact.answer.is_ascii() && !fact.answer.contains([':', ';', '(', ')', '"']);
        mistakes.need(plain, &fact.answer, "has odd punctuation");
        mistakes.need(
            fact.asked.len() >= 4,
            &fact.ask,
            "needs 4 questions in people's words",
        );
    }
}

fn check_topics(subject: &Subject, mistakes: &mut Mistakes) {
    let kinds: BTreeSet<&str> = subject
        .topics
        .iter()
        .map(|topic| topic.kind.name())
        .collect();
    mistakes.need(
        kinds.len() == subject.topics.len() && (3..=4).contains(&kinds.len()),
        &subject.id,
        "needs 3 or 4 topics, each of another kind",
    );
    let mut titles = BTreeSet::new();
    for topic in &subject.topics {
        let sizes = match topic.kind {
            TopicKind::About => 4..=6,
            TopicKind::Steps => 3..=8,
            TopicKind::Causes | TopicKind::Parts => 3..=5,
        };
        mistakes.need(
            sizes.contains(&topic.points.len()),
            &subject.id,
            "number of points",
        );
        let (n_also, n_asked) = match topic.kind {
            TopicKind::About | TopicKind::Parts => (0, 0),
            TopicKind::Steps => (4, 3),
            TopicKind::Causes => (5, 3),
        };
        let entry = format!("{} {}", subject.id, topic.kind.name());
        let is_asked = topic.also.len() >= n_also && topic.asked.len() >= n_asked;
        mistakes.need(is_asked, &entry, "needs people's words");
        check_points(topic, mistakes);
        for point in &topic.points {
            let new = titles.insert(point.title.to_lowercase());
            mistakes.need(new, &point.title, "is twice a title of its subject");
        }
    }
}

fn check_points(topic: &Topic, mistakes: &mut Mistakes) {
    let mut beginnings = BTreeSet::new();
    for point in &topic.points {
        let (title, text) = (&point.title, &point.text);
        let plain = (2..=5).contains(&words(title))
            && !title.ends_with('.')
            && !title.contains(|c: char| c.is_ascii_digit());
        mistakes.need(plain, title, "is a title of 2 to 5 words");
        let beginning: Vec<_> = title
            .split_whitespace()
            .take(2)
            .map(str::to_lowercase)
            .collect();
        mistakes.need(
            beginnings.insert(beginning),
            title,
            "begins like another title",
        );
        mistakes.need((9..=28).contains(&words(text)), text, "needs 9 to 28 words");
        let sentences = text
            .split(['.', '!', '?'])
            .filter(|s| s.starts_with(' '))
            .count();
        mistakes.need(
            text.ends_with('.') && sentences <= 1,
            text,
            "is one or two sentences",
        );
        let odd = |c: char| !c.is_ascii() || ":;()\"".contains(c);
        mistakes.need(
            !text.contains(odd) && !title.contains(odd),
            text,
            "has odd punctuation",
        );
        mistakes.need(
            (1..=4).contains(&words(&point.key)),
            &point.key,
            "needs 1 to 4 words",
        );
    }
}
