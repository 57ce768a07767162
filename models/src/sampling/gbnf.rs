//! GBNF grammars: llama.cpp's notation (`grammars/README.md`), parsed into flat rules.
//!
//! llama.cpp's own parser and matcher are not used: a grammar comes from whoever sends a request,
//! and there a nested or ambiguous one exhausts the stack or the memory, and a token that does not
//! fit throws a C++ exception through foreign frames, which ends the process. Here all of it is
//! bounded, and what is wrong is said in one line with the place.

mod words;

use std::collections::HashMap;

use self::words::is_name_char;
use super::grammar::{CharSet, Element, Grammar, left_recursive_rule};
use crate::error::{ModelError, Result};
use crate::types::Token;

/// Longest grammar text in bytes; converted JSON schemas of real tools stay below 100 kB.
const MAX_GRAMMAR_BYTES: usize = 1 << 20;
/// Deepest nesting of parentheses; each level is a recursion of the parser.
const MAX_NESTING: usize = 64;
/// Most elements after repetitions are written out (16 bytes each).
const MAX_ELEMENTS: usize = 200_000;
/// Largest count in `{m,n}`, as in llama.cpp: a larger minimum is refused, a larger maximum means
/// "no limit".
const MAX_REPETITION: u32 = 2000;

impl Grammar {
    /// Parses `text`; `token_named` resolves `<name>` to the one token with that text.
    ///
    /// # Errors
    /// One line with the line number and what is wrong there.
    pub(super) fn parse(
        text: &str,
        token_named: &dyn Fn(&str) -> Option<Token>,
    ) -> Result<Grammar> {
        let mut parser = Parser {
            text,
            pos: 0,
            token_named,
            rules: Vec::new(),
            names: Vec::new(),
            ids: HashMap::new(),
            sets: Vec::new(),
            set_ids: HashMap::new(),
            n_elements: 0,
        };
        parser.grammar()
    }
}

/// The alternatives of a rule while it is being parsed.
type Alternatives = Vec<Vec<Element>>;

struct Parser<'a> {
    text: &'a str,
    pos: usize,
    token_named: &'a dyn Fn(&str) -> Option<Token>,
    /// Per rule its alternatives; none while it is only referred to.
    rules: Vec<Option<Alternatives>>,
    /// Per rule its name; synthesized rules carry the name of the rule they are part of.
    names: Vec<String>,
    ids: HashMap<String, u32>,
    sets: Vec<CharSet>,
    set_ids: HashMap<CharSet, u32>,
    n_elements: usize,
}

impl<'a> Parser<'a> {
    fn grammar(&mut self) -> Result<Grammar> {
        if self.text.len() > MAX_GRAMMAR_BYTES {
            return Err(ModelError::BadInput {
                what: format!(
                    "grammar: {} bytes is too long, the limit is {MAX_GRAMMAR_BYTES}",
                    self.text.len()
                ),
            });
        }
        self.space(true);
        while self.pos < self.text.len() {
            self.rule()?;
        }
        let Some(&root) = self.ids.get("root") else {
            return self.fail("there is no rule `root`; the grammar starts there");
        };
        let mut elements = Vec::new();
        let mut rules = Vec::with_capacity(self.rules.len());
        for (rule, name) in self.rules.iter().zip(&self.names) {
            let Some(alternatives) = rule else {
                return self.fail(&format!("the rule `{name}` is used but not defined"));
            };
            let mut starts = Vec::with_capacity(alternatives.len());
            for alternative in alternatives {
                starts.push(elements.len() as u32);
                elements.extend_from_slice(alternative);
                elements.push(Element::End);
            }
            rules.push(starts);
        }
        let grammar = Grammar {
            elements,
            rules,
            sets: std::mem::take(&mut self.sets),
            root,
        };
        if let Some(rule) = left_recursive_rule(&grammar) {
            return self.fail(&format!(
                "the rule `{}` can reach itself before it matches a character (left recursion); \
                 write it with the recursion on the right",
                self.names[rule as usize]
            ));
        }
        Ok(grammar)
    }

    fn rule(&mut self) -> Result<()> {
        let name = self.name()?;
        self.space(false);
        if !self.eat("::=") {
            return self.fail(&format!("expected `::=` after the rule name `{name}`"));
        }
        self.space(true);
        let id = self.rule_id(&name);
        let alternatives = self.alternatives(&name, 0)?;
        self.rules[id as usize] = Some(alternatives);
        match self.peek() {
            None | Some('\n' | '\r') => {
                self.space(true);
                Ok(())
            }
            Some(c) => self.fail(&format!(
                "unexpected `{}` in the rule `{name}`",
                c.escape_debug()
            )),
        }
    }

    fn alternatives(&mut self, rule: &str, nesting: usize) -> Result<Alternatives> {
        let mut alternatives = vec![self.sequence(rule, nesting)?];
        while self.eat("|") {
            self.space(true);
            alternatives.push(self.sequence(rule, nesting)?);
        }
        Ok(alternatives)
    }

