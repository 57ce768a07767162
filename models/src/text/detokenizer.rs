//! Tokens to text as they come, never cutting a character.

use std::sync::Arc;

use super::Vocabulary;
use crate::types::Token;

/// Turns a stream of tokens into a stream of text. Control tokens render as nothing.
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    stream: Utf8Stream,
}

impl Detokenizer {
    /// At the start of a text.
    pub fn new(vocabulary: Arc<Vocabulary>) -> Self {
        Self {
            vocabulary,
            stream: Utf8Stream::default(),
        }
    }

    /// The text that `token` completes; what it leaves unfinished comes with a later one.
    pub fn push(&mut self, token: Token) -> String {
        self.stream.push(&self.vocabulary.token_bytes(token, false))
    }

    /// The text of a control token, which [`Detokenizer::push`] leaves out.
    pub fn control_text(&self, token: Token) -> Option<String> {
        self.vocabulary.control_text(token)
    }

    /// The end of the text: an unfinished character becomes U+FFFD. Starts a new text.
    pub fn finish(&mut self) -> String {
        self.stream.finish()
    }
}

/// Turns a stream of bytes into whole characters.
///
/// All pushes and the finish joined are what `String::from_utf8_lossy` makes of all bytes joined:
/// each maximal invalid part is one U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    /// The start of a character whose end is still to come; at most three bytes.
    unfinished: Vec<u8>,
}

impl Utf8Stream {
    /// The characters that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.unfinished.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.unfinished.len());
        let mut rest = self.unfinished.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(n_invalid) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[n_invalid..];
                }
            }
        }
        self.unfinished = rest.to_vec();
        text
    }

    /// U+FFFD if a character is unfinished, else nothing.
    pub fn finish(&mut self) -> String {
        let unfinished = std::mem::take(&mut self.unfinished);
        String::from_utf8_lossy(&unfinished).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let bytes = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            // Lead, continuation and never-valid bytes far more often than chance gives them.
            prop::collection::vec(
                prop_oneof![
                    prop::sample::select(vec![
                        0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xE2, 0x82, 0xAC, 0xED, 0xA0,
                        0xF0, 0x9F, 0x98, 0x80, 0xF4, 0x90, 0xFF
                    ]),
                    any::<u8>()
                ],
                0..6
            ),
        ];
        (prop::collection::vec(bytes, 0..20), any::<u64>()).prop_map(|(parts, mut cuts)| {
            // Cut the whole anew, without regard for characters.
            let all = parts.concat();
            let mut chunks = vec![Vec::new()];
            for byte in all {
                cuts = cuts.rotate_left(1);
                if cuts & 1 == 1 {
                    chunks.push(Vec::new());
                }
                chunks.last_mut().expect("never empty").push(byte);
            }
            chunks
        })
    }

    proptest! {
        #[test]
        fn any_chunking_gives_what_the_whole_gives(chunks in chunks()) {
            let mut stream = Utf8Stream::default();
            let mut text = String::new();
            for chunk in &chunks {
                text += &stream.push(chunk);
            }
            text += &stream.finish();
            let expected = String::from_utf8_lossy(&chunks.concat()).into_owned();
            prop_assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_character_comes_out_with_its_last_byte_and_not_later() {
        let mut stream = Utf8Stream::default();
        let euro = "€".as_bytes();
        assert_eq!(stream.push(&euro[..2]), "");
        assert_eq!(stream.push(&euro[2..]), "€");
        // An invalid start is not held back until the end.
        assert_eq!(stream.push(b"\xE2a"), "\u{FFFD}a");
        assert_eq!(stream.finish(), "");
    }
}
