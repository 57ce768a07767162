//! Questions that have no answer: about a subject whose knowledge does not tell, and about an "it" that
//! nobody named.

use crate::World;
use crate::draw::Draw;
use crate::example::Asked;
use crate::held_out::{Percent, Subset, held};
use crate::knowledge::{Subject, TopicKind};
use crate::phrasing::{self, Called, fill, put};
use crate::turns::{fact_about_it, topic_about_it};

/// How often a gap is asked for in words that were found for it alone, and how often such words stand in a
/// phrasing for all, in a hundred.
const OWN_WORDS: Percent = Percent {
    training: 50,
    held_out: 27,
};
const ALSO_PERCENT: usize = 60;

/// How it is said of a subject that the knowledge does not tell.
pub(crate) const UNKNOWN: &str = "I do not know that about";

/// What to say where "it" was not named.
pub(crate) const WHICH: &str = "Which device or part do you mean?";

/// A task, a fact or a trouble that the knowledge lacks for one subject at least, or something about "it".
pub(crate) fn unknown(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let subject = draw.pick(&world.subjects)?;
    let (gaps, templates, place) = match draw.weighted(&[25, 35, 20, 20]) {
        0 => (&world.unknown.tasks, phrasing::STEPS, "{do}"),
        1 => (&world.unknown.facts, phrasing::FACT, "{ask}"),
        2 => (&world.unknown.troubles, phrasing::CAUSES, "{when}"),
        _ => return nothing_named(subject, part, draw),
    };
    let gap = draw.pick(gaps)?;
    if gap.unless.iter().any(|word| tells(subject, word)) {
        return None;
    }
    let the = Called::draw(subject, draw).the;
    let question = if !gap.asked.is_empty() && OWN_WORDS.of(part, draw) {
        part.own_words(draw, &gap.asked)?.replace("{the}", the)
    } else {
        let cell = [subject.id.as_str(), "unknown", &gap.ask];
        let template = templates[part.phrasing(draw, templates.len(), &cell)?];
        // A whole question of its own, as facts have it, is not there.
        if !template.contains(place) {
            return None;
        }
        let asked = Subset::or_other_words(&gap.ask, ALSO_PERCENT, &gap.also, draw);
        let asked = asked.replace("{the}", the);
        fill(template, &[(place, &asked)])
    };
    Some(Asked::exactly(
        put(question, part, draw),
        &format!("{UNKNOWN} {}.", subject.the),
    ))
}

/// A question of a conversation's middle at its beginning. One in eight of these is held out, whichever
/// subject it comes from.
fn nothing_named(subject: &Subject, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let choose = |draw: &mut Draw, templates: &[&'static str]| {
        templates[Subset::Training.free_phrasing(draw, templates.len())]
    };
    let question = match draw.weighted(&[10, 10, 30, 30, 20]) {
        0 => choose(draw, phrasing::THEN_DEFINE).to_owned(),
        1 => choose(draw, phrasing::THEN_PURPOSE).to_owned(),
        2 => {
            let fact = draw.pick(&subject.facts)?;
            let template = choose(draw, phrasing::THEN_FACT);
            fact_about_it(template, fact, subject, Subset::Training, draw)?
        }
        3 => {
            let topic = draw.pick(&subject.topics)?;
            // "Tell me more" and "what is inside" go on with something.
            if matches!(topic.kind, TopicKind::About | TopicKind::Parts) {
                return None;
            }
            let template = choose(draw, phrasing::then_long(topic.kind));
            topic_about_it(template, topic, subject, draw)?
        }
        _ => choose(draw, phrasing::NAMELESS).to_owned(),
    };
    let fits = held(&["it", &question.to_lowercase()]) == (part != Subset::Training);
    fits.then(|| Asked::exactly(draw.typed(question), WHICH))
}

/// In so many of the ways to ask for one thing a word is what it is about; in fewer it came in passing.
const TELLING: usize = 2;

/// Whether the subject's own tasks, facts and causes are about a word, or a longer one that begins with it.
fn tells(subject: &Subject, word: &str) -> bool {
    let word = format!(" {word}");
    let holds = |text: &str| format!(" {}", text.to_lowercase()).contains(&word);
    let is_asked = |asked: &[String], also: &[String]| {
        let texts = asked.iter().chain(also);
        texts.filter(|text| holds(text)).count() >= TELLING
    };
    let topics = [TopicKind::Steps, TopicKind::Causes];
    let mut topics = topics.into_iter().filter_map(|kind| subject.topic(kind));
    let mut facts = subject.facts.iter();
    topics.any(|topic| {
        holds(&topic.task) || holds(&topic.when) || is_asked(&topic.asked, &topic.also)
    }) || facts.any(|fact| {
        [&fact.ask, &fact.question, &fact.answer]
            .into_iter()
            .any(|text| holds(text))
            || is_asked(&fact.asked, &[])
    })
}