    fn sequence(&mut self, rule: &str, nesting: usize) -> Result<Vec<Element>> {
        let mut sequence = Vec::new();
        // Where the item starts that a following `*`, `+`, `?` or `{m,n}` repeats.
        let mut item = None;
        while let Some(c) = self.peek() {
            let start = sequence.len();
            match c {
                '"' => self.literal(&mut sequence)?,
                '[' => {
                    let set = self.char_class()?;
                    sequence.push(Element::Chars(set));
                }
                '.' => {
                    self.pos += 1;
                    let set = self.set_id(CharSet::new(Vec::new(), true));
                    sequence.push(Element::Chars(set));
                }
                '<' | '!' => sequence.push(self.token()?),
                '(' => {
                    if nesting == MAX_NESTING {
                        return self.fail(&format!(
                            "parentheses nest deeper than {MAX_NESTING} levels"
                        ));
                    }
                    self.pos += 1;
                    self.space(true);
                    let alternatives = self.alternatives(rule, nesting + 1)?;
                    if !self.eat(")") {
                        return self.fail("expected `)`");
                    }
                    sequence.push(Element::Rule(self.new_rule(rule, Some(alternatives))?));
                }
                c if is_name_char(c) => {
                    let name = self.name()?;
                    sequence.push(Element::Rule(self.rule_id(&name)));
                }
                '*' | '+' | '?' | '{' => {
                    let Some(from) = item else {
                        return self.fail(&format!("`{c}` needs something before it to repeat"));
                    };
                    let (least, most) = self.repetition()?;
                    self.repeat(rule, &mut sequence, from, least, most)?;
                    self.count(sequence.len() - from.min(sequence.len()))?;
                    self.space(nesting > 0);
                    continue;
                }
                _ => break,
            }
            item = Some(start);
            self.count(sequence.len() - start)?;
            self.space(nesting > 0);
        }
        Ok(sequence)
    }

    /// Replaces the item `sequence[from..]`, S, by `least` copies of it and rules for the rest:
    /// without a limit `R ::= S R |`, else a chain `R1 ::= S |`, `R2 ::= S R1 |` and so on.
    fn repeat(
        &mut self,
        rule: &str,
        sequence: &mut Vec<Element>,
        from: usize,
        least: u32,
        most: Option<u32>,
    ) -> Result<()> {
        let item = sequence.split_off(from);
        self.count(item.len() * least as usize)?;
        for _ in 0..least {
            sequence.extend_from_slice(&item);
        }
        match most {
            None => {
                let id = self.new_rule(rule, None)?;
                let mut again = item;
                again.push(Element::Rule(id));
                self.rules[id as usize] = Some(vec![again, Vec::new()]);
                sequence.push(Element::Rule(id));
            }
            Some(most) => {
                let mut inner = None;
                for _ in least..most {
                    let mut once = item.clone();
                    once.extend(inner.map(Element::Rule));
                    inner = Some(self.new_rule(rule, Some(vec![once, Vec::new()]))?);
                }
                sequence.extend(inner.map(Element::Rule));
            }
        }
        Ok(())
    }

    /// `*`, `+`, `?`, `{m}`, `{m,}` or `{m,n}`: the least count, and the most if there is a limit.
    fn repetition(&mut self) -> Result<(u32, Option<u32>)> {
        if self.eat("*") {
            return Ok((0, None));
        }
        if self.eat("+") {
            return Ok((1, None));
        }
        if self.eat("?") {
            return Ok((0, Some(1)));
        }
        self.pos += 1;
        self.space(true);
        let least = self.integer()?;
        self.space(true);
        let most = if self.eat(",") {
            self.space(true);
            match self.peek() {
                Some('0'..='9') => Some(self.integer()?),
                _ => None,
            }
        } else {
            Some(least)
        };
        self.space(true);
        if !self.eat("}") {
            return self.fail("expected `}` after the repetition");
        }
        if least > MAX_REPETITION {
            return self.fail(&format!(
                "at most {MAX_REPETITION} repetitions can be demanded"
            ));
        }
        if most.is_some_and(|most| most < least) {
            return self.fail("a repetition's upper bound is below its lower bound");
        }
        Ok((least, most.filter(|&most| most <= MAX_REPETITION)))
    }

    fn literal(&mut self, sequence: &mut Vec<Element>) -> Result<()> {
        self.pos += 1;
        while !self.eat("\"") {
            let c = self.character()?;
            let set = self.set_id(CharSet::new(vec![(c, c)], false));
            sequence.push(Element::Chars(set));
        }
        Ok(())
    }

    fn rule_id(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = self.rules.len() as u32;
        self.rules.push(None);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    fn new_rule(&mut self, part_of: &str, alternatives: Option<Alternatives>) -> Result<u32> {
        let n = alternatives
            .iter()
            .flatten()
            .map(|a| a.len() + 1)
            .sum::<usize>();
        self.count(n + 1)?;
        self.rules.push(alternatives);
        self.names.push(part_of.to_owned());
        Ok(self.rules.len() as u32 - 1)
    }

    fn set_id(&mut self, set: CharSet) -> u32 {
        let next = self.sets.len() as u32;
        *self.set_ids.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            next
        })
    }

    fn count(&mut self, n: usize) -> Result<()> {
        self.n_elements += n;
        if self.n_elements > MAX_ELEMENTS {
            return self.fail(&format!(
                "it grows beyond {MAX_ELEMENTS} elements when its repetitions are written out; \
                 use `*` instead of large counts"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
