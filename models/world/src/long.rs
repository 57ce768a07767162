//! Long questions: a whole topic as one paragraph.

use crate::draw::{Draw, upper_first};
use crate::example::Asked;
use crate::held_out::{Percent, Subset};
use crate::knowledge::{Subject, Topic, TopicKind};
use crate::phrasing::{self, Called, fill, number_word, put};
use crate::{Check, World};

/// How often a topic is asked for in words that were found for it alone, and how often such words stand
/// in a phrasing for all, in a hundred.
const OWN_WORDS: Percent = Percent {
    training: 50,
    held_out: 21,
};
const ALSO_PERCENT: usize = 65;

/// A topic in one paragraph.
pub(crate) fn long(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let (subject, topic) = pick_topic(world, draw)?;
    about_topic(subject, topic, part, draw)
}

/// One of all topics, each as likely as the others.
pub(crate) fn pick_topic<'a>(
    world: &'a World,
    draw: &mut Draw,
) -> Option<(&'a Subject, &'a Topic)> {
    let topics: Vec<_> = world.topics().collect();
    draw.pick(&topics).copied()
}

/// A question about this topic, with the whole answer.
pub(crate) fn about_topic(
    subject: &Subject,
    topic: &Topic,
    part: Subset,
    draw: &mut Draw,
) -> Option<Asked> {
    let question = question(subject, topic, "long", part, draw)?;
    Some(answer(question, subject, topic))
}

/// A question about a topic, as somebody types it; `use_as` tells the combinations of long
/// answers from those of outlines.
pub(crate) fn question(
    subject: &Subject,
    topic: &Topic,
    use_as: &str,
    part: Subset,
    draw: &mut Draw,
) -> Option<String> {
    let called = Called::draw(subject, draw);
    if OWN_WORDS.of(part, draw) {
        let question = called.rename(part.own_words(draw, &topic.asked)?);
        return Some(put(question, part, draw));
    }
    let templates = phrasing::long(topic.kind);
    let cell = [subject.id.as_str(), topic.kind.name(), use_as];
    let phrasing = part.phrasing(draw, templates.len(), &cell)?;
    let words = topic_words(topic, draw);
    let question = fill_topic(templates[phrasing], called.the, words, |text| {
        called.rename(text)
    });
    Some(put(question, part, draw))
}

/// What is to be done or what is wrong, in one way of many.
pub(crate) fn topic_words<'a>(topic: &'a Topic, draw: &mut Draw) -> &'a str {
    let usual = match topic.kind {
        TopicKind::Causes => &topic.when,
        TopicKind::About | TopicKind::Steps | TopicKind::Parts => &topic.task,
    };
    Subset::or_other_words(usual, ALSO_PERCENT, &topic.also, draw)
}

/// A template filled for a topic in these words, with the subject as `name` writes it.
pub(crate) fn fill_topic(
    template: &str,
    the: &str,
    words: &str,
    name: impl Fn(&str) -> String,
) -> String {
    let words = name(words);
    let places = [("{the}", the), ("{do}", &words), ("{when}", &words)];
    // A clause that opens a later sentence stays as it is: "Please help, the wheel slips."
    fill(template, &places)
}

/// The whole topic as the answer to a question.
pub(crate) fn answer(user: String, subject: &Subject, topic: &Topic) -> Asked {
    let count = number_word(topic.points.len());
    let opening = match topic.kind {
        TopicKind::About => subject.what.clone(),
        TopicKind::Steps => format!("To {}, follow these {count} steps.", topic.task),
        TopicKind::Causes => format!("There are {count} common causes."),
        TopicKind::Parts => format!("{} has {count} main parts.", upper_first(&subject.the)),
    };
    let mut text = opening;
    for point in &topic.points {
        text.push(' ');
        text.push_str(&point.text);
    }
    let keys = topic.points.iter().map(|point| point.key.clone()).collect();
    Asked::new(user, text, Check::Facts { keys })
}
