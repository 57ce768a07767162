//! Short questions: what a subject is, what it is for, one fact, two subjects compared.

use crate::draw::{Draw, lower_first, upper_first};
use crate::example::Asked;
use crate::held_out::{Percent, Subset, held};
use crate::knowledge::{Fact, Subject};
use crate::phrasing::{self, Called, fill, put};
use crate::{Check, World};

/// How often a fact is asked for in words that were found for it alone, in a hundred.
const OWN_WORDS: Percent = Percent {
    training: 75,
    held_out: 50,
};

/// What a subject is.
pub(crate) fn define(subject: &Subject, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let phrasing = part.phrasing(draw, phrasing::DEFINE.len(), &[&subject.id, "define"])?;
    let called = Called::draw(subject, draw);
    let question = fill(phrasing::DEFINE[phrasing], &[("{a}", &called.a)]);
    Some(Asked::exactly(put(question, part, draw), &subject.what))
}

/// What it is for.
pub(crate) fn purpose(subject: &Subject, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let phrasing = part.phrasing(draw, phrasing::PURPOSE.len(), &[&subject.id, "purpose"])?;
    let called = Called::draw(subject, draw);
    let question = fill(phrasing::PURPOSE[phrasing], &[("{the}", called.the)]);
    Some(Asked::exactly(put(question, part, draw), &subject.purpose))
}

/// One of its facts.
pub(crate) fn fact(subject: &Subject, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let fact = draw.pick(&subject.facts)?;
    let called = Called::draw(subject, draw);
    let question = if OWN_WORDS.of(part, draw) {
        called.rename(part.own_words(draw, &fact.asked)?)
    } else {
        let cell = [subject.id.as_str(), "fact", &fact.ask];
        let phrasing = part.phrasing(draw, phrasing::FACT.len(), &cell)?;
        let template = phrasing::FACT[phrasing];
        let question = fact_question(template, fact, |text| called.rename(text));
        // It may be what is trained on: somebody's own words, or another phrasing with something before it.
        let is_own = |own: &String| called.rename(own).eq_ignore_ascii_case(&question);
        let is_seen = fact.asked.iter().any(is_own) || phrasing::is_framed(template);
        if part != Subset::Training && is_seen {
            return None;
        }
        question
    };
    Some(fact_answer(put(question, part, draw), fact))
}

/// A question for a fact, with the subject as `name` writes it.
pub(crate) fn fact_question(template: &str, fact: &Fact, name: impl Fn(&str) -> String) -> String {
    let question = name(&fact.question);
    let places = [
        ("{q}", question.as_str()),
        ("{lq}", &lower_first(&question)),
        ("{ask}", &name(&fact.ask)),
    ];
    fill(template, &places)
}

/// The fact as the answer to a question.
pub(crate) fn fact_answer(user: String, fact: &Fact) -> Asked {
    let check = Check::Facts {
        keys: vec![fact.key.clone()],
    };
    Asked::new(user, fact.answer.clone(), check)
}

/// Two subjects side by side.
pub(crate) fn compare(world: &World, part: Subset, draw: &mut Draw) -> Option<Asked> {
    let (a, b) = (draw.pick(&world.subjects)?, draw.pick(&world.subjects)?);
    if !may_compare(a, b, part) {
        return None;
    }
    let phrasing = part.free_phrasing(draw, phrasing::COMPARE.len());
    let (the, other) = (Called::draw(a, draw).the, Called::draw(b, draw).the);
    let question = fill(
        phrasing::COMPARE[phrasing],
        &[("{the}", the), ("{b}", other)],
    );
    Some(comparison(put(question, part, draw), a, b))
}

/// Whether a part may compare these two; their order does not matter.
pub(crate) fn may_compare(a: &Subject, b: &Subject, part: Subset) -> bool {
    let (low, high) = if a.id < b.id { (a, b) } else { (b, a) };
    let pair_held = held(&["compare", &low.id, &high.id]);
    a.id != b.id
        && match part {
            Subset::Training => !pair_held,
            Subset::NewPhrasing => true,
            Subset::NewCell => pair_held,
        }
}

/// The comparison as the answer to a question.
pub(crate) fn comparison(user: String, a: &Subject, b: &Subject) -> Asked {
    let side = |s: &Subject| format!("{} {}, but it {}.", upper_first(&s.the), s.pro, s.con);
    let keys = [&a.pro, &a.con, &b.pro, &b.con].map(String::clone).to_vec();
    Asked::new(
        user,
        format!("{} {}", side(a), side(b)),
        Check::Facts { keys },
    )
}
