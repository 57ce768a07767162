//! Finds stop strings in streamed text, and holds back what may become one.

use std::ops::Range;

/// Looks for any of its strings across the pieces of a text. Control tokens are found by their
/// names, which are no part of the text.
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
    /// Bytes of `held` that are names of control tokens, in order.
    hidden: Vec<Range<usize>>,
}

impl StopFilter {
    /// Empty strings are never found.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        Self {
            stops,
            held: String::new(),
            hidden: Vec::new(),
        }
    }

    /// Takes the next piece; gives what is certain, and whether a stop string was found. After
    /// that the text is over.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        self.search()
    }

    /// The same for a control token.
    pub(crate) fn push_control(&mut self, name: &str) -> (String, bool) {
        let start = self.held.len();
        self.held.push_str(name);
        self.hidden.push(start..self.held.len());
        self.search()
    }

    /// The rest, when no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        self.take(self.held.len())
    }

    fn search(&mut self) -> (String, bool) {
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = found {
            let text = self.take(at);
            self.held.clear();
            self.hidden.clear();
            return (text, true);
        }
        let n_open = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        (self.take(self.held.len() - n_open), false)
    }

    /// Takes the first `end` bytes that are held; what is hidden of them is left out.
    fn take(&mut self, end: usize) -> String {
        let held = self.held.split_off(end);
        let front = std::mem::replace(&mut self.held, held);
        let mut text = String::with_capacity(end);
        let mut from = 0;
        for hidden in std::mem::take(&mut self.hidden) {
            if hidden.start < end {
                text += &front[from..hidden.start];
                from = hidden.end.min(end);
            }
            if hidden.end > end {
                self.hidden
                    .push(hidden.start.saturating_sub(end)..hidden.end - end);
            }
        }
        text + &front[from..]
    }
}

/// Bytes of the longest end of `text` that `stop` begins with.
pub(super) fn overlap(text: &str, stop: &str) -> usize {
    let starts = text.char_indices().map(|(at, _)| at);
    let candidates = starts.filter(|at| text.len() - at < stop.len());
    candidates
        .map(|at| &text[at..])
        .find(|end| stop.starts_with(end))
        .map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut out = Vec::new();
        for piece in pieces {
            let (text, found) = filter.push(piece);
            out.push(text);
            if found {
                return (out, filter.finish(), true);
            }
        }
        (out, filter.finish(), false)
    }

    #[test]
    fn text_without_stops_passes_at_once() {
        assert_eq!(
            run(&[], &["a", "b"]),
            (vec!["a".into(), "b".into()], String::new(), false)
        );
        assert_eq!(run(&[""], &["a"]), (vec!["a".into()], String::new(), false));
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_left_out() {
        let (out, rest, found) = run(&["END", "\n\n"], &["go E", "N", "D more"]);
        assert_eq!(
            (out.concat().as_str(), rest.as_str(), found),
            ("go ", "", true)
        );
        let (out, _, found) = run(&["END", "\n\n"], &["a\n", "\nEND"]);
        assert_eq!((out.concat().as_str(), found), ("a", true));
    }

    #[test]
    fn what_only_looked_like_a_stop_comes_later() {
        let (out, rest, found) = run(&["END"], &["EN", "EN", "x", "E"]);
        assert_eq!(out, ["", "EN", "ENx", ""]);
        assert_eq!((rest.as_str(), found), ("E", false));
    }

    #[test]
    fn characters_are_never_cut() {
        let (out, rest, found) = run(&["ää!"], &["ä", "ä", "ö"]);
        assert_eq!(out.concat() + &rest, "ääö");
        assert!(!found);
    }

    #[test]
    fn control_tokens_are_found_by_name_and_are_no_text() {
        let run = |stops: &[&str], pieces: &[(&str, bool)]| {
            let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
            let mut filter = StopFilter::new(&stops);
            let mut text = String::new();
            for &(piece, is_control) in pieces {
                let (certain, found) = match is_control {
                    true => filter.push_control(piece),
                    false => filter.push(piece),
                };
                text += &certain;
                if found {
                    return (text + &filter.finish(), true);
                }
            }
            (text + &filter.finish(), false)
        };
        let said = [("a b", false), ("<e>", true), ("\nc", false)];
        for (stop, expected, found) in [
            ("<e>", "a b", true),
            (" b<e>\nc", "a", true),
            ("e>\n", "a b", true),
            ("b<", "a ", true),
            ("<e>\nd", "a b\nc", false),
            ("<e>c", "a b\nc", false),
            ("x", "a b\nc", false),
        ] {
            assert_eq!(
                run(&[stop], &said),
                (expected.to_owned(), found),
                "{stop:?}"
            );
            assert_eq!(run(&["<f>", stop], &said), (expected.to_owned(), found));
        }
        assert_eq!(run(&[], &said).0, "a b\nc");
    }
}
