//! Finds stop strings in streamed text, and holds back what may become one.

/// Looks for any of its strings across the pieces of a text.
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
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
        }
    }

    /// Takes the next piece; gives what is certain, and whether a stop string was found. After
    /// that the text is over.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = found {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return (text, true);
        }
        let n_open = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let open = self.held.split_off(self.held.len() - n_open);
        (std::mem::replace(&mut self.held, open), false)
    }

    /// The rest, when no more text comes.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
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
}
