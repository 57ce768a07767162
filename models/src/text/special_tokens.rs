//! Control tokens in text, found as llama.cpp and Hugging Face's tokenizers find them.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::types::Token;

/// What tokens llama.cpp looks for in a text before it splits it.
pub(super) struct SpecialTokens {
    automaton: AhoCorasick,
    /// By pattern of the automaton.
    tokens: Vec<SpecialToken>,
}

struct SpecialToken {
    id: Token,
    /// Whether only a template may write it; the others are found in any text.
    is_control: bool,
    /// Whether it takes the white space before it.
    strips_left: bool,
    /// Whether it takes the white space behind it.
    strips_right: bool,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextSpan {
    /// Bytes that are plain text.
    Text(Range<usize>),
    /// A control token.
    Control(Token),
}

impl SpecialTokens {
    /// Those of `model`; none when they are too many or too long to look for.
    pub(super) fn of(model: &LlamaModel, n_vocab: u32) -> Option<Self> {
        let vocab = model.vocab();
        let mut texts = Vec::new();
        let mut tokens = Vec::new();
        for id in 0..n_vocab as Token {
            let attr = vocab.attr(LlamaToken(id));
            let has = |one: LlamaTokenAttr| attr.contains(one);
            let is_control = has(LlamaTokenAttr::Control) || has(LlamaTokenAttr::Unknown);
            if !is_control && !has(LlamaTokenAttr::UserDefined) {
                continue;
            }
            let text = vocab
                .text(LlamaToken(id))
                .and_then(|text| text.to_str().ok());
            // No token's text is part of a character.
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                texts.push(text);
                tokens.push(SpecialToken {
                    id,
                    is_control,
                    strips_left: has(LlamaTokenAttr::LStrip),
                    strips_right: has(LlamaTokenAttr::RStrip),
                });
            }
        }
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest);
        let automaton = builder.build(texts).ok()?;
        Some(Self { automaton, tokens })
    }

    /// Cuts `text` at its control tokens. What touches any of `plain`, which are in order, is none.
    pub(super) fn parts(&self, text: &str, plain: &[Range<usize>]) -> Vec<TextSpan> {
        let mut parts = Vec::new();
        let mut plain = plain.iter().peekable();
        let mut text_start = 0;
        let mut at = 0;
        while let Some(found) = self.automaton.find(Input::new(text).range(at..)) {
            let token = &self.tokens[found.pattern()];
            while plain.next_if(|span| span.end <= found.start()).is_some() {}
            let is_plain = plain.peek().is_some_and(|span| span.start < found.end());
            if token.is_control && is_plain {
                // Another one may begin inside of it.
                at = found.start() + 1;
                continue;
            }
            at = found.end();
            if !token.is_control {
                continue;
            }
            let mut before = &text[text_start..found.start()];
            if token.strips_left {
                before = before.trim_end_matches(is_c_space);
            }
            if !before.is_empty() {
                parts.push(TextSpan::Text(text_start..text_start + before.len()));
            }
            parts.push(TextSpan::Control(token.id));
            if token.strips_right {
                at = text.len() - text[at..].trim_start_matches(is_c_space).len();
            }
            text_start = at;
        }
        if text_start < text.len() {
            parts.push(TextSpan::Text(text_start..text.len()));
        }
        parts
    }

    /// Where control tokens stand in `text`.
    pub(super) fn controls_in(&self, text: &str) -> Vec<Range<usize>> {
        self.automaton
            .find_iter(text)
            .filter(|found| self.tokens[found.pattern()].is_control)
            .map(|found| found.range())
            .collect()
    }
}

/// C's `isspace`.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
