//! Questions about what could be commanded. None of their answers is a command.

use crate::draw::Draw;
use crate::example::Asked;
use crate::held_out::{Percent, Subset};
use crate::knowledge::Ability;
use crate::phrasing::{self, fill, put};
use crate::{World, outside};

/// Where something that moves could hit a person.
const DANGER: &str =
    "Keep clear of the robot while it moves, although it stops when a person comes near.";

/// How often a question is one that was found for its ability alone, in a hundred.
const OWN_WORDS: Percent = Percent {
    training: 45,
    held_out: 11,
};

/// Whether and how the robot does something, whether that is dangerous, or something that it cannot do.
pub(crate) fn ability(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    if draw.chance(18) {
        return inability(world, part, draw);
    }
    let ability = draw.pick(&world.abilities)?;
    if OWN_WORDS.of(part, draw) {
        let question = part.own_words(draw, &ability.asked)?.to_owned();
        return Some(Asked::exactly(put(question, part, draw), &told(ability)));
    }
    let is_danger = ability.moves && draw.chance(30);
    let (templates, answer) = match is_danger {
        true => (phrasing::DANGERS, DANGER.to_owned()),
        false => (phrasing::ABILITIES, told(ability)),
    };
    let cell = ["ability", ability.example.as_str()];
    let template = templates[part.phrasing(draw, templates.len(), &cell)?];
    let places = [
        ("{do}", Subset::Training.own_words(draw, &ability.does)?),
        ("{is}", Subset::Training.own_words(draw, &ability.acts)?),
    ];
    let question = fill(template, &places);
    Some(Asked::exactly(put(question, part, draw), &answer))
}

fn told(ability: &Ability) -> String {
    let example = &ability.example;
    format!("The robot does that on a command, for example: {example}.")
}

fn inability(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let task = part.own_words(draw, &world.inabilities)?;
    let at = Subset::Training.free_phrasing(draw, phrasing::INABILITIES.len());
    let question = fill(phrasing::INABILITIES[at], &[("{do}", task)]);
    Some(Asked::exactly(put(question, part, draw), outside::REFUSAL))
}
