//! Conversations of two to eight turns, and perhaps one about something else between, whose later questions point back.

use crate::draw::{Draw, upper_first};
use crate::example::{Asked, Example, Kind, Turn};
use crate::held_out::{Percent, Subset, held};
use crate::knowledge::{Fact, Subject, Topic, TopicKind};
use crate::long::{about_topic, answer, fill_topic, topic_words};
use crate::phrasing::{self, Called, fill, rename};
use crate::short::{self, comparison, fact_answer, fact_question, may_compare};
use crate::{World, command, outside};

/// At most this many whole topics, so that a conversation stays within a small context.
const MOST_LONG: usize = 3;
/// How many turns there are, from two on, beside one between: so often each.
const LENGTHS: [usize; 7] = [30, 26, 16, 10, 8, 6, 4];
/// A turn that does not fit is drawn again at most so often.
const MOST_DRAWS: usize = 50;
/// How often something else comes before the first question, in a hundred.
const BEFORE_PERCENT: usize = 15;
/// How often a fact is asked for in words that were found for it alone, in a hundred.
const OWN_WORDS: Percent = Percent {
    training: 50,
    held_out: 31,
};

/// What a turn asks; its name is part of the combination that is held out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Define,
    Purpose,
    Fact,
    Long(TopicKind),
    Compare,
}

impl Ask {
    fn name(self) -> &'static str {
        match self {
            Ask::Define => "define",
            Ask::Purpose => "purpose",
            Ask::Fact => "fact",
            Ask::Long(kind) => kind.name(),
            Ask::Compare => "compare",
        }
    }
}

/// How a turn hangs on the ones before.
#[derive(Clone, Copy)]
enum Move {
    /// Points back to the subject: "What is it for?"
    Follow,
    /// The question before, of another subject: "And the camera?"
    Same,
    /// A full question, of another subject or of the first one again.
    Switch,
    /// A command, a question from outside or small talk; the subject stays.
    Between,
}

/// A conversation in the making.
struct Talking<'a> {
    world: &'a World,
    subject: &'a Subject,
    last: Ask,
    kinds: Vec<&'static str>,
    turns: Vec<Turn>,
    longs: usize,
}

/// A conversation; its last turn is new where the part is.
pub(crate) fn turns(world: &World, part: Subset, draw: &mut Draw) -> Option<Example> {
    let count = 2 + draw.weighted(&LENGTHS);
    let first = draw.pick(&world.subjects)?;
    let mut talking = Talking {
        world,
        subject: first,
        last: Ask::Define,
        kinds: Vec::new(),
        turns: Vec::new(),
        longs: 0,
    };
    if draw.chance(BEFORE_PERCENT) {
        let asked = talking.between(Subset::Training, draw)?;
        talking.turns.push(asked.turn);
    }
    let opening = talking.full_question(first, Subset::Training, draw)?;
    talking.turns.push(opening.turn);
    // Only a new phrasing shows in the last turn; a new combination shows in the whole.
    let last_part = if part == Subset::NewPhrasing {
        part
    } else {
        Subset::Training
    };
    for _ in 2..count {
        let asked = talking.next_that_fits(first, Subset::Training, draw)?;
        talking.turns.push(asked.turn);
    }
    let asked = talking.next_that_fits(first, last_part, draw)?;
    let held_kinds = held(&["turns", &first.id, &talking.kinds.join(",")]);
    let fits = match part {
        Subset::Training => !held_kinds,
        Subset::NewPhrasing => true,
        Subset::NewCell => held_kinds,
    };
    fits.then(|| asked.after(Kind::Turns, talking.turns))
}

