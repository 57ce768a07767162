//! States and the ways between them, as they are needed and remembered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{
    DEAD, EMPTY, GrammarPlace, MAX_NODES, MAX_STACKS, MAX_STATES, MAX_VISITED, MAX_WIDE, Matcher,
    Node, State, StateId, UNKNOWN,
};
use crate::sampling::grammar::Element;

impl Matcher {
    /// The state after the character `c`, remembered.
    pub(super) fn next(&mut self, state: StateId, c: char) -> StateId {
        // As in llama.cpp no grammar matches NUL: `[^"]` is not meant to.
        if c == '\0' {
            return DEAD;
        }
        let known = match self.states[state as usize].ascii.get(c as usize) {
            Some(&next) => next,
            None => self.wide.get(&(state, c)).copied().unwrap_or(UNKNOWN),
        };
        if known != UNKNOWN {
            return known;
        }
        let stacks = Arc::clone(&self.states[state as usize].stacks);
        let mut todo = Vec::new();
        for node in stacks.iter().filter_map(|&s| self.nodes.get(s as usize)) {
            if let Element::Chars(set) = self.grammar.elements[node.at as usize]
                && self.grammar.sets[set as usize].intersects(c as u32, c as u32)
            {
                todo.push(node.next());
            }
        }
        let next = self.expand(todo);
        match self.states[state as usize].ascii.get_mut(c as usize) {
            Some(slot) => *slot = next,
            None => {
                self.wide.insert((state, c), next);
            }
        }
        next
    }

    /// Follows rules and ends from `todo` until every reading waits for a terminal.
    pub(super) fn expand(&mut self, mut todo: Vec<Node>) -> StateId {
        let grammar = Arc::clone(&self.grammar);
        let mut seen = HashSet::new();
        let mut stacks = Vec::new();
        while let Some(node) = todo.pop() {
            if !seen.insert(node) {
                continue;
            }
            if seen.len() > MAX_VISITED || stacks.len() > MAX_STACKS {
                return DEAD;
            }
            match grammar.elements[node.at as usize] {
                Element::End if node.parent == EMPTY => stacks.push(EMPTY),
                Element::End => todo.push(self.nodes[node.parent as usize]),
                Element::Rule(rule) => {
                    let rest = node.next();
                    // Nothing left to do after the rule: a stack that repetition does not deepen.
                    let parent = match grammar.elements[rest.at as usize] {
                        Element::End => node.parent,
                        _ => self.intern_node(rest),
                    };
                    todo.extend(
                        grammar.rules[rule as usize]
                            .iter()
                            .map(|&at| Node { at, parent }),
                    );
                }
                Element::Chars(_) | Element::Token { .. } => stacks.push(self.intern_node(node)),
            }
        }
        self.intern_state(stacks)
    }

    pub(super) fn intern_node(&mut self, node: Node) -> u32 {
        let next = self.nodes.len() as u32;
        *self.node_ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            next
        })
    }

    pub(super) fn intern_state(&mut self, mut stacks: Vec<u32>) -> StateId {
        stacks.sort_unstable();
        stacks.dedup();
        if stacks.is_empty() {
            return DEAD;
        }
        let stacks: Arc<[u32]> = stacks.into();
        let next = self.states.len() as u32;
        *self.state_ids.entry(stacks).or_insert_with_key(|stacks| {
            let state = State {
                stacks: Arc::clone(stacks),
                ascii: Box::new([UNKNOWN; 128]),
            };
            self.states.push(state);
            next
        })
    }

    /// [`Self::forget`] when the cache has grown too large.
    pub(super) fn forget_beyond_limits(&mut self, live: &mut [GrammarPlace]) {
        if self.states.len() <= MAX_STATES
            && self.nodes.len() <= MAX_NODES
            && self.wide.len() <= MAX_WIDE
        {
            return;
        }
        self.forget(live);
    }

    /// Drops the cache, and keeps what the places `live` need.
    pub(super) fn forget(&mut self, live: &mut [GrammarPlace]) {
        let nodes = std::mem::take(&mut self.nodes);
        let states = std::mem::take(&mut self.states);
        self.node_ids.clear();
        self.state_ids.clear();
        self.wide.clear();
        let mut moved = HashMap::from([(EMPTY, EMPTY)]);
        for place in live.iter_mut().filter(|place| place.state != DEAD) {
            let mut stacks = Vec::new();
            for &stack in states[place.state as usize].stacks.iter() {
                let mut chain = Vec::new();
                let mut id = stack;
                while !moved.contains_key(&id) {
                    chain.push(id);
                    id = nodes[id as usize].parent;
                }
                for id in chain.into_iter().rev() {
                    let Node { at, parent } = nodes[id as usize];
                    let new = self.intern_node(Node {
                        at,
                        parent: moved[&parent],
                    });
                    moved.insert(id, new);
                }
                stacks.push(moved[&stack]);
            }
            place.state = self.intern_state(stacks);
        }
    }
}
