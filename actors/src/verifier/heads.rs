//! What guesses beside the Verifier, from the states that enter the output head.

use jupiter_models::SequenceId;
use jupiter_models::mtp::MtpRows;

use super::JudgedDraft;
use crate::factory::Heads;
use crate::message::{DraftKind, HeadGuess};
use crate::speculation::accept::Verdict;

/// How many tokens are named for a place: beyond, a guess is hardly ever right (arXiv 2401.10774,
/// figure 3).
const GUESSES_PER_PLACE: usize = 4;
/// Places that a block for multi-token prediction guesses at: each takes a layer and the output head, and
/// models are trained for one or two.
const MTP_PLACES: usize = 3;
/// So many accepted tokens wait for such a block to be asked; then they are forgotten.
const MOST_UNTOLD: usize = 64;

impl Heads {
    /// Guesses at what follows the verdict on `draft` of `seq`, where they are wanted. `untold` are the
    /// accepted tokens that a block for multi-token prediction was not told yet.
    pub(super) fn judged(
        &mut self,
        seq: SequenceId,
        untold: &mut MtpRows,
        draft: &JudgedDraft<'_>,
        verdict: &Verdict,
    ) -> jupiter_models::Result<Vec<Vec<HeadGuess>>> {
        let n_places = draft.rows.n_places as usize;
        let guesses = match self {
            _ if verdict.next.ends => Vec::new(),
            Heads::Medusa(heads) => {
                let last = verdict.path.last().copied();
                let state = draft.state(last).filter(|_| n_places > 0);
                state.map_or(Vec::new(), |state| heads.guess(state, GUESSES_PER_PLACE))
            }
            Heads::Mtp(block) => {
                let is_known = append(untold, draft, verdict).is_some();
                if n_places == 0 && untold.tokens.len() >= MOST_UNTOLD {
                    // Nobody asks any more.
                    *untold = MtpRows::default();
                    block.forget(seq);
                }
                if n_places == 0 || !is_known {
                    return Ok(Vec::new());
                }
                let rows = std::mem::take(untold);
                untold.pos = rows.end();
                block.guess(seq, &rows, n_places.min(MTP_PLACES), GUESSES_PER_PLACE)?
            }
        };
        let guess = |(token, probability)| HeadGuess { token, probability };
        let of_place = |place: Vec<_>| place.into_iter().map(guess).collect();
        Ok(guesses.into_iter().map(of_place).collect())
    }

    /// As a source of guesses.
    pub(super) fn kind(&self) -> DraftKind {
        match self {
            Heads::Medusa(_) => DraftKind::Medusa,
            Heads::Mtp(_) => DraftKind::Mtp,
        }
    }

    /// Whether a guess takes so long that nobody should wait for it who only hands a step over.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Heads::Mtp(_))
    }

    /// Another text begins in `seq`, or none.
    pub(super) fn forget(&mut self, seq: SequenceId) {
        if let Heads::Mtp(block) = self {
            block.forget(seq);
        }
    }

    /// Other texts begin in all sequences.
    pub(super) fn clear(&mut self) {
        if let Heads::Mtp(block) = self {
            block.clear();
        }
    }
}

/// Adds the accepted guesses of `draft` and the token after them, each with the state before it; none where
/// the engine keeps no states.
fn append(untold: &mut MtpRows, draft: &JudgedDraft<'_>, verdict: &Verdict) -> Option<()> {
    let first = draft.root.0 + 1;
    if untold.end() != first {
        *untold = MtpRows {
            pos: first,
            ..MtpRows::default()
        };
    }
    let mut before = None;
    for &at in &verdict.path {
        untold.states.extend_from_slice(draft.state(before)?);
        untold.tokens.push(draft.tree.nodes()[at].token);
        before = Some(at);
    }
    untold.states.extend_from_slice(draft.state(before)?);
    untold.tokens.push(verdict.next.token);
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use jupiter_models::engine::Logits;

    use super::*;
    use crate::message::DraftRows;
    use crate::speculation::accept::Next;
    use crate::speculation::tree::DraftTree;

    const SEQ: SequenceId = SequenceId(2);

    /// A root at `pos`, and guesses 11 and 12, one behind the other; each row's state is its place.
    fn check(untold: &mut MtpRows, pos: u32, path: Vec<usize>) -> Option<()> {
        let rows = DraftRows {
            seq: SEQ,
            generation: 0,
            first_row: 0,
            parents: vec![0, 1],
            n_places: 0,
        };
        let logits = Logits {
            n_rows: 3,
            n_vocab: 1,
            data: vec![0.0; 3],
            states: vec![0.0, 1.0, 2.0],
        };
        let draft = JudgedDraft {
            rows: &rows,
            root: (pos, 10),
            tree: DraftTree::line(&[11, 12]).unwrap(),
            logits: &logits,
            first_logits: 0,
        };
        let next = Next {
            token: 99,
            ends: false,
        };
        append(untold, &draft, &Verdict { path, next })
    }

    #[test]
    fn each_accepted_token_comes_with_the_state_before_it() {
        let mut untold = MtpRows::default();
        check(&mut untold, 7, vec![0]).unwrap();
        let expected = MtpRows {
            pos: 8,
            tokens: vec![11, 99],
            states: vec![0.0, 1.0],
        };
        assert_eq!(untold, expected);
        check(&mut untold, 9, vec![0, 1]).unwrap();
        assert_eq!((untold.pos, untold.end()), (8, 13));
        assert_eq!(untold.tokens, [11, 99, 11, 12, 99]);
        assert_eq!(untold.states, [0.0, 1.0, 0.0, 1.0, 2.0]);
        // Another place of the text: what was before is not told any more.
        check(&mut untold, 3, vec![]).unwrap();
        assert_eq!((untold.pos, &untold.tokens[..]), (4, &[99][..]));
    }
}
