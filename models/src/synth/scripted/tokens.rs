//! The vocabulary of a scripted model: bytes, control tokens, words.

use std::collections::HashMap;

use super::super::SynthSpec;
use super::super::tokenizer::byte_char;

/// `llama_token_type`.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Tokens as the GGUF keys hold them.
#[derive(Default)]
pub(super) struct Tokens {
    /// Text of each in the tokenizer's spelling.
    pub(super) texts: Vec<String>,
    pub(super) types: Vec<i32>,
    /// Of BPE: pairs, best first.
    pub(super) merges: Vec<String>,
    /// Of SPM: the earlier a token, the better.
    pub(super) scores: Vec<f32>,
    ids: HashMap<String, usize>,
    is_spm: bool,
}

impl Tokens {
    /// Each word comes with all its beginnings, from which it is merged letter by letter.
    pub(super) fn new(is_spm: bool, controls: &[String], words: &[&str]) -> Self {
        let mut tokens = Self {
            is_spm,
            ..Self::default()
        };
        for byte in 0..=u8::MAX {
            match is_spm {
                true => tokens.push(format!("<0x{byte:02X}>"), BYTE),
                false => tokens.push(byte_char(byte).to_string(), NORMAL),
            };
        }
        for control in controls {
            tokens.push(control.clone(), CONTROL);
        }
        for word in words {
            tokens.spell(word);
        }
        while tokens.texts.len() < SynthSpec::MIN_VOCAB as usize {
            tokens.push(format!("<unused{}>", tokens.texts.len()), UNUSED);
        }
        tokens.scores = (0..tokens.texts.len()).map(|id| -(id as f32)).collect();
        tokens
    }

    /// The id of a control token or a word.
    pub(super) fn id(&self, text: &str) -> Option<usize> {
        let by_name = self.ids.get(text);
        by_name
            .or_else(|| self.ids.get(&self.spelling(text)))
            .copied()
    }

    fn spell(&mut self, word: &str) {
        let mut start = String::new();
        for letter in self.spelling(word).chars() {
            let merge = format!("{start} {letter}");
            let is_first = start.is_empty();
            start.push(letter);
            if self.push(start.clone(), NORMAL) && !is_first {
                self.merges.push(merge);
            }
        }
    }

    fn spelling(&self, word: &str) -> String {
        match self.is_spm {
            true => word.replace(' ', "\u{2581}"),
            false => word.bytes().map(byte_char).collect(),
        }
    }

    /// False if there is such a token already.
    fn push(&mut self, text: String, ty: i32) -> bool {
        if self.ids.contains_key(&text) {
            return false;
        }
        self.ids.insert(text.clone(), self.texts.len());
        self.texts.push(text);
        self.types.push(ty);
        true
    }
}
