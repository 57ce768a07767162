//! Prompt lookup: what followed the last few tokens when they stood in the text before
//! (Saxena 2023; llama.cpp's `common/ngram-cache.cpp`).
//!
//! For every length of `n_min..=n_max` a table gives where a run of so many tokens ended last, and
//! a chain through the positions leads to its earlier ends. Adding a token is one entry in each, so
//! O(1). The oldest tokens leave a ring, and their entries with them.

use serde::{Deserialize, Serialize};

use std::collections::HashMap;

use jupiter_models::Token;

use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// Longest run that may be looked up: each length costs a table, and longer runs hardly ever
/// disagree with shorter ones.
pub const MAX_N: usize = 8;
/// Most places looked at for one length: text that repeats one token would have thousands.
const MAX_VISITED: usize = 32;

/// How the text is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NgramParams {
    /// Shortest run that counts as found, from 1.
    pub n_min: usize,
    /// Longest run that is tried, at most [`MAX_N`].
    pub n_max: usize,
    /// Most tokens that are remembered; about 40 bytes each for every length.
    pub max_tokens: usize,
}

impl Default for NgramParams {
    /// llama.cpp's lengths; as many tokens as a usual context has.
    fn default() -> Self {
        NgramParams {
            n_min: 2,
            n_max: 4,
            max_tokens: 32_768,
        }
    }
}

/// A guess and how sure it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NgramLine {
    /// What followed.
    pub tokens: Vec<Token>,
    /// Length of the run that was found.
    pub n_matched: usize,
}

/// The remembered text and where its runs are. Positions count from the first token ever added.
pub struct NgramSource {
    params: NgramParams,
    /// The last `max_tokens` tokens; position `p` is at `p % max_tokens`.
    ring: Vec<Token>,
    n_tokens: usize,
    /// One for each length from `n_min`.
    tables: Vec<Table>,
}

struct Table {
    n: usize,
    /// Last position at which a run with this hash ends.
    last: HashMap<u64, usize>,
    /// For the run that ends at each position of the ring: where one of its hash ended before.
    before: Vec<Option<usize>>,
}

impl NgramSource {
    /// A source that knows no text yet.
    ///
    /// # Errors
    /// [`SpeculationError::BadSetting`] for lengths that cannot be.
    pub fn new(params: NgramParams) -> Result<NgramSource> {
        let NgramParams {
            n_min,
            n_max,
            max_tokens,
        } = params;
        if n_min == 0 || n_min > n_max || n_max > MAX_N || max_tokens <= n_max {
            return Err(SpeculationError::BadSetting {
                field: "n-gram lengths and memory",
                got: format!("{n_min}..={n_max} of {max_tokens} tokens"),
                expected: "1 <= n_min <= n_max <= 8 < tokens",
            });
        }
        let table = |n| Table {
            n,
            last: HashMap::new(),
            before: Vec::new(),
        };
        Ok(NgramSource {
            params,
            ring: Vec::new(),
            n_tokens: 0,
            tables: (n_min..=n_max).map(table).collect(),
        })
    }

    /// Number of tokens that are remembered.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether no text is known.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Adds the next token of the text; O(1).
    pub fn push(&mut self, token: Token) {
        let pos = self.n_tokens;
        let slot = pos % self.params.max_tokens;
        if self.ring.len() < self.params.max_tokens {
            self.ring.push(token);
            for table in &mut self.tables {
                table.before.push(None);
            }
        } else {
            self.forget_oldest();
            self.ring[slot] = token;
        }
        self.n_tokens += 1;
        for at in 0..self.tables.len() {
            let n = self.tables[at].n;
            let Some(hash) = self.hash(n, &[]) else {
                break;
            };
            let table = &mut self.tables[at];
            table.before[slot] = table.last.insert(hash, pos);
        }
    }

