//! The endless streams of examples, for training and for what training must not see.

use crate::draw::Draw;
use crate::held_out::Subset;
use crate::{Check, World, ability, command, long, outline, outside, short, turns, unknown};

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// For training.
    Training,
    /// Phrasings and combinations that never occur in training.
    HeldOut,
}

/// What an example shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What a subject is.
    Define,
    /// What it is for.
    Purpose,
    /// One fact about it.
    Fact,
    /// Two subjects side by side.
    Compare,
    /// A whole topic in one paragraph.
    Long,
    /// The titles of a topic's points.
    Outline,
    /// One point of an outline given before.
    Expand,
    /// A spoken command as JSON.
    Command,
    /// A conversation whose later questions point back.
    Turns,
    /// A question from outside the world.
    Refuse,
    /// Small talk.
    Talk,
    /// Several points of one outline, each asked for in its turn.
    Points,
    /// A question about a subject that the knowledge does not answer.
    Unknown,
    /// A question about what could be commanded: no command.
    Ability,
}

impl Kind {
    /// All kinds, in the order of their definition.
    pub const ALL: [Kind; 14] = [
        Kind::Define,
        Kind::Purpose,
        Kind::Fact,
        Kind::Compare,
        Kind::Long,
        Kind::Outline,
        Kind::Expand,
        Kind::Command,
        Kind::Turns,
        Kind::Refuse,
        Kind::Talk,
        Kind::Points,
        Kind::Unknown,
        Kind::Ability,
    ];

    /// How often the kind occurs in the stream of all kinds, relative to the others. Long answers
    /// are many tokens each; commands, facts and what a question means take many examples to learn.
    fn weight(self) -> usize {
        match self {
            Kind::Command => 220,
            Kind::Fact => 80,
            Kind::Long => 34,
            Kind::Unknown => 28,
            Kind::Ability => 24,
            Kind::Define | Kind::Purpose | Kind::Outline => 18,
            Kind::Turns => 14,
            Kind::Compare | Kind::Refuse => 12,
            Kind::Expand | Kind::Points | Kind::Talk => 10,
        }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the user says.
    pub user: String,
    /// What the assistant answers.
    pub assistant: String,
}

/// A conversation, with what its last answer must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What it shows.
    pub kind: Kind,
    /// At least one turn.
    pub turns: Vec<Turn>,
    /// Judges the last turn's answer.
    pub check: Check,
}

/// One turn with its check, before it is part of a conversation.
pub(crate) struct Asked {
    pub(crate) turn: Turn,
    pub(crate) check: Check,
}

impl Asked {
    pub(crate) fn new(user: String, assistant: String, check: Check) -> Asked {
        Asked {
            turn: Turn { user, assistant },
            check,
        }
    }

    /// The answer must be exactly this text.
    pub(crate) fn exactly(user: String, text: &str) -> Asked {
        Asked::new(
            user,
            text.to_owned(),
            Check::Text {
                text: text.to_owned(),
            },
        )
    }

    /// A conversation that ends with this turn.
    pub(crate) fn after(self, kind: Kind, mut turns: Vec<Turn>) -> Example {
        turns.push(self.turn);
        Example {
            kind,
            turns,
            check: self.check,
        }
    }
}

impl World {
    /// Example number `index` of the endless stream of a split: a pure function of its arguments.
    /// Kinds come by their [`Kind::weight`].
    pub fn example(&self, split: Split, seed: u64, index: u64) -> Example {
        let mut draw = Draw::new([seed, split as u64, u64::MAX, index]);
        let kind = Kind::ALL[draw.weighted(&Kind::ALL.map(Kind::weight))];
        self.example_of(kind, split, seed, index)
    }

    /// The same for one kind.
    pub fn example_of(&self, kind: Kind, split: Split, seed: u64, index: u64) -> Example {
        let draw = Draw::new([seed, split as u64, kind as u64, index]);
        self.example_by(kind, split, draw)
    }

    pub(crate) fn example_by(&self, kind: Kind, split: Split, mut draw: Draw) -> Example {
        let part = Subset::of(split, &mut draw);
        // A draw fails where a subject happens to have no phrasing in this part; every kind has
        // many that do, so this ends after a few rounds.
        loop {
            if let Some(example) = self.try_example(kind, part, &mut draw) {
                return example;
            }
        }
    }

    fn try_example(&self, kind: Kind, part: Subset, draw: &mut Draw) -> Option<Example> {
        let asked = match kind {
            Kind::Define => short::define(draw.pick(&self.subjects)?, part, draw),
            Kind::Purpose => short::purpose(draw.pick(&self.subjects)?, part, draw),
            Kind::Fact => short::fact(draw.pick(&self.subjects)?, part, draw),
            Kind::Compare => short::compare(self, part, draw),
            Kind::Long => long::long(self, part, draw),
            Kind::Outline => outline::outline(self, part, draw),
            Kind::Command => command::spoken(part, draw),
            Kind::Refuse => outside::refuse(self, part, draw),
            Kind::Talk => outside::talk(self, part, draw),
            Kind::Unknown => unknown::unknown(self, part, draw),
            Kind::Ability => ability::ability(self, part, draw),
            Kind::Expand => return outline::expand(self, part, draw),
            Kind::Points => return outline::points(self, part, draw),
            Kind::Turns => return turns::turns(self, part, draw),
        };
        Some(asked?.after(kind, Vec::new()))
    }
}