impl<'a> Talking<'a> {
    /// The next turn, drawn again where it does not fit: long conversations would else be rare.
    fn next_that_fits(
        &mut self,
        first: &'a Subject,
        part: Subset,
        draw: &mut Draw,
    ) -> Option<Asked> {
        for _ in 0..MOST_DRAWS {
            let before = (self.subject, self.last, self.kinds.len(), self.longs);
            if let Some(asked) = self.next(first, part, draw) {
                return Some(asked);
            }
            let n_kinds;
            (self.subject, self.last, n_kinds, self.longs) = before;
            self.kinds.truncate(n_kinds);
        }
        None
    }

    /// The next turn; `None` where the draw does not fit the conversation.
    fn next(&mut self, first: &'a Subject, part: Subset, draw: &mut Draw) -> Option<Asked> {
        let same = matches!(
            self.last,
            Ask::Define | Ask::Purpose | Ask::Long(TopicKind::About)
        );
        let weights = [55, if same { 16 } else { 0 }, 20, 20];
        let next = [Move::Follow, Move::Same, Move::Switch, Move::Between][draw.weighted(&weights)];
        let asked = match next {
            Move::Follow => self.follow(part, draw),
            Move::Same => self.same_again(part, draw),
            Move::Switch => {
                let back = self.subject.id != first.id;
                let subject = if back {
                    first
                } else {
                    draw.pick(&self.world.subjects)?
                };
                self.full_question(subject, part, draw)
            }
            Move::Between => return self.between(part, draw),
        }?;
        // Nobody asks twice for the same.
        let repeated = self
            .turns
            .iter()
            .any(|turn| turn.assistant == asked.turn.assistant);
        (!repeated && self.longs <= MOST_LONG).then_some(asked)
    }

    /// Remembers what is asked, and returns it.
    fn now(&mut self, subject: &'a Subject, ask: Ask) {
        self.subject = subject;
        self.last = ask;
        self.kinds.push(ask.name());
        self.longs += usize::from(matches!(ask, Ask::Long(_)));
    }

    /// A question that names its subject.
    fn full_question(
        &mut self,
        subject: &'a Subject,
        part: Subset,
        draw: &mut Draw,
    ) -> Option<Asked> {
        let ask = any_ask(subject, draw)?;
        self.now(subject, ask);
        match ask {
            Ask::Define => short::define(subject, part, draw),
            Ask::Purpose => short::purpose(subject, part, draw),
            Ask::Fact => short::fact(subject, part, draw),
            Ask::Long(kind) => about_topic(subject, subject.topic(kind)?, part, draw),
            // Which of the two "it" would mean is not clear after a comparison.
            Ask::Compare => None,
        }
    }

    /// A question that says "it".
    fn follow(&mut self, part: Subset, draw: &mut Draw) -> Option<Asked> {
        let subject = self.subject;
        let ask = any_ask(subject, draw)?;
        self.now(subject, ask);
        let cell = [subject.id.as_str(), "then", ask.name()];
        let choose = |draw: &mut Draw, templates: &[&'static str]| {
            part.phrasing(draw, templates.len(), &cell)
                .map(|i| templates[i])
        };
        match ask {
            Ask::Define => {
                let question = choose(draw, phrasing::THEN_DEFINE)?;
                Some(Asked::exactly(
                    draw.typed(question.to_owned()),
                    &subject.what,
                ))
            }
            Ask::Purpose => {
                let question = choose(draw, phrasing::THEN_PURPOSE)?;
                Some(Asked::exactly(
                    draw.typed(question.to_owned()),
                    &subject.purpose,
                ))
            }
            Ask::Fact => {
                let fact = draw.pick(&subject.facts)?;
                let template = choose(draw, phrasing::THEN_FACT)?;
                let question = fact_about_it(template, fact, subject, part, draw)?;
                Some(fact_answer(draw.typed(question), fact))
            }
            Ask::Long(kind) => {
                let topic = subject.topic(kind)?;
                let template = choose(draw, phrasing::then_long(kind))?;
                let question = topic_about_it(template, topic, subject, draw)?;
                Some(answer(draw.typed(question), subject, topic))
            }
            Ask::Compare => {
                let other = draw.pick(&self.world.subjects)?;
                if !may_compare(subject, other, Subset::Training) {
                    return None;
                }
                let template = choose(draw, phrasing::THEN_COMPARE)?;
                let question = fill(template, &[("{the}", Called::draw(other, draw).the)]);
                Some(comparison(draw.typed(question), subject, other))
            }
        }
    }

