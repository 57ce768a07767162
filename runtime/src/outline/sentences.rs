//! Sentences that were said before, which weak models write again and again: known while they are
//! written, so that nothing of them has to be shown.

/// Fewest characters of a sentence that counts: shorter ones ("Yes.", "1.") come again by right.
const MIN_CHARS: usize = 12;

/// Follows one text.
#[derive(Clone, Debug, Default)]
pub(super) struct Sentences {
    said: Vec<String>,
    /// The sentence that is being written, in lower case.
    current: String,
    /// What of it is held back, since an earlier one begins so.
    held: String,
    is_new: bool,
}

/// What a character tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// This may be shown; nothing, while a sentence may be an earlier one.
    Text(String),
    /// The sentence was said before.
    Again,
}

impl Sentences {
    /// Of a text that has nothing of `known` to say.
    pub(super) fn new(known: impl IntoIterator<Item = String>) -> Self {
        Self {
            said: known.into_iter().map(|text| key(&text)).collect(),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, c: char) -> Told {
        if ends_sentence(c) {
            let sentence = key(&std::mem::take(&mut self.current));
            let is_new = std::mem::take(&mut self.is_new);
            if !is_new && self.known().any(|said| *said == sentence) {
                self.held.clear();
                return Told::Again;
            }
            self.said.push(sentence);
        } else {
            self.current.push(c);
            self.is_new |= !self.may_be_known();
            if !self.is_new {
                self.held.push(c);
                return Told::Text(String::new());
            }
        }
        let mut text = std::mem::take(&mut self.held);
        text.push(c);
        Told::Text(text)
    }

    /// What is held back, when nothing follows; nothing if an earlier sentence says just that.
    pub(super) fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        match self.known().any(|said| *said == key(&self.current)) {
            true => String::new(),
            false => held,
        }
    }

    fn may_be_known(&self) -> bool {
        let current = key(&self.current);
        self.known().any(|said| said.starts_with(&current))
    }

    fn known(&self) -> impl Iterator<Item = &String> {
        let counts = |said: &&String| said.chars().count() >= MIN_CHARS;
        self.said.iter().filter(counts)
    }
}

/// Whether a sentence ends with this character.
pub(super) fn ends_sentence(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '\n' | '。' | '！' | '？' | '।')
}

fn key(text: &str) -> String {
    text.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(known: &[&str], text: &str) -> (String, bool) {
        let mut sentences = Sentences::new(known.iter().map(|text| (*text).to_owned()));
        let mut shown = String::new();
        for c in text.chars() {
            match sentences.push(c) {
                Told::Text(text) => shown += &text,
                Told::Again => return (shown, true),
            }
        }
        (shown + &sentences.finish(), false)
    }

    #[test]
    fn a_sentence_that_comes_again_is_not_shown() {
        let text = "Drink more water. It is cheap. Drink more water. It is";
        assert_eq!(
            shown(&[], text),
            ("Drink more water. It is cheap.".into(), true)
        );
        let (text, again) = shown(&["Drink more water"], "Well. Drink more water!");
        assert_eq!((text.as_str(), again), ("Well.", true));
    }

    #[test]
    fn what_only_begins_alike_is_shown_whole() {
        for text in [
            "Drink more water. Drink more water and tea. Drink more",
            "No. No. No. 3.5 m, 3.5 m.",
            "",
            "Ab. Ab",
        ] {
            assert_eq!(
                shown(&["Drink more water daily"], text),
                (text.into(), false)
            );
        }
    }
}
