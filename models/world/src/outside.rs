//! What the assistant refuses, and small talk.

use crate::World;
use crate::draw::{Draw, lower_first};
use crate::example::Asked;
use crate::held_out::{Subset, held_outside};
use crate::phrasing::{self, fill, put};

/// The one answer to all that lies outside.
pub(crate) const REFUSAL: &str = "I only know about the robot and the devices around it.";

/// A question from outside the world.
pub(crate) fn refuse(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let outside = &world.outside;
    let (items, templates) = match draw.weighted(&[45, 30, 25]) {
        0 => (&outside.things, phrasing::OUTSIDE_THING),
        1 => (&outside.tasks, phrasing::OUTSIDE_TASK),
        _ => (&outside.questions, phrasing::OUTSIDE_QUESTION),
    };
    let item = draw.pick(items)?;
    let fits = match part {
        Subset::Training => !held_outside(item),
        Subset::NewPhrasing => true,
        Subset::NewCell => held_outside(item),
    };
    if !fits {
        return None;
    }
    let template = templates[part.free_phrasing(draw, templates.len())];
    let places = [
        ("{thing}", item.as_str()),
        ("{task}", item),
        ("{q}", item),
        ("{lq}", &lower_first(item)),
    ];
    Some(Asked::exactly(
        put(fill(template, &places), part, draw),
        REFUSAL,
    ))
}

/// Small talk. A saying fits one talk alone, so that there are no combinations to hold out: only
/// sayings are.
pub(crate) fn talk(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let talk = draw.pick(&world.talks)?;
    let part = match part {
        Subset::Training => part,
        Subset::NewPhrasing | Subset::NewCell => Subset::NewPhrasing,
    };
    let says = part.free_phrasing(draw, talk.says.len());
    Some(Asked::exactly(
        draw.typed(talk.says[says].clone()),
        &talk.reply,
    ))
}
