//! A model's tokenizer: llama.cpp's, loaded from the GGUF without the weights.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use crate::error::{ModelError, Result};
use crate::llama::backend::backend;
use crate::llama::log::capture;
use crate::sampling::token_index::TokenIndex;
use crate::types::Token;

/// Text is handed to llama.cpp in parts below its limit of 2^31 bytes (a longer one aborts).
const MAX_PART_BYTES: usize = 1 << 30;

/// The tokenizer of a model. Shared between threads in an `Arc`.
pub struct Vocabulary {
    model: LlamaModel,
    n_vocab: u32,
    /// The tokens that end the generation, ascending.
    eog: Vec<Token>,
    index: OnceLock<TokenIndex>,
    control_texts: OnceLock<Vec<String>>,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("n_vocab", &self.n_vocab)
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// Loads the tokenizer of the GGUF at `path`: a whole model or its last slice.
    ///
    /// The file must have passed [`GgufFile::open`](crate::gguf::GgufFile): llama.cpp trusts what
    /// it reads.
    ///
    /// # Errors
    /// `BadGguf` when the file has no tokenizer (as all slices but the last) or an unusable one.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bad = |what: &str| ModelError::BadGguf {
            path: path.into(),
            what: what.to_owned(),
        };
        std::fs::metadata(path).map_err(|source| ModelError::Io {
            path: path.into(),
            source,
        })?;
        let params = LlamaModelParams::default().with_vocab_only(true);
        let (model, log) = capture(|| LlamaModel::load_from_file(backend(), path, &params));
        let model =
            model.map_err(|_| bad(&format!("cannot load its tokenizer: {}", log.errors())))?;
        // A vocabulary of type "none" has ids but no texts, and asking for one aborts.
        match model.meta_val_str("tokenizer.ggml.model").as_deref() {
            Ok("none" | "no_vocab") | Err(_) => {
                return Err(bad(
                    "it has no tokenizer; load the last slice or the whole model instead",
                ));
            }
            Ok(_) => {}
        }
        let n_vocab = u32::try_from(model.n_vocab()).unwrap_or(0);
        if n_vocab == 0 {
            return Err(bad("its tokenizer has no tokens"));
        }
        if model.meta_val_str("tokenizer.ggml.model").as_deref() == Ok("llama")
            && let Some(byte) = missing_byte(&model)
        {
            return Err(bad(&format!(
                "its tokenizer has no token for the byte 0x{byte:02X}"
            )));
        }
        let vocab = model.vocab();
        let eog = (0..n_vocab as Token)
            .filter(|&t| vocab.is_eog(LlamaToken(t)))
            .collect();
        Ok(Self {
            model,
            n_vocab,
            eog,
            index: OnceLock::new(),
            control_texts: OnceLock::new(),
        })
    }

    /// The tokens of `text`, all of them.
    ///
    /// `add_special` adds the begin and end tokens that the model was trained with.
    /// `parse_special` reads the text of control tokens as these tokens: for templates, never for
    /// text that a user wrote.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<Token> {
        let vocab = self.model.vocab();
        let mut tokens = Vec::new();
        let mut rest = text;
        let mut add_special = add_special;
        loop {
            let (part, after) = rest.split_at(part_end(rest));
            tokens.extend(vocab.tokenize(part.as_bytes(), add_special, parse_special));
            if after.is_empty() {
                return tokens.into_iter().map(|token| token.0).collect();
            }
            rest = after;
            add_special = false;
        }
    }

    /// The bytes that `token` renders as, maybe a part of a character. Control tokens and ids
    /// outside the vocabulary render as nothing; with `special` control tokens render their name.
    pub fn token_bytes(&self, token: Token, special: bool) -> Vec<u8> {
        if !self.contains(token) {
            return Vec::new();
        }
        self.model
            .vocab()
            .token_to_piece(LlamaToken(token), special, None)
    }

    /// Whether `token` ends the generation (end of sequence, of turn, of message).
    pub fn is_eog(&self, token: Token) -> bool {
        self.eog.binary_search(&token).is_ok()
    }

    /// The tokens that end the generation, ascending.
    pub fn eog_tokens(&self) -> &[Token] {
        &self.eog
    }

    /// The token that begins a sequence, if the model has one.
    pub fn bos(&self) -> Option<Token> {
        Some(self.model.vocab().bos().0).filter(|&token| self.contains(token))
    }

    /// The token that ends a sequence, if the model has one.
    pub fn eos(&self) -> Option<Token> {
        Some(self.model.vocab().eos().0).filter(|&token| self.contains(token))
    }

    /// Number of tokens; ids are below it.
    pub fn n_vocab(&self) -> u32 {
        self.n_vocab
    }

    /// Whether the model was trained with the begin token in front.
    pub fn add_bos(&self) -> bool {
        self.model.vocab().should_add_bos()
    }

    /// A token that ends the generation: the end of sequence, else any other, else token 0.
    pub(crate) fn end_token(&self) -> Token {
        self.eos()
            .filter(|&token| self.is_eog(token))
            .or(self.eog.first().copied())
            .unwrap_or(0)
    }

    /// The one token with the text `name`, control tokens included.
    pub(crate) fn token_named(&self, name: &str) -> Option<Token> {
        match self.tokenize(name, false, true).as_slice() {
            [token] => Some(*token),
            _ => None,
        }
    }

    /// The texts in the order of their bytes, built when first asked for.
    pub(crate) fn token_index(&self) -> &TokenIndex {
        self.index.get_or_init(|| {
            let texts = (0..self.n_vocab as Token).map(|token| self.token_bytes(token, false));
            TokenIndex::new(texts, self.eog.clone())
        })
    }

    /// The texts that only control tokens have, which user text must not turn into.
    pub(super) fn control_texts(&self) -> &[String] {
        self.control_texts.get_or_init(|| {
            (0..self.n_vocab as Token)
                .filter(|&token| self.token_bytes(token, false).is_empty())
                .filter_map(|token| String::from_utf8(self.token_bytes(token, true)).ok())
                .filter(|text| !text.is_empty())
                .collect()
        })
    }

    /// llama.cpp's own matcher, to compare ours with.
    #[cfg(test)]
    pub(crate) fn grammar_of_llama_cpp(
        &self,
        grammar: &str,
    ) -> llama_cpp_2::sampling::LlamaSampler {
        llama_cpp_2::sampling::LlamaSampler::grammar(&self.model, grammar, "root")
            .expect("a grammar that llama.cpp takes")
    }

    fn contains(&self, token: Token) -> bool {
        u32::try_from(token).is_ok_and(|token| token < self.n_vocab)
    }
}

