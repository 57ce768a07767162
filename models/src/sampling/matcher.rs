//! Follows a grammar through generated text, and says which tokens may come next.
//!
//! A state is the set of all ways the text so far can be read: pushdown stacks, whose nodes are
//! shared. States and their transitions are remembered (a deterministic automaton built as needed),
//! so that a walk over a vocabulary of 150k tokens takes about a millisecond. What is remembered is
//! only a cache: forgetting it changes no answer, so a matcher rebuilt from history agrees with one
//! that ran along.

mod states;

use std::collections::HashMap;
use std::sync::Arc;

use super::grammar::{Element, Grammar};
use super::token_index::TokenIndex;
use crate::types::Token;

/// Most readings of one text, and most positions visited while one character is taken. A grammar
/// that needs more is ambiguous without bound; such a character counts as not allowed.
const MAX_STACKS: usize = 1024;
const MAX_VISITED: usize = 16_384;
/// The cache is dropped beyond this many states (half a kB each), stack nodes or wide transitions.
const MAX_STATES: usize = 8192;
const MAX_NODES: usize = 1 << 18;
const MAX_WIDE: usize = 1 << 17;

/// Index of a state; [`DEAD`] where the text does not fit the grammar.
type StateId = u32;
const DEAD: StateId = u32::MAX;
const UNKNOWN: StateId = u32::MAX - 1;
/// The stack on which nothing is left: the text is complete.
const EMPTY: u32 = u32::MAX;

/// One entry of a stack: match `elements[at]` next, then go on with the entry `parent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    at: u32,
    parent: u32,
}

impl Node {
    /// The entry when this one's element is matched.
    fn next(self) -> Node {
        Node {
            at: self.at + 1,
            ..self
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    /// Sorted node ids whose elements are terminals, or [`EMPTY`].
    stacks: Arc<[u32]>,
    /// The next state by ASCII character.
    ascii: Box<[StateId; 128]>,
}

/// The bytes of a character that a token has begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Partial {
    bytes: [u8; 4],
    len: u8,
}

/// A place in the text: the readings, and an unfinished character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GrammarPlace {
    state: StateId,
    partial: Partial,
}

/// A grammar and the place in it that the generated text has reached.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    grammar: Arc<Grammar>,
    nodes: Vec<Node>,
    node_ids: HashMap<Node, u32>,
    states: Vec<State>,
    state_ids: HashMap<Arc<[u32]>, StateId>,
    wide: HashMap<(StateId, char), StateId>,
    here: GrammarPlace,
}

impl Matcher {
    /// At the start of the grammar's `root`.
    pub(super) fn new(grammar: Arc<Grammar>) -> Self {
        let mut matcher = Self {
            here: GrammarPlace {
                state: DEAD,
                partial: Partial::default(),
            },
            nodes: Vec::new(),
            node_ids: HashMap::new(),
            states: Vec::new(),
            state_ids: HashMap::new(),
            wide: HashMap::new(),
            grammar,
        };
        let starts = matcher.grammar.rules[matcher.grammar.root as usize].clone();
        let todo = starts
            .iter()
            .map(|&at| Node { at, parent: EMPTY })
            .collect();
        matcher.here.state = matcher.expand(todo);
        matcher
    }

    /// Whether the text may end here.
    pub(super) fn is_complete(&self) -> bool {
        self.here.partial.len == 0
            && self
                .states
                .get(self.here.state as usize)
                .is_some_and(|s| s.stacks.contains(&EMPTY))
    }

    /// Whether `token`, whose text is `bytes`, may come next.
    pub(super) fn allows(&mut self, token: Token, bytes: &[u8]) -> bool {
        let mut here = [self.here];
        self.forget_beyond_limits(&mut here);
        self.here = here[0];
        self.after(token, bytes).state != DEAD
    }

    /// Takes `token`; one that does not fit leaves a matcher that allows nothing.
    pub(super) fn accept(&mut self, token: Token, bytes: &[u8]) {
        self.here = self.after(token, bytes);
        let mut here = [self.here];
        self.forget_beyond_limits(&mut here);
        self.here = here[0];
    }

    /// Calls `allowed` with every token of `index` that may come next.
    pub(super) fn allowed_tokens(&mut self, index: &TokenIndex, mut allowed: impl FnMut(Token)) {
        for token in self.tokens_by_id(index) {
            allowed(token);
        }
        // The places after 0, 1, 2.. bytes of the token at hand; tokens come in the order of their
        // bytes, so the next one shares the first of them.
        let mut path = vec![self.here];
        let mut dead_from = usize::MAX;
        for entry in index.iter() {
            if entry.n_shared >= dead_from {
                continue;
            }
            dead_from = usize::MAX;
            path.truncate(entry.n_shared + 1);
            for (i, &byte) in entry.bytes.iter().enumerate().skip(path.len() - 1) {
                self.forget_beyond_limits(&mut path);
                let place = self.step(path[i], byte);
                if place.state == DEAD {
                    dead_from = i + 1;
                    break;
                }
                path.push(place);
            }
            if dead_from == usize::MAX && self.can_go_on(path[entry.bytes.len()]) {
                allowed(entry.token);
            }
        }
        self.here = path[0];
    }

