//! What a block for multi-token prediction was not told yet of a text.

use jupiter_models::Token;
use jupiter_models::mtp::MtpRows;

/// So many tokens are kept at least; what is before twice as many is left out. A guess hangs on what is near.
const MOST_ROWS: usize = 256;

/// The end of a text, each token with the state before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Untold {
    rows: MtpRows,
    /// The last token of the text, whether the block was told of it or not.
    last: Option<Token>,
    /// A position, and the state there.
    state: Option<(u32, Vec<f32>)>,
}

impl Untold {
    /// The row of a token of the text was computed, and gave `state`.
    pub(super) fn computed(&mut self, pos: u32, token: Token, state: &[f32]) {
        self.accepted(pos, token, state.len());
        self.set_state(pos, state);
    }

    /// The text goes on with `token`, or is known to; states have `n_embd` values. Without the state before
    /// it a token is left out where nothing is known before it either, else the state is zero.
    pub(super) fn accepted(&mut self, pos: u32, token: Token, n_embd: usize) {
        if pos + 1 == self.rows.end() && self.last == Some(token) {
            return;
        }
        if pos < self.rows.end() {
            self.cut(pos);
        }
        let is_next = pos > 0 && pos == self.rows.end();
        let before = self.state.as_ref().filter(|(at, _)| at + 1 == pos);
        self.last = Some(token);
        match before {
            None if !is_next => {
                let pos = pos + 1;
                self.rows = MtpRows {
                    pos,
                    ..MtpRows::default()
                };
                return;
            }
            Some(_) if !is_next => {
                self.rows = MtpRows {
                    pos,
                    ..MtpRows::default()
                };
            }
            _ => {}
        }
        let states = &mut self.rows.states;
        match before {
            Some((_, state)) => states.extend_from_slice(state),
            None => states.resize(states.len() + n_embd, 0.0),
        }
        self.rows.tokens.push(token);
        if self.rows.tokens.len() > 2 * MOST_ROWS {
            self.rows.tokens.drain(..MOST_ROWS);
            self.rows.states.drain(..MOST_ROWS * n_embd);
            self.rows.pos += MOST_ROWS as u32;
        }
    }

    /// What it is of the text's first `len` tokens.
    pub(super) fn first(&self, len: u32) -> Untold {
        if len >= self.rows.end() {
            return self.clone();
        }
        let n_kept = len.saturating_sub(self.rows.pos) as usize;
        let n_embd = self.rows.states.len().checked_div(self.rows.tokens.len());
        let n_embd = n_embd.unwrap_or(0);
        let tokens = self.rows.tokens[..n_kept].to_vec();
        let before = self.rows.states.get(n_kept * n_embd..(n_kept + 1) * n_embd);
        let known = self.state.as_ref().filter(|(at, _)| *at < len);
        Untold {
            last: tokens.last().copied(),
            // The row at `len` has the state before it.
            state: match before.filter(|_| len > self.rows.pos) {
                Some(state) => Some((len - 1, state.to_vec())),
                None => known.cloned(),
            },
            rows: MtpRows {
                pos: len.min(self.rows.pos),
                tokens,
                states: self.rows.states[..n_kept * n_embd].to_vec(),
            },
        }
    }

    /// The rows, which the block is told now.
    pub(super) fn take(&mut self) -> MtpRows {
        let rows = std::mem::take(&mut self.rows);
        self.rows.pos = rows.end();
        rows
    }

    /// How many tokens the block was not told.
    pub(super) fn len(&self) -> usize {
        self.rows.tokens.len()
    }

    /// Forgets the text from position `len` on. The token that was accepted last is told again with its row.
    pub(super) fn cut(&mut self, len: u32) {
        if len < self.rows.end() {
            *self = self.first(len);
        }
    }

    /// The position after the last one that is known.
    pub(super) fn end(&self) -> u32 {
        self.rows.end()
    }

    fn set_state(&mut self, pos: u32, state: &[f32]) {
        let (at, kept) = self.state.get_or_insert_default();
        *at = pos;
        kept.clear();
        kept.extend_from_slice(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pos: u32, tokens: &[Token], states: &[f32]) -> MtpRows {
        MtpRows {
            pos,
            tokens: tokens.to_vec(),
            states: states.to_vec(),
        }
    }

    /// The text's token at a position is ten more than it, the state there a hundred more.
    fn told(untold: &mut Untold, positions: std::ops::Range<u32>) {
        for pos in positions {
            untold.computed(pos, 10 + pos as Token, &[100.0 + pos as f32]);
        }
    }

    #[test]
    fn each_token_comes_with_the_state_before_it() {
        let mut untold = Untold::default();
        told(&mut untold, 0..3);
        // Accepted, and its row computed later.
        untold.accepted(3, 13, 1);
        assert_eq!(untold.rows, rows(1, &[11, 12, 13], &[100.0, 101.0, 102.0]));
        assert_eq!(untold.take().end(), 4);
        told(&mut untold, 3..4);
        assert_eq!(untold.len(), 0);
        untold.accepted(4, 14, 1);
        assert_eq!(untold.take(), rows(4, &[14], &[103.0]));
    }

    #[test]
    fn a_text_that_goes_another_way_is_told_from_there() {
        let mut untold = Untold::default();
        told(&mut untold, 0..5);
        untold.accepted(3, 99, 1);
        assert_eq!(untold.rows, rows(1, &[11, 12, 99], &[100.0, 101.0, 102.0]));
        untold.take();
        // The state before what it was told of is not known any more.
        untold.accepted(2, 77, 1);
        assert_eq!(untold.rows, rows(2, &[77], &[0.0]));
        // A place further on.
        told(&mut untold, 8..10);
        assert_eq!(untold.rows, rows(9, &[19], &[108.0]));
    }

    #[test]
    fn a_fork_goes_on_where_it_begins() {
        let mut untold = Untold::default();
        told(&mut untold, 0..5);
        let mut fork = untold.first(3);
        assert_eq!(fork.rows, rows(1, &[11, 12], &[100.0, 101.0]));
        fork.accepted(3, 50, 1);
        assert_eq!(fork.rows, rows(1, &[11, 12, 50], &[100.0, 101.0, 102.0]));
        // Of a text that the block was told: but for the last one its states are not known.
        untold.take();
        for (len, state) in [(4, 0.0), (5, 104.0)] {
            let mut fork = untold.first(len);
            fork.accepted(len, 60, 1);
            assert_eq!(fork.rows, rows(len, &[60], &[state]));
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_use_for() {
        let mut untold = Untold::default();
        told(&mut untold, 0..5000);
        assert!((MOST_ROWS..=2 * MOST_ROWS).contains(&untold.len()));
        let rows = untold.take();
        assert_eq!(rows.end(), 5000);
        assert_eq!(
            (rows.tokens[0], rows.states[0]),
            (rows.pos as Token + 10, rows.pos as f32 + 99.0)
        );
    }
}
