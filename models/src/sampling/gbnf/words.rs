//! The smallest parts of a grammar's text: characters, names, numbers, what is between them.

use super::Parser;
use crate::error::{ModelError, Result};
use crate::sampling::grammar::{CharSet, Element};

impl<'a> Parser<'a> {
    pub(super) fn char_class(&mut self) -> Result<u32> {
        self.pos += 1;
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let low = self.character()?;
            let rest = self.rest();
            let high = if rest.starts_with('-') && !rest.starts_with("-]") {
                self.pos += 1;
                self.character()?
            } else {
                low
            };
            ranges.push((low, high));
        }
        Ok(self.set_id(CharSet::new(ranges, negated)))
    }

    pub(super) fn token(&mut self) -> Result<Element> {
        let negated = self.eat("!");
        let rest = self.rest();
        let Some(end) = rest.find('>').filter(|_| rest.starts_with('<')) else {
            return self.fail("expected a token, `<name>` or `<[id]>`");
        };
        let text = &rest[..=end];
        let id = match text.strip_prefix("<[").and_then(|t| t.strip_suffix("]>")) {
            Some(digits) => digits.parse().ok(),
            None => (self.token_named)(text),
        };
        let Some(id) = id else {
            return self.fail(&format!("`{text}` is not one token of this model"));
        };
        self.pos += end + 1;
        Ok(Element::Token { id, negated })
    }

    /// One character of a literal or class, escapes resolved.
    pub(super) fn character(&mut self) -> Result<u32> {
        let mut chars = self.rest().chars();
        let Some(c) = chars.next() else {
            return self.fail("the text ends inside a literal or a character class");
        };
        self.pos += c.len_utf8();
        if c != '\\' {
            return Ok(c as u32);
        }
        let escaped = chars.next();
        self.pos += escaped.map_or(0, char::len_utf8);
        match escaped {
            Some('x') => self.hex(2),
            Some('u') => self.hex(4),
            Some('U') => self.hex(8),
            Some('t') => Ok('\t' as u32),
            Some('r') => Ok('\r' as u32),
            Some('n') => Ok('\n' as u32),
            Some(c @ ('\\' | '"' | '[' | ']' | '-')) => Ok(c as u32),
            _ => {
                self.fail("unknown escape; known are \\n \\r \\t \\\\ \\\" \\[ \\] \\- \\x \\u \\U")
            }
        }
    }

    pub(super) fn hex(&mut self, n_digits: usize) -> Result<u32> {
        let digits = self
            .rest()
            .get(..n_digits)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(value) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return self.fail(&format!("expected {n_digits} hexadecimal digits"));
        };
        self.pos += n_digits;
        Ok(value)
    }

    pub(super) fn integer(&mut self) -> Result<u32> {
        let rest = self.rest();
        let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if n_digits == 0 {
            return self.fail("expected a number");
        }
        // A number beyond u32 is beyond every limit as well.
        let value = rest[..n_digits].parse().unwrap_or(u32::MAX);
        self.pos += n_digits;
        Ok(value)
    }

    pub(super) fn name(&mut self) -> Result<String> {
        let rest = self.rest();
        let n = rest
            .bytes()
            .take_while(|&b| is_name_char(b as char))
            .count();
        if n == 0 {
            return self.fail("expected a rule name (letters, digits and `-`)");
        }
        self.pos += n;
        Ok(rest[..n].to_owned())
    }

    /// Skips blanks and comments, and line ends where a rule may go on behind them.
    pub(super) fn space(&mut self, newlines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.pos += 1,
                '\r' | '\n' if newlines => self.pos += 1,
                '#' => self.pos += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => break,
            }
        }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.pos..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn eat(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.pos += expected.len();
        }
        found
    }

    pub(super) fn fail<T>(&self, what: &str) -> Result<T> {
        let line = 1 + self.text.as_bytes()[..self.pos]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
        Err(ModelError::BadInput {
            what: format!("grammar, line {line}: {what}"),
        })
    }
}

pub(super) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}
