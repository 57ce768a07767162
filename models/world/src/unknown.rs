//! Questions about a subject of the world that its knowledge does not answer.

use crate::World;
use crate::draw::Draw;
use crate::example::Asked;
use crate::held_out::Subset;
use crate::knowledge::{Subject, TopicKind};
use crate::phrasing::{self, Called, fill};

/// A task or a fact that the knowledge lacks for one subject at least.
pub(crate) fn unknown(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let subject = draw.pick(&world.subjects)?;
    let (gaps, templates, place) = if draw.chance(50) {
        (&world.unknown.tasks, phrasing::STEPS, "{do}")
    } else {
        (&world.unknown.facts, phrasing::FACT, "{ask}")
    };
    let gap = draw.pick(gaps)?;
    if gap.unless.iter().any(|word| tells(subject, word)) {
        return None;
    }
    let cell = [subject.id.as_str(), "unknown", &gap.ask];
    let template = templates[part.phrasing(draw, templates.len(), &cell)?];
    // A whole question of its own, as facts have it, is not there.
    if !template.contains(place) {
        return None;
    }
    let asked = gap.ask.replace("{the}", Called::draw(subject, draw).the);
    let question = fill(template, &[(place, &asked)]);
    Some(Asked::exactly(
        draw.typed(question),
        &format!("I do not know that about {}.", subject.the),
    ))
}

/// Whether the subject's own tasks and facts hold a word, or a longer one that begins with it.
fn tells(subject: &Subject, word: &str) -> bool {
    let tasks = subject
        .topic(TopicKind::Steps)
        .map(|topic| topic.task.as_str());
    let facts = subject
        .facts
        .iter()
        .flat_map(|fact| [fact.ask.as_str(), &fact.question, &fact.answer]);
    tasks.into_iter().chain(facts).any(|text| {
        let text = format!(" {}", text.to_lowercase());
        text.contains(&format!(" {word}"))
    })
}