    /// What followed the end of the text and `ahead` when it stood there before: the longest run
    /// first, and of those the last one; no two alike. A guess that reaches the end of the text goes
    /// on with itself, so what repeats goes on repeating.
    pub fn lines(&self, ahead: &[Token], limits: DraftLimits) -> Vec<NgramLine> {
        let mut lines: Vec<NgramLine> = Vec::new();
        if limits.depth == 0 {
            return lines;
        }
        for table in self.tables.iter().rev() {
            let mut at = self
                .hash(table.n, ahead)
                .and_then(|hash| table.last.get(&hash).copied());
            let mut n_visited = 0;
            while let Some(end) = at.filter(|&end| self.holds(end)) {
                if lines.len() >= limits.lines || n_visited == MAX_VISITED {
                    break;
                }
                n_visited += 1;
                if self.is_run(end, table.n, ahead) && end + 1 < self.n_tokens + ahead.len() {
                    let tokens = self.continuation(end + 1, ahead, limits.depth);
                    if !lines.iter().any(|line| line.tokens == tokens) {
                        let n_matched = table.n;
                        lines.push(NgramLine { tokens, n_matched });
                    }
                }
                at = table.before[end % self.params.max_tokens];
            }
        }
        lines
    }

    fn oldest(&self) -> usize {
        self.n_tokens - self.ring.len()
    }

    fn holds(&self, pos: usize) -> bool {
        pos >= self.oldest() && pos < self.n_tokens
    }

    /// The run that ends at the oldest token can be found no more, nor those ended before it.
    fn forget_oldest(&mut self) {
        let oldest = self.oldest();
        for at in 0..self.tables.len() {
            // The first run that begins in the ring ends n - 1 tokens later: this one begins with
            // the oldest token.
            let n = self.tables[at].n;
            let end = oldest + n - 1;
            let tokens: Vec<Token> = (oldest..=end).map(|pos| self.token(pos)).collect();
            let table = &mut self.tables[at];
            let hash = hash_of(&tokens);
            if table.last.get(&hash) == Some(&end) {
                table.last.remove(&hash);
            }
        }
    }

    fn token(&self, pos: usize) -> Token {
        self.ring[pos % self.params.max_tokens]
    }

    /// Token `back` places before the end of the text and `ahead`, from 1.
    fn suffix(&self, back: usize, ahead: &[Token]) -> Option<Token> {
        if back <= ahead.len() {
            return ahead.get(ahead.len() - back).copied();
        }
        let pos = self.n_tokens.checked_sub(back - ahead.len())?;
        self.holds(pos).then(|| self.token(pos))
    }

    /// Hash of the last `n` tokens of the text and `ahead`; none where there are fewer.
    fn hash(&self, n: usize, ahead: &[Token]) -> Option<u64> {
        let mut run = [0; MAX_N];
        for (token, back) in run[..n].iter_mut().zip((1..=n).rev()) {
            *token = self.suffix(back, ahead)?;
        }
        Some(hash_of(&run[..n]))
    }

    /// Whether the run of `n` that ends at `end` is the end of the text and `ahead`: hashes may
    /// collide.
    fn is_run(&self, end: usize, n: usize, ahead: &[Token]) -> bool {
        end + 1 >= self.oldest() + n
            && (0..n).all(|i| self.suffix(i + 1, ahead) == Some(self.token(end - i)))
    }

    fn continuation(&self, from: usize, ahead: &[Token], depth: usize) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(depth);
        for pos in from..from + depth {
            tokens.push(match pos.checked_sub(self.n_tokens) {
                None => self.token(pos),
                Some(at) if at < ahead.len() => ahead[at],
                Some(at) => tokens[at - ahead.len()],
            });
        }
        tokens
    }
}

impl DraftSource for NgramSource {
    fn name(&self) -> &'static str {
        "ngram"
    }

    fn accept(&mut self, tokens: &[Token]) -> Result<()> {
        tokens.iter().for_each(|&token| self.push(token));
        Ok(())
    }

    fn draft(&mut self, ahead: &[Token], limits: DraftLimits) -> Result<DraftTree> {
        let mut tree = DraftTree::new();
        for line in self.lines(ahead, limits) {
            tree.insert(&line.tokens, &[])?;
        }
        Ok(tree)
    }
}

