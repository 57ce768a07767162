//! What guesses beside the Verifier, from the states that enter the output head.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use jupiter_models::engine::RowStates;
use jupiter_models::mtp::{MOST_UNTOLD, MtpBlock, MtpWish};
use jupiter_models::{KvOp, SequenceId, Token};

use super::JudgedDraft;
use super::untold::Untold;
use crate::clock;
use crate::factory::Heads;
use crate::message::{DraftKind, HeadGuess, HeadsTiming, StepHeader};
use crate::speculation::accept::Verdict;

/// How many tokens are named for a place: beyond, a guess is hardly ever right (arXiv 2401.10774,
/// figure 3).
const GUESSES_PER_PLACE: usize = 4;
/// Places that a block for multi-token prediction guesses at: each takes a layer and the output head, and
/// models are trained for one or two.
const MTP_PLACES: usize = 3;
/// After so many verdicts without a wish for guesses nothing is kept of a text: more than probes are apart.
const MOST_UNASKED: usize = 64;

/// Guesses for each place: some tokens, the likeliest first.
type Guesses = Vec<Vec<HeadGuess>>;

/// What guesses, once it is loaded, and what it has to know.
#[derive(Default)]
pub(super) struct Guesser {
    heads: Option<Heads>,
    /// By sequence, what a block for multi-token prediction is to be told, also while it is being loaded;
    /// none where there will be no block.
    untold: Option<HashMap<SequenceId, Text>>,
}

/// A text as a block for multi-token prediction sees it.
#[derive(Default)]
struct Text {
    untold: Untold,
    /// Verdicts since guesses were wanted.
    n_unasked: usize,
}

impl Guesser {
    /// For heads that are to come; `tells` where they are a block for multi-token prediction.
    pub(super) fn new(tells: bool) -> Self {
        Self {
            heads: None,
            untold: tells.then(HashMap::new),
        }
    }

    /// They are here; whether a guess takes so long that nobody should wait for it who only hands a step over.
    pub(super) fn equip(&mut self, heads: Heads) -> bool {
        let is_slow = matches!(heads, Heads::Mtp(_));
        self.heads = Some(heads);
        is_slow
    }

    /// They failed, or never come; what they were.
    pub(super) fn lose(&mut self) -> Option<DraftKind> {
        self.untold = None;
        self.heads.take().map(|heads| match heads {
            Heads::Medusa(_) => DraftKind::Medusa,
            Heads::Mtp(_) => DraftKind::Mtp,
        })
    }

    /// Other texts begin in all sequences.
    pub(super) fn clear(&mut self) {
        if let Some(block) = self.block() {
            block.clear();
        }
        self.untold.iter_mut().for_each(HashMap::clear);
    }

    /// Takes the KV operations of a step, and of its rows those that nobody judges: they are of the text.
    pub(super) fn take_step(&mut self, header: &StepHeader, states: &RowStates) {
        if self.untold.is_none() {
            return;
        }
        let mut is_judged = vec![false; header.rows.len()];
        for rows in header.drafts.iter().map(|draft| draft.rows()) {
            is_judged
                .get_mut(rows)
                .into_iter()
                .for_each(|rows| rows.fill(true));
        }
        let rows = (0..).zip(&header.rows).zip(&is_judged);
        // Branches of guesses are no texts: they have rows that are judged as another sequence's, and nothing else.
        let of_drafts = header.drafts.iter().flat_map(|draft| {
            let rows = header.rows.get(draft.rows()).unwrap_or_default();
            let seqs = rows.iter().flat_map(|row| row.seq_ids.iter().copied());
            seqs.filter(|&seq| seq != draft.seq)
        });
        let branches: HashSet<SequenceId> = of_drafts.collect();
        for op in &header.kv_ops {
            self.apply(*op, &branches);
        }
        let mut busy: HashSet<SequenceId> = header.drafts.iter().map(|draft| draft.seq).collect();
        for ((at, row), _) in rows.filter(|(_, is_judged)| !**is_judged) {
            let Some(state) = states.of(at) else {
                continue;
            };
            for &seq in &row.seq_ids {
                if let Some(text) = self.text(seq) {
                    text.n_unasked = 0;
                    text.untold.computed(row.pos, row.token, state);
                    busy.insert(seq);
                }
            }
        }
        self.keep_within_bounds(&busy);
    }

    fn apply(&mut self, op: KvOp, branches: &HashSet<SequenceId>) {
        match op {
            KvOp::Drop { seq } => {
                self.untold.iter_mut().for_each(|of| _ = of.remove(&seq));
                if let Some(block) = self.block() {
                    block.forget(seq);
                }
            }
            KvOp::Fork { src, dst, len } if !branches.contains(&dst) => {
                let from = self.untold.as_ref().and_then(|of| of.get(&src));
                // A branch that was right becomes the text, which knows it by the verdict.
                let Some(untold) = from.map(|from| from.untold.first(len)) else {
                    return;
                };
                if let Some(text) = self.text(dst) {
                    *text = Text {
                        untold,
                        n_unasked: 0,
                    };
                }
                if let Some(block) = self.block() {
                    block.fork(src, dst, len);
                }
            }
            KvOp::Fork { .. } => {}
            KvOp::Truncate { seq, pos } => {
                // The last accepted token has no row yet: up to it nothing is lost but what was refused.
                let text = self.text(seq).filter(|text| pos + 1 < text.untold.end());
                let Some(text) = text else {
                    return;
                };
                text.untold.cut(pos);
                if let Some(block) = self.block() {
                    block.truncate(seq, pos);
                }
            }
        }
    }

