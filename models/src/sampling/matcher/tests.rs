#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use proptest::prelude::*;

use super::*;
use crate::text::test_vocabulary::vocabulary;

const JSON: &str = r#"
root   ::= value
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;
const GRAMMARS: [&str; 8] = [
    JSON,
    "root ::= [a-z ]+ \".\"",
    "root ::= (\"ab\" | \"a\" | \"b\" root \"c\")* .",
    "root ::= [^a-z]{3,6} word?\nword ::= \"the\" | \"th\" [aeiou] # a comment\n",
    "root ::= \"\\u00e9\" [ぁ-ゟ]* [😀-😂]? | [\\x00-\\x7F]{2}",
    "root ::= \"x\" root \"y\" | \"x\" root \"z\" | \"x\"",
    "root ::= <[40]> <[41]>* | !<[42]> \"a\"",
    "root ::= \"\" | (([0-9])?){0,3} \"!\"",
];

fn matcher(text: &str) -> Matcher {
    let vocabulary = vocabulary();
    let named = |name: &str| vocabulary.token_named(name);
    Matcher::new(Arc::new(Grammar::parse(text, &named).unwrap()))
}

fn fits(grammar: &str, text: &str) -> bool {
    let mut matcher = matcher(grammar);
    for byte in text.bytes() {
        matcher.accept(-1, &[byte]);
    }
    matcher.is_complete()
}

#[test]
fn texts_in_and_out_of_a_language() {
    let json = [
        "{}",
        "[1, -2.5e+3,\n  \"é\\u00e9\\n😀\"]",
        "{\"a\":{\"b\": [true,null]}}",
        "0",
    ];
    for text in json {
        assert!(fits(JSON, text), "{text}");
    }
    for text in ["", "{", "[1,]", "\"\n\"", "01", "\"\\u00g0\"", "{}x", "tru"] {
        assert!(!fits(JSON, text), "{text}");
    }
    assert!(fits("root ::= \"\" | (([0-9])?){0,3} \"!\"", "12!"));
    assert!(!fits("root ::= [^\"]*", "a\0b"));
}

fn allowed(matcher: &mut Matcher) -> BTreeSet<Token> {
    let mut tokens = BTreeSet::new();
    matcher.allowed_tokens(vocabulary().token_index(), |token| {
        tokens.insert(token);
    });
    tokens
}

/// What llama.cpp allows, but for tokens that render as nothing.
fn allowed_by_llama(sampler: &mut LlamaSampler) -> BTreeSet<Token> {
    let vocabulary = vocabulary();
    let data = (0..vocabulary.n_vocab() as Token)
        .map(|token| LlamaTokenData::new(LlamaToken(token), 1.0, 0.0))
        .collect();
    let mut array = LlamaTokenDataArray::new(data, false);
    array.apply_sampler(sampler);
    let tokens = array
        .data
        .iter()
        .filter(|data| data.logit() > f32::NEG_INFINITY);
    tokens
        .map(|data| data.id().0)
        .filter(|&token| has_text(token))
        .collect()
}

fn has_text(token: Token) -> bool {
    !vocabulary().token_bytes(token, false).is_empty()
}

/// Whether `bytes` after the character that `matcher` is in are UTF-8 so far, without NUL:
/// llama.cpp takes other bytes for characters at times, and never a token that begins with NUL.
/// Where the grammar names tokens it refuses those that end inside a character, ours does not.
fn is_text(matcher: &Matcher, bytes: &[u8]) -> bool {
    let begun = &matcher.here.partial.bytes[..matcher.here.partial.len as usize];
    let utf8 = match std::str::from_utf8(&[begun, bytes].concat()) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && !names_tokens(matcher),
    };
    utf8 && bytes[0] != 0
}

fn names_tokens(matcher: &Matcher) -> bool {
    matcher
        .grammar
        .elements
        .iter()
        .any(|e| matches!(e, Element::Token { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Along random texts of each grammar: llama.cpp allows the same tokens; each token alone
    /// is judged as in the walk over all; and forgetting the cache changes nothing.
    #[test]
    fn agrees_with_llama_cpp_along_random_texts(
        grammar in 0..GRAMMARS.len(),
        choices in prop::collection::vec(any::<(u32, bool)>(), 1..24),
    ) {
        let vocabulary = vocabulary();
        let mut matcher = matcher(GRAMMARS[grammar]);
        let mut theirs = vocabulary.grammar_of_llama_cpp(GRAMMARS[grammar]);
        for (choice, forget) in choices {
            if forget {
                let mut here = [matcher.here];
                matcher.forget(&mut here);
                matcher.here = here[0];
            }
            let tokens = allowed(&mut matcher);
            for token in vocabulary.token_index().all_tokens() {
                let alone = matcher.allows(token, &vocabulary.token_bytes(token, false));
                prop_assert_eq!(alone, tokens.contains(&token), "token {}", token);
            }
            let ours: BTreeSet<Token> =
                tokens.into_iter().filter(|&token| has_text(token)).collect();
            for &token in ours.symmetric_difference(&allowed_by_llama(&mut theirs)) {
                let bytes = vocabulary.token_bytes(token, false);
                prop_assert!(!is_text(&matcher, &bytes), "token {} {:?}", token, bytes);
            }
            let common: Vec<Token> = ours
                .into_iter()
                .filter(|&token| is_text(&matcher, &vocabulary.token_bytes(token, false)))
                .collect();
            let Some(&token) = common.get(choice as usize % common.len().max(1)) else { break };
            matcher.accept(token, &vocabulary.token_bytes(token, false));
            theirs.accept(LlamaToken(token));
        }
    }
}

#[test]
fn an_ambiguous_grammar_is_bounded() {
    // 2^n readings after n characters.
    let mut matcher = matcher(GRAMMARS[5]);
    for _ in 0..200 {
        matcher.accept(-1, b"xxxxxxxx");
    }
    assert!(allowed(&mut matcher).is_empty() && !matcher.is_complete());
}

#[test]
fn what_does_not_fit_leaves_nothing_allowed() {
    let mut matcher = matcher(JSON);
    matcher.accept(-1, b"}");
    assert!(allowed(&mut matcher).is_empty() && !matcher.is_complete());
    assert!(!matcher.allows(-1, b"{"));
}
