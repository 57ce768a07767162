//! Outlines of long answers, and one point of an outline at a time.

use crate::draw::{Draw, lower_first};
use crate::example::{Asked, Example, Kind};
use crate::held_out::Subset;
use crate::knowledge::{Subject, Topic};
use crate::long::{self, pick_topic};
use crate::phrasing::{self, fill, number_word, ordinal};
use crate::{Check, World};

/// How often the canonical form is used where the part has it, in a hundred.
const CANONICAL_PERCENT: usize = 35;

/// The outline of a topic.
pub(crate) fn outline(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let (subject, topic) = pick_topic(world, draw)?;
    outline_of(subject, topic, part, draw)
}

/// The outline of this topic; of a new phrasing, either the form or the question is new.
fn outline_of(subject: &Subject, topic: &Topic, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let (form, question_part) = match part {
        Subset::NewPhrasing if draw.below(2) == 0 => (Subset::NewPhrasing, Subset::Training),
        Subset::NewPhrasing => (Subset::Training, Subset::NewPhrasing),
        other => (Subset::Training, other),
    };
    let question = long::question(subject, topic, "outline", question_part, draw)?;
    let form = if part != Subset::NewPhrasing && draw.chance(CANONICAL_PERCENT) {
        draw.below(phrasing::CANONICAL_OUTLINES)
    } else {
        form.free_phrasing(draw, phrasing::OUTLINE.len())
    };
    let prompt = phrasing::OUTLINE[form].replace("{q}", &question);
    let titles: Vec<String> = topic
        .points
        .iter()
        .map(|point| point.title.clone())
        .collect();
    let lines: Vec<String> = titles
        .iter()
        .enumerate()
        .map(|(i, title)| format!("{}. {title}", i + 1))
        .collect();
    Some(Asked::new(
        prompt,
        lines.join("\n"),
        Check::Outline { titles },
    ))
}

/// One point of an outline that stands in the turn before; every point is as likely as another.
pub(crate) fn expand(world: &World, part: Subset, draw: &mut Draw) -> Option<Example> {
    let points: Vec<_> = world
        .topics()
        .flat_map(|(s, t)| (0..t.points.len()).map(move |i| (s, t, i)))
        .collect();
    let (subject, topic, index) = draw.pick(&points).copied()?;
    let before = outline_of(subject, topic, Subset::Training, draw)?;
    let asked = expand_point(subject, topic, index, part, draw)?;
    Some(asked.after(Kind::Expand, vec![before.turn]))
}

/// Two to five points of an outline in any order, each in a turn of its own.
pub(crate) fn points(world: &World, part: Subset, draw: &mut Draw) -> Option<Example> {
    let (subject, topic) = pick_topic(world, draw)?;
    let mut turns = vec![outline_of(subject, topic, Subset::Training, draw)?.turn];
    let mut left: Vec<usize> = (0..topic.points.len()).collect();
    let count = (2 + draw.below(4)).min(left.len());
    for _ in 1..count {
        let index = left.swap_remove(draw.below(left.len()));
        turns.push(expand_point(subject, topic, index, Subset::Training, draw)?.turn);
    }
    let index = left.swap_remove(draw.below(left.len()));
    let asked = expand_point(subject, topic, index, part, draw)?;
    Some(asked.after(Kind::Points, turns))
}

/// The turn that asks for one point of the outline above.
fn expand_point(
    subject: &Subject,
    topic: &Topic,
    index: usize,
    part: Subset,
    draw: &mut Draw,
) -> Option<Asked> {
    let point = &topic.points[index];

    let cell = [
        subject.id.as_str(),
        topic.kind.name(),
        "expand",
        &point.title,
    ];
    let all = phrasing::EXPAND.len();
    let canonical = draw.chance(CANONICAL_PERCENT);
    let few = if canonical {
        phrasing::CANONICAL_EXPANSIONS
    } else {
        all
    };
    let form = part
        .phrasing(draw, few, &cell)
        .or_else(|| part.phrasing(draw, all, &cell))?;
    let number = index + 1;
    let places = [
        ("{n}", number.to_string()),
        ("{word}", number_word(number)),
        ("{nth}", ordinal(number)),
        ("{title}", point.title.clone()),
    ];
    let places = places
        .each_ref()
        .map(|(place, value)| (*place, value.as_str()));
    let user = fill(phrasing::EXPAND[form], &places);
    let user = if form < phrasing::CANONICAL_EXPANSIONS || draw.chance(85) {
        user
    } else {
        lower_first(&user)
    };

    let others = topic.points.iter().enumerate().filter(|(i, _)| *i != index);
    let check = Check::Expansion {
        key: point.key.clone(),
        others: others.map(|(_, point)| point.key.clone()).collect(),
    };
    Some(Asked::new(user, point.text.clone(), check))
}