    /// Keeps no more rows than were counted for when the block was loaded; those of texts that do nothing now
    /// go first.
    fn keep_within_bounds(&mut self, busy: &HashSet<SequenceId>) {
        let Some(texts) = &mut self.untold else {
            return;
        };
        let mut n_rows: usize = texts.values().map(|text| text.untold.len()).sum();
        for is_idle in [true, false] {
            for (seq, text) in texts.iter_mut() {
                if n_rows > MOST_UNTOLD && busy.contains(seq) != is_idle {
                    n_rows -= text.untold.take().tokens.len();
                }
            }
        }
    }

    /// What was judged of a text: it goes on with the accepted guesses of `draft` and the token after them.
    pub(super) fn take_verdict(&mut self, draft: &JudgedDraft<'_>, verdict: &Verdict) {
        let (seq, is_asked) = (draft.rows.seq, draft.rows.n_places > 0);
        let Some(text) = self.text(seq) else {
            return;
        };
        text.n_unasked = if is_asked { 0 } else { text.n_unasked + 1 };
        let (mut pos, token) = draft.root;
        // Without states, or where nobody asks, there is nothing to tell.
        let root = draft.state(None);
        let Some(root) = root.filter(|_| text.n_unasked < MOST_UNASKED) else {
            text.untold = Untold::default();
            if let Some(block) = self.block() {
                block.forget(seq);
            }
            return;
        };
        text.untold.computed(pos, token, root);
        for &at in &verdict.path {
            pos += 1;
            if let Some(state) = draft.state(Some(at)) {
                text.untold
                    .computed(pos, draft.tree.nodes()[at].token, state);
            }
        }
        let next = verdict.next.token;
        text.untold.accepted(pos + 1, next, root.len());
    }

    /// Guesses at what follows the verdicts, for those that want some; and what it took.
    pub(super) fn guess(
        &mut self,
        judged: &[(JudgedDraft<'_>, Verdict)],
    ) -> jupiter_models::Result<(Vec<Guesses>, HeadsTiming)> {
        let n_places = |(draft, verdict): &(JudgedDraft<'_>, Verdict)| match verdict.next.ends {
            true => 0,
            false => draft.rows.n_places as usize,
        };
        let mut guesses = vec![Guesses::new(); judged.len()];
        let wanting = (0..).zip(judged).filter(|(_, judged)| n_places(judged) > 0);
        let begin = Instant::now();
        let mut timing = HeadsTiming::default();
        match &mut self.heads {
            None => {}
            Some(Heads::Medusa(heads)) => {
                for (at, (draft, verdict)) in wanting {
                    let state = draft.state(verdict.path.last().copied());
                    let of = state.map(|state| heads.guess(state, GUESSES_PER_PLACE));
                    guesses[at] = named(of.unwrap_or_default());
                }
            }
            Some(Heads::Mtp(block)) => {
                let Some(texts) = &mut self.untold else {
                    return Ok((guesses, timing));
                };
                let (mut places, mut wishes) = (Vec::new(), Vec::new());
                for (at, judged) in wanting {
                    let seq = judged.0.rows.seq;
                    let text = texts.get_mut(&seq).filter(|text| text.untold.len() > 0);
                    let depth = n_places(judged).min(MTP_PLACES);
                    places.extend(text.as_ref().map(|_| at));
                    wishes.extend(text.map(|text| MtpWish {
                        seq,
                        rows: text.untold.take(),
                        depth,
                    }));
                }
                if tell_prompts(block, &mut wishes)? {
                    timing.told_us = clock::micros(begin.elapsed());
                }
                let found = block.guess(&wishes, GUESSES_PER_PLACE)?;
                for (at, of) in places.into_iter().zip(found) {
                    guesses[at] = named(of);
                }
            }
        }
        if guesses.iter().any(|of| !of.is_empty()) {
            timing.guessed_us = clock::micros(begin.elapsed()) - timing.told_us;
        }
        Ok((guesses, timing))
    }

    fn text(&mut self, seq: SequenceId) -> Option<&mut Text> {
        Some(self.untold.as_mut()?.entry(seq).or_default())
    }

    fn block(&mut self) -> Option<&mut MtpBlock> {
        match &mut self.heads {
            Some(Heads::Mtp(block)) => Some(block),
            _ => None,
        }
    }
}

/// Tells `block` of what is more than verdicts bring, so that all guesses take about as long; whether there
/// was any. The rest stays in `wishes`.
fn tell_prompts(block: &mut MtpBlock, wishes: &mut [MtpWish]) -> jupiter_models::Result<bool> {
    const OF_VERDICTS: usize = 16;
    let mut told = Vec::new();
    for wish in wishes {
        let n_before = wish.rows.tokens.len() - 1;
        if n_before >= OF_VERDICTS {
            let rest = wish.rows.split_off(n_before);
            let rows = std::mem::replace(&mut wish.rows, rest);
            told.push(MtpWish {
                seq: wish.seq,
                rows,
                depth: 0,
            });
        }
    }
    if told.is_empty() {
        return Ok(false);
    }
    block.guess(&told, 0).map(|_| true)
}

fn named(places: Vec<Vec<(Token, f32)>>) -> Guesses {
    let guess = |(token, probability)| HeadGuess { token, probability };
    let of_place = |place: Vec<_>| place.into_iter().map(guess).collect();
    places.into_iter().map(of_place).collect()
}

#[cfg(test)]
mod tests;
