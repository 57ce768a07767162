//! A model's tokenizer: llama.cpp's, loaded from the GGUF without the weights.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::special_tokens::{SpecialTokens, TextSpan};
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
    special: SpecialTokens,
    index: OnceLock<TokenIndex>,
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
        let special = SpecialTokens::of(&model, n_vocab)
            .ok_or_else(|| bad("its control tokens are too many to look for"))?;
        Ok(Self {
            model,
            n_vocab,
            eog,
            special,
            index: OnceLock::new(),
        })
    }

    /// The tokens of `text`, all of them.
    ///
    /// With `add_bos` the begin token comes first if the model was trained with it, or if `text`
    /// begins with it (white space before it is left out), and once. Tokens that end or separate
    /// sequences are never added, whatever the model's flags say: a prompt is to be continued.
    /// `parse_special` reads the text of control tokens as these tokens: never for text that a user
    /// wrote.
    pub fn tokenize(&self, text: &str, add_bos: bool, parse_special: bool) -> Vec<Token> {
        let parts = match parse_special {
            true => self.special.parts(text, &[]),
            false => vec![TextSpan::Text(0..text.len())],
        };
        self.tokenize_parts(text, &parts, add_bos)
    }

    /// The tokens of the parts of `text`.
    pub(super) fn tokenize_parts(
        &self,
        text: &str,
        parts: &[TextSpan],
        add_bos: bool,
    ) -> Vec<Token> {
        let bos = self.bos().filter(|_| add_bos);
        let is_bos =
            |part: &TextSpan| matches!(part, TextSpan::Control(token) if Some(*token) == bos);
        let is_blank = |part: &TextSpan| matches!(part, TextSpan::Text(at) if text[at.clone()].trim().is_empty());
        let mut rest = parts;
        loop {
            rest = match rest {
                [first, after @ ..] if is_bos(first) => after,
                [blank, first, after @ ..] if is_blank(blank) && is_bos(first) => after,
                _ => break,
            };
        }
        let is_written = rest.len() < parts.len();
        let mut tokens: Vec<Token> = bos
            .filter(|_| is_written || self.add_bos())
            .into_iter()
            .collect();
        for part in rest {
            match part {
                TextSpan::Control(token) => tokens.push(*token),
                TextSpan::Text(at) => self.tokenize_plain(&text[at.clone()], &mut tokens),
            }
        }
        tokens
    }

    /// Adds the tokens of a text without control tokens.
    fn tokenize_plain(&self, text: &str, tokens: &mut Vec<Token>) {
        let vocab = self.model.vocab();
        let mut rest = text;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(part_end(rest));
            let found = vocab.tokenize(part.as_bytes(), false, false);
            tokens.extend(found.into_iter().map(|token| token.0));
            rest = after;
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

    /// The text of a control token, which renders as nothing; none for other tokens.
    pub fn control_text(&self, token: Token) -> Option<String> {
        let is_silent = self.contains(token) && self.token_bytes(token, false).is_empty();
        let text = is_silent.then(|| self.token_bytes(token, true))?;
        String::from_utf8(text).ok().filter(|text| !text.is_empty())
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

    pub(super) fn special(&self) -> &SpecialTokens {
        &self.special
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
        fn control_tokens_are_found_as_llama_cpp_finds_them(
            text in "(a|b| |\n|<|<\\||im_|im_end|\\|>|<\\|im_end\\|>|<\\|endoftext\\|>|é){0,30}"
        ) {
            let vocabulary = vocabulary();
            let expected = vocabulary.model.vocab().tokenize(text.as_bytes(), false, true);
            let expected: Vec<Token> = expected.into_iter().map(|token| token.0).collect();
            prop_assert_eq!(vocabulary.tokenize(&text, false, true), expected);
        }

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
        assert_eq!(vocabulary.control_text(eos), Some(name.clone()));
        assert_eq!(vocabulary.control_text(0), None);
        assert_eq!(vocabulary.token_named(&name), Some(eos));
    }

    #[test]
    fn ids_outside_the_vocabulary_are_harmless() {
        let vocabulary = vocabulary();
        for token in [-1, Token::MIN, Token::MAX, vocabulary.n_vocab() as Token] {
            assert!(vocabulary.token_bytes(token, true).is_empty());
            assert!(!vocabulary.is_eog(token));
            assert_eq!(vocabulary.control_text(token), None);
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
}