    /// The place after a token; its state is [`DEAD`] when the token does not fit.
    fn after(&mut self, token: Token, bytes: &[u8]) -> GrammarPlace {
        let dead = GrammarPlace {
            state: DEAD,
            partial: Partial::default(),
        };
        let Some(state) = self.states.get(self.here.state as usize) else {
            return dead;
        };
        let stacks = Arc::clone(&state.stacks);
        let mut place = if bytes.is_empty() { dead } else { self.here };
        for &byte in bytes {
            place = self.step(place, byte);
        }
        if !self.can_go_on(place) {
            place = dead;
        }
        // Readings that name this token itself stand beside those that read its characters.
        let mut by_id = Vec::new();
        for node in stacks.iter().filter_map(|&s| self.nodes.get(s as usize)) {
            if let Element::Token { id, negated } = self.grammar.elements[node.at as usize]
                && (id == token) != negated
            {
                by_id.push(node.next());
            }
        }
        if by_id.is_empty() || self.here.partial.len > 0 {
            return place;
        }
        let named = self.expand(by_id);
        if place.state == DEAD {
            return GrammarPlace {
                state: named,
                ..dead
            };
        }
        // A token that ends inside a character is read as text.
        if named == DEAD || place.partial.len > 0 {
            return place;
        }
        let both = [
            &self.states[named as usize].stacks,
            &self.states[place.state as usize].stacks,
        ];
        let union = both.into_iter().flat_map(|s| s.iter().copied()).collect();
        GrammarPlace {
            state: self.intern_state(union),
            ..place
        }
    }

    /// Tokens that the grammar names by id here and that `index` does not allow by their text.
    fn tokens_by_id(&self, index: &TokenIndex) -> Vec<Token> {
        let Some(state) = self.states.get(self.here.state as usize) else {
            return Vec::new();
        };
        if self.here.partial.len > 0 {
            return Vec::new();
        }
        let mut tokens = Vec::new();
        for node in state
            .stacks
            .iter()
            .filter_map(|&s| self.nodes.get(s as usize))
        {
            match self.grammar.elements[node.at as usize] {
                Element::Token { id, negated: false } => tokens.push(id),
                Element::Token { id, negated: true } => {
                    tokens.extend(index.all_tokens().filter(|&token| token != id));
                }
                _ => {}
            }
        }
        tokens
    }

    /// The place after one more byte.
    fn step(&mut self, place: GrammarPlace, byte: u8) -> GrammarPlace {
        let GrammarPlace { state, mut partial } = place;
        let dead = GrammarPlace {
            state: DEAD,
            partial: Partial::default(),
        };
        if state == DEAD {
            return dead;
        }
        if partial.len == 0 && byte.is_ascii() {
            return GrammarPlace {
                state: self.next(state, byte as char),
                partial,
            };
        }
        partial.bytes[partial.len as usize] = byte;
        partial.len += 1;
        match std::str::from_utf8(&partial.bytes[..partial.len as usize]) {
            Ok(text) => {
                let c = text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
                GrammarPlace {
                    state: self.next(state, c),
                    partial: Partial::default(),
                }
            }
            Err(error) if error.error_len().is_none() => GrammarPlace { state, partial },
            Err(_) => dead,
        }
    }

    /// Whether an unfinished character at the end of a token can become one that fits.
    fn can_go_on(&self, place: GrammarPlace) -> bool {
        let Some(state) = self.states.get(place.state as usize) else {
            return false;
        };
        if place.partial.len == 0 {
            return true;
        }
        let (low, high) = code_points(place.partial);
        state
            .stacks
            .iter()
            .filter_map(|&s| self.nodes.get(s as usize))
            .any(|node| {
                matches!(self.grammar.elements[node.at as usize], Element::Chars(set)
                if self.grammar.sets[set as usize].intersects(low, high))
            })
    }
}

/// The code points that an unfinished UTF-8 character can still become, first and last.
fn code_points(partial: Partial) -> (u32, u32) {
    let first = u32::from(partial.bytes[0]);
    let (n_bytes, mut value) = match first {
        0xC0..=0xDF => (2, first & 0x1F),
        0xE0..=0xEF => (3, first & 0x0F),
        _ => (4, first & 0x07),
    };
    for &byte in &partial.bytes[1..partial.len as usize] {
        value = value << 6 | u32::from(byte & 0x3F);
    }
    let n_missing = 6 * (n_bytes - u32::from(partial.len));
    let shortest = [0, 0, 0x80, 0x800, 0x1_0000][n_bytes as usize];
    (
        (value << n_missing).max(shortest),
        value << n_missing | ((1 << n_missing) - 1),
    )
}

#[cfg(test)]
mod tests;