/// FNV-1a (Fowler, Noll, Vo) over the tokens' bytes.
fn hash_of(tokens: &[Token]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;
    let bytes = tokens.iter().flat_map(|token| token.to_le_bytes());
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn source(n_min: usize, n_max: usize, max_tokens: usize, text: &[Token]) -> NgramSource {
        let params = NgramParams {
            n_min,
            n_max,
            max_tokens,
        };
        let mut source = NgramSource::new(params).unwrap();
        source.accept(text).unwrap();
        source
    }

    #[test]
    fn the_longest_run_comes_first_then_the_last_one() {
        // "1 2" is followed by 3 and later by 4; "9 1 2" by 3.
        let source = source(1, 3, 100, &[9, 1, 2, 3, 7, 1, 2, 4, 8, 2, 6, 9, 1, 2]);
        let lines = source.lines(&[], DraftLimits { depth: 2, lines: 9 });
        let found: Vec<_> = lines
            .iter()
            .map(|l| (l.tokens.as_slice(), l.n_matched))
            .collect();
        let expected: [(&[Token], usize); 3] = [(&[3, 7], 3), (&[4, 8], 2), (&[6, 9], 1)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_small_tree_shares_what_lines_have_in_common() {
        let mut source = source(1, 2, 100, &[1, 2, 3, 1, 2, 4, 1]);
        let tree = source
            .draft(&[], DraftLimits { depth: 2, lines: 4 })
            .unwrap();
        let paths: Vec<_> = tree
            .leaves()
            .iter()
            .map(|&leaf| tree.path_tokens(Some(leaf)))
            .collect();
        assert_eq!(paths, [[2, 4], [2, 3]]);
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn what_repeats_goes_on_repeating() {
        let source = source(2, 3, 100, &[1, 2, 3, 1, 2]);
        let line = &source.lines(&[3], DraftLimits::line(7))[0];
        assert_eq!(line.tokens, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut source = source(1, 4, 64, &[]);
        for i in 0..10_000 {
            source.push((i * i) % 251);
        }
        assert_eq!(source.len(), 64);
        assert!(
            source
                .tables
                .iter()
                .all(|t| t.last.len() <= 64 && t.before.len() == 64)
        );
        assert!(
            NgramSource::new(NgramParams {
                n_min: 0,
                ..NgramParams::default()
            })
            .is_err()
        );
    }

    /// The same by looking through the whole text.
    fn naive(
        text: &[Token],
        ahead: &[Token],
        n_min: usize,
        n_max: usize,
        depth: usize,
    ) -> Vec<NgramLine> {
        let all: Vec<Token> = text.iter().chain(ahead).copied().collect();
        let mut lines: Vec<NgramLine> = Vec::new();
        for n in (n_min..=n_max.min(all.len())).rev() {
            let suffix = &all[all.len() - n..];
            for begin in (0..text.len().saturating_sub(n - 1)).rev() {
                let end = begin + n;
                if &all[begin..end] != suffix || end == all.len() {
                    continue;
                }
                let mut longer = all.clone();
                for i in 0..depth {
                    longer.push(longer[end + i]);
                }
                let tokens = longer[end..end + depth].to_vec();
                if !lines.iter().any(|line| line.tokens == tokens) {
                    lines.push(NgramLine {
                        tokens,
                        n_matched: n,
                    });
                }
            }
        }
        lines
    }

    proptest! {
        #[test]
        fn agrees_with_looking_through_the_text(
            text in prop::collection::vec(0..3, 0..40),
            ahead in prop::collection::vec(0..3, 0..4),
            n_min in 1usize..3,
            more in 0usize..3,
            max_tokens in 8usize..50,
        ) {
            let source = source(n_min, n_min + more, max_tokens, &text);
            let limits = DraftLimits { depth: 3, lines: 4 };
            let kept = &text[text.len().saturating_sub(max_tokens)..];
            let mut expected = naive(kept, &ahead, n_min, n_min + more, 3);
            expected.truncate(4);
            prop_assert_eq!(source.lines(&ahead, limits), expected);
        }
    }
}
