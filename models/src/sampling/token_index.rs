//! The texts of a vocabulary in the order of their bytes, so that a grammar walks shared beginnings
//! once.

use crate::types::Token;

/// One token of the walk.
pub(crate) struct Entry<'a> {
    /// The token.
    pub(crate) token: Token,
    /// What it renders as, never empty.
    pub(crate) bytes: &'a [u8],
    /// How many leading bytes it shares with the entry before it.
    pub(crate) n_shared: usize,
}

/// All tokens that render as text and do not end the generation.
pub(crate) struct TokenIndex {
    tokens: Vec<Token>,
    /// End of each token's bytes in `bytes`; it starts where the one before ends.
    ends: Vec<u32>,
    shared: Vec<u32>,
    bytes: Vec<u8>,
    n_vocab: u32,
    eog: Vec<Token>,
}

impl TokenIndex {
    /// From the rendered bytes of the tokens 0, 1, 2.. and those of them that end the generation.
    pub(crate) fn new(texts: impl Iterator<Item = Vec<u8>>, eog: Vec<Token>) -> Self {
        let mut n_vocab = 0;
        let mut entries: Vec<(Vec<u8>, Token)> = Vec::new();
        for (token, text) in (0..).zip(texts) {
            n_vocab = token as u32 + 1;
            if !text.is_empty() && !eog.contains(&token) {
                entries.push((text, token));
            }
        }
        entries.sort_unstable();
        let mut index = Self {
            tokens: Vec::with_capacity(entries.len()),
            ends: Vec::with_capacity(entries.len()),
            shared: Vec::with_capacity(entries.len()),
            bytes: Vec::new(),
            n_vocab,
            eog,
        };
        let mut previous: &[u8] = &[];
        for (text, token) in &entries {
            let n_shared = previous
                .iter()
                .zip(text)
                .take_while(|(a, b)| a == b)
                .count();
            index.tokens.push(*token);
            index.shared.push(n_shared as u32);
            index.bytes.extend_from_slice(text);
            index.ends.push(index.bytes.len() as u32);
            previous = text;
        }
        index
    }

    /// The entries in the order of their bytes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut start = 0;
        self.tokens.iter().zip(&self.ends).zip(&self.shared).map(
            move |((&token, &end), &shared)| {
                let bytes = &self.bytes[start..end as usize];
                start = end as usize;
                Entry {
                    token,
                    bytes,
                    n_shared: shared as usize,
                }
            },
        )
    }

    /// Every token that does not end the generation, those without text included.
    pub(crate) fn all_tokens(&self) -> impl Iterator<Item = Token> {
        (0..self.n_vocab as Token).filter(|token| !self.eog.contains(token))
    }

    /// The tokens that end the generation, ascending.
    pub(crate) fn eog(&self) -> &[Token] {
        &self.eog
    }
}