    /// The question before, of another subject.
    fn same_again(&mut self, part: Subset, draw: &mut Draw) -> Option<Asked> {
        let (other, ask) = (draw.pick(&self.world.subjects)?, self.last);
        self.now(other, ask);
        let cell = [other.id.as_str(), "same", ask.name()];
        let phrasing = part.phrasing(draw, phrasing::THEN_SAME.len(), &cell)?;
        let the = Called::draw(other, draw).the;
        let user = draw.typed(fill(phrasing::THEN_SAME[phrasing], &[("{the}", the)]));
        match ask {
            Ask::Define => Some(Asked::exactly(user, &other.what)),
            Ask::Purpose => Some(Asked::exactly(user, &other.purpose)),
            Ask::Long(kind) => Some(answer(user, other, other.topic(kind)?)),
            Ask::Fact | Ask::Compare => None,
        }
    }

    /// Something else, after which "it" still means the subject.
    fn between(&mut self, part: Subset, draw: &mut Draw) -> Option<Asked> {
        match draw.weighted(&[50, 30, 20]) {
            0 => {
                self.kinds.push("command");
                command::spoken(part, draw)
            }
            1 => {
                self.kinds.push("refuse");
                outside::refuse(self.world, part, draw)
            }
            _ => {
                self.kinds.push("talk");
                outside::talk(self.world, part, draw)
            }
        }
    }
}

/// What one could ask about a subject.
fn any_ask(subject: &Subject, draw: &mut Draw) -> Option<Ask> {
    Some(match draw.weighted(&[12, 18, 28, 32, 10]) {
        0 => Ask::Define,
        1 => Ask::Purpose,
        2 => Ask::Fact,
        3 => Ask::Long(draw.pick(&subject.topics)?.kind),
        _ => Ask::Compare,
    })
}

/// A question for a fact with "it", or `None` where the subject does not occur in it.
pub(crate) fn fact_about_it(
    template: &str,
    fact: &Fact,
    subject: &Subject,
    part: Subset,
    draw: &mut Draw,
) -> Option<String> {
    let the = &subject.the;
    if OWN_WORDS.of(part, draw) {
        let own = part.own_words(draw, &fact.asked)?;
        let question = rename(own, the, "it");
        return (question != own).then(|| upper_first(&question));
    }
    let source = if template.contains("{ask}") {
        &fact.ask
    } else {
        &fact.question
    };
    let points_back = rename(source, the, "it") != *source;
    points_back.then(|| fact_question(template, fact, |text| its(text, the)))
}

/// "the range of the lidar" as "its range"; elsewhere the subject becomes "it".
fn its(text: &str, the: &str) -> String {
    let property = text
        .strip_prefix("the ")
        .and_then(|rest| rest.strip_suffix(the));
    match property.and_then(|rest| rest.strip_suffix(" of ")) {
        Some(property) => format!("its {property}"),
        None => rename(text, the, "it"),
    }
}

/// A question for a topic with "it", or `None` where the subject does not occur in it.
pub(crate) fn topic_about_it(
    template: &str,
    topic: &Topic,
    subject: &Subject,
    draw: &mut Draw,
) -> Option<String> {
    if matches!(topic.kind, TopicKind::About | TopicKind::Parts) {
        return Some(template.to_owned());
    }
    let words = topic_words(topic, draw);
    let points_back = rename(words, &subject.the, "it") != words;
    points_back.then(|| {
        fill_topic(template, &subject.the, words, |text| {
            rename(text, &subject.the, "it")
        })
    })
}
