//! Text with named places. What is put into a place is never read as a template itself.

use crate::outline::error::{OutlineError, Result};

/// A checked template: `{name}` is a place, `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads a template that may have the places `known` and must have `required`; `template` is
    /// its name in errors.
    ///
    /// # Errors
    /// An unknown placeholder, one that is missing, a lone brace.
    pub(super) fn new(
        template: &'static str,
        source: &str,
        known: &[&str],
        required: &[&'static str],
    ) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut at = 0;
        while let Some(c) = source[at..].chars().next() {
            let rest = &source[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                text.push(c);
                at += 2;
            } else if c == '{' {
                let end = rest
                    .find(['}', '\n'])
                    .filter(|&end| rest[end..].starts_with('}'));
                let end = end.ok_or(OutlineError::LoneBrace { template, at })?;
                let name = &rest[1..end];
                if !known.contains(&name) {
                    let known: Vec<String> =
                        known.iter().map(|name| format!("{{{name}}}")).collect();
                    let (name, known) = (name.escape_debug().to_string(), known.join(", "));
                    return Err(OutlineError::UnknownPlaceholder {
                        template,
                        name,
                        known,
                    });
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Place(name.to_owned()));
                at += end + 1;
            } else if c == '}' {
                return Err(OutlineError::LoneBrace { template, at });
            } else {
                text.push(c);
                at += c.len_utf8();
            }
        }
        pieces.push(Piece::Text(text));
        let read = Self { pieces };
        match required.iter().find(|name| !read.has(name)) {
            Some(name) => Err(OutlineError::MissingPlaceholder { template, name }),
            None => Ok(read),
        }
    }

    /// Whether it has this place.
    fn has(&self, name: &str) -> bool {
        let is_it = |piece: &Piece| matches!(piece, Piece::Place(place) if place == name);
        self.pieces.iter().any(is_it)
    }

    /// The text with its places filled; one that is not given stays empty.
    pub(super) fn fill(&self, places: &[(&str, &str)]) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Place(name) => {
                    let value = places.iter().find(|(place, _)| place == name);
                    filled.push_str(value.map_or("", |(_, value)| value));
                }
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_filled_once_and_braces_stay() {
        let template = Template::new("t", "{{a}} {a}{b} }}", &["a", "b"], &["a"]).unwrap();
        assert_eq!(template.fill(&[("a", "{b}"), ("b", "ä")]), "{a} {b}ä }");
        assert_eq!(template.fill(&[]), "{a}  }");
    }
}
