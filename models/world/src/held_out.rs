//! What training never sees: every sixth phrasing, and one in eight combinations.

use crate::Split;
use crate::draw::Draw;

/// Of every list of phrasings, those at this place in each group of [`PHRASING_GROUP`].
const HELD_PHRASING: usize = 5;
/// Every sixth phrasing is held out.
const PHRASING_GROUP: usize = 6;
/// One in this many combinations is held out.
const CELL_GROUP: u64 = 8;

/// How often a question is in words that were found for one thing alone, in a hundred. Of what is held out as
/// many are as when the knowledge had few such words: else figures would fall with every one that it gets, as
/// more and more of them would be asked, and be no measure of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent {
    pub(crate) training: usize,
    pub(crate) held_out: usize,
}

impl Percent {
    pub(crate) fn of(self, part: Subset, draw: &mut Draw) -> bool {
        draw.chance(match part {
            Subset::Training => self.training,
            Subset::NewPhrasing | Subset::NewCell => self.held_out,
        })
    }
}

/// Where an example comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subset {
    /// Seen phrasings in seen combinations.
    Training,
    /// A phrasing that training never uses.
    NewPhrasing,
    /// Seen phrasings, in a combination that training never uses.
    NewCell,
}

impl Subset {
    /// The part of the next example: held-out ones are half of each sort.
    pub(crate) fn of(split: Split, draw: &mut Draw) -> Subset {
        match split {
            Split::Training => Subset::Training,
            Split::HeldOut if draw.below(2) == 0 => Subset::NewPhrasing,
            Split::HeldOut => Subset::NewCell,
        }
    }

    /// Whether this part may use a phrasing in a combination that is held out or not.
    pub(crate) fn allows(self, phrasing: usize, held_cell: bool) -> bool {
        let new = is_new_phrasing(phrasing);
        match self {
            Subset::Training => !new && !held_cell,
            Subset::NewPhrasing => new,
            Subset::NewCell => !new && held_cell,
        }
    }

    /// One of `count` phrasings for a cell, or `None` when this part has none for it.
    pub(crate) fn phrasing(self, draw: &mut Draw, count: usize, cell: &[&str]) -> Option<usize> {
        let allowed: Vec<usize> = (0..count)
            .filter(|&i| self.allows(i, held_with(cell, i)))
            .collect();
        draw.pick(&allowed).copied()
    }

    /// One of some words that stand for themselves: one in eight is held out, wherever it stands.
    pub(crate) fn own_words<'a>(self, draw: &mut Draw, words: &'a [String]) -> Option<&'a str> {
        let fits = |words: &&String| held(&["own words", words]) == (self != Subset::Training);
        let allowed: Vec<&String> = words.iter().filter(fits).collect();
        draw.pick(&allowed).map(|words| words.as_str())
    }

    /// `usual`, or so often in a hundred other words for it that training may see.
    pub(crate) fn or_other_words<'a>(
        usual: &'a str,
        percent: usize,
        others: &'a [String],
        draw: &mut Draw,
    ) -> &'a str {
        let others = draw.chance(percent).then_some(others);
        let other = others.and_then(|others| Subset::Training.own_words(draw, others));
        other.unwrap_or(usual)
    }

    /// One of `count` phrasings, where only the phrasing decides: for lists whose combinations
    /// are counted elsewhere.
    pub(crate) fn free_phrasing(self, draw: &mut Draw, count: usize) -> usize {
        let wanted = self == Subset::NewPhrasing;
        let allowed: Vec<usize> = (0..count)
            .filter(|&i| is_new_phrasing(i) == wanted)
            .collect();
        draw.pick(&allowed).copied().unwrap_or(0)
    }
}

fn is_new_phrasing(index: usize) -> bool {
    index % PHRASING_GROUP == HELD_PHRASING
}

/// Whether a combination is held out.
pub(crate) fn held(cell: &[&str]) -> bool {
    hash(cell).is_multiple_of(CELL_GROUP)
}

fn held_with(cell: &[&str], phrasing: usize) -> bool {
    let mut parts = cell.to_vec();
    let number = phrasing.to_string();
    parts.push(&number);
    held(&parts)
}

/// Whether one of the things to refuse is held out: 15 in 100.
pub(crate) fn held_outside(item: &str) -> bool {
    hash(&["outside", item]) % 100 < 15
}

/// FNV-1a of the parts and their ends, mixed once more because its low bits are weak.
/// Changing it moves what is held out, so trained models can no longer be judged.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    state ^ (state >> 29) ^ (state >> 47)
}