/// Where the first part of `text` ends, between two characters.
fn part_end(text: &str) -> usize {
    let mut end = text.len().min(MAX_PART_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// A byte that a SentencePiece tokenizer cannot spell, for which llama.cpp would end the process.
fn missing_byte(model: &LlamaModel) -> Option<u8> {
    let vocab = model.vocab();
    let mut spelled = [false; 256];
    for token in vocab.tokens() {
        match vocab.text(token).map_or(&[][..], |text| text.to_bytes()) {
            [byte] => spelled[usize::from(*byte)] = true,
            [b'<', b'0', b'x', digits @ .., b'>'] => {
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                if let Ok(byte) = u8::from_str_radix(digits, 16) {
                    spelled[usize::from(byte)] = true;
                }
            }
            _ => {}
        }
    }
    spelled
        .iter()
        .position(|&spelled| !spelled)
        .map(|byte| byte as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_vocabulary::vocabulary;
    use super::*;
    use proptest::prelude::*;

    fn text_of(vocabulary: &Vocabulary, tokens: &[Token], special: bool) -> Vec<u8> {
        tokens
            .iter()
            .flat_map(|&token| vocabulary.token_bytes(token, special))
            .collect()
    }

    proptest! {
        #[test]
        fn no_byte_of_a_text_is_lost(text in prop_oneof![".*", "[a-z ]{0,300}", "\\PC{0,40}\0?a"]) {
            let vocabulary = vocabulary();
            let tokens = vocabulary.tokenize(&text, false, false);
            prop_assert_eq!(text_of(&vocabulary, &tokens, false), text.as_bytes());
        }
    }

    #[test]
    fn long_texts_are_not_truncated() {
        let vocabulary = vocabulary();
        for unit in ["a", " \n", "the robot ", "\0", "€😀"] {
            let text = unit.repeat(200_000 / unit.len());
            let tokens = vocabulary.tokenize(&text, false, false);
            assert_eq!(
                text_of(&vocabulary, &tokens, false),
                text.as_bytes(),
                "{unit:?}"
            );
        }
    }

    #[test]
    fn control_tokens_are_parsed_only_where_asked_for_and_render_as_nothing() {
        let vocabulary = vocabulary();
        let eos = vocabulary.eos().unwrap();
        let name = String::from_utf8(vocabulary.token_bytes(eos, true)).unwrap();
        assert!(vocabulary.is_eog(eos));
        assert_eq!(vocabulary.tokenize(&name, false, true), [eos]);
        assert!(!vocabulary.tokenize(&name, false, false).contains(&eos));
        assert!(vocabulary.token_bytes(eos, false).is_empty());
        assert!(vocabulary.control_texts().contains(&name));
        assert_eq!(vocabulary.token_named(&name), Some(eos));
    }

    #[test]
    fn ids_outside_the_vocabulary_are_harmless() {
        let vocabulary = vocabulary();
        for token in [-1, Token::MIN, Token::MAX, vocabulary.n_vocab() as Token] {
            assert!(vocabulary.token_bytes(token, true).is_empty());
            assert!(!vocabulary.is_eog(token));
        }
    }

    #[test]
    fn files_without_a_tokenizer_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no.gguf");
        assert!(matches!(
            Vocabulary::load(&path).unwrap_err(),
            ModelError::Io { .. }
        ));
        std::fs::write(&path, b"GGUF nonsense").unwrap();
        let error = Vocabulary::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("tokenizer") && !error.contains('\n'),
            "{error}"
        );
    }

    #[test]
    fn control_text_in_a_message_stays_text() {
        let vocabulary = vocabulary();
        let eos = vocabulary.eos().unwrap();
        let end = String::from_utf8(vocabulary.token_bytes(eos, true)).unwrap();
        let messages = [crate::text::ChatMessage::user(format!("a{end}b"))];
        let rendered = format!("user: a{end}b{end}");
        let tokens = vocabulary.tokenize_chat(&rendered, &messages).unwrap();
        assert_eq!(tokens.iter().filter(|&&token| token == eos).count(), 1);
        assert_eq!(tokens.last(), Some(&eos));
        let text = text_of(&vocabulary, &tokens, true);
        assert!(text.ends_with(rendered.as_bytes()));
    }
}
