//! A working byte-level BPE tokenizer of any size.
//!
//! Ids: 0..256 the bytes, then the control tokens, then common English words (each letter by
//! letter, so that every beginning of a word is a token too), then invented words of syllables
//! until the vocabulary is full. Every token but the bytes and controls is the merge of two before
//! it, so any text splits and comes back.

use std::collections::HashSet;

/// Most tokens: four times the largest vocabulary in the field.
pub(super) const MAX_VOCAB: u32 = 1 << 20;
/// What ends a document; also the padding.
pub(super) const END_OF_TEXT: u32 = 256;
/// What ends a chat message, and so an answer.
pub(super) const IM_END: u32 = 258;
/// The control tokens, from id 256 on.
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Ids of the control tokens.
pub(super) const CONTROL_IDS: std::ops::Range<u64> = 256..256 + CONTROLS.len() as u64;
/// The space as byte-level BPE writes it.
const SPACE: &str = "\u{120}";

/// The most common words of English, roughly by frequency, then a few of the field.
const WORDS: &str = "the of and to in is that it was for on are as with his they at be this from \
    have or by one had not but what all were when we there can an your which their said if do will \
    each about how up out them then she many some so these would other into has more her two like \
    him see time could no make than first been its who now people my made over did down only way \
    find use may water long little very after words called just where most know get through back \
    much before go good new write our used me man too any day same right look think also around \
    another came come work three word must because does part even place well such here take why \
    things help put years different away again off went old number great tell men say small every \
    found still between name should home big give air line set own under read last never us left \
    end along while might next sound below saw something thought both few those always looked show \
    large often together asked house world going want school important until form food keep \
    children feet land side without boy once animals life enough took sometimes four head above \
    kind began almost live page got earth need far hand high year mother light parts country \
    father let night following picture being study second eyes soon times story boys since white \
    days ever paper hard near sentence better best across during today others however sure means \
    knew try told young miles sun ways thing whole hear example heard several change answer room \
    sea against top turned learn point city play toward five using himself usually robot sensor \
    motor machine camera battery network model layer token weight memory question language";

/// Tokens, their types and merges, as the GGUF keys hold them.
pub(super) struct Tokenizer {
    /// Text of each token in the byte-to-unicode spelling.
    pub tokens: Vec<String>,
    /// `llama_token_type` of each: 1 normal, 3 control.
    pub types: Vec<i32>,
    /// Pairs, best first.
    pub merges: Vec<String>,
}

/// The tokenizer with `n_vocab` tokens, at least `SynthSpec::MIN_VOCAB`.
pub(super) fn build(n_vocab: u32) -> Tokenizer {
    let mut builder = Builder {
        n_vocab: n_vocab as usize,
        tokens: (0..=255).map(|byte| byte_char(byte).to_string()).collect(),
        merges: Vec::new(),
        known: HashSet::new(),
    };
    builder.known.extend(builder.tokens.iter().cloned());
    builder.tokens.extend(CONTROLS.map(str::to_owned));
    // Words after a space come first: their merges then win over those of bare words.
    for word in WORDS.split_whitespace() {
        builder.spell(&format!("{SPACE}{word}"));
    }
    builder.invent_words();
    let types = (0..builder.tokens.len() as u64)
        .map(|id| if CONTROL_IDS.contains(&id) { 3 } else { 1 })
        .collect();
    Tokenizer {
        tokens: builder.tokens,
        types,
        merges: builder.merges,
    }
}

struct Builder {
    n_vocab: usize,
    tokens: Vec<String>,
    merges: Vec<String>,
    known: HashSet<String>,
}

impl Builder {
    /// Adds a word and all its beginnings.
    fn spell(&mut self, word: &str) {
        let mut start = String::new();
        for letter in word.chars() {
            let letter = letter.to_string();
            if !start.is_empty() {
                self.merge(&start, &letter);
            }
            start += &letter;
        }
    }

    /// Fills the vocabulary with words of one syllable, then two, and so on.
    fn invent_words(&mut self) {
        let mut syllables = Vec::new();
        for consonant in "bdfghjklmnprstvz".chars() {
            for vowel in "aeiou".chars() {
                let (consonant, vowel) = (consonant.to_string(), vowel.to_string());
                self.merge(&consonant, &vowel);
                syllables.push(consonant + &vowel);
            }
        }
        let mut shorter = vec![SPACE.to_owned()];
        while self.tokens.len() < self.n_vocab {
            let mut longer = Vec::new();
            for start in &shorter {
                for syllable in &syllables {
                    if self.tokens.len() == self.n_vocab {
                        return;
                    }
                    self.merge(start, syllable);
                    longer.push(format!("{start}{syllable}"));
                }
            }
            shorter = longer;
        }
    }

    fn merge(&mut self, left: &str, right: &str) {
        let token = format!("{left}{right}");
        if self.tokens.len() < self.n_vocab && self.known.insert(token.clone()) {
            self.tokens.push(token);
            self.merges.push(format!("{left} {right}"));
        }
    }
}

/// How byte-level BPE spells a byte: printable Latin-1 as itself, the others from U+0100 on, in
/// order (GPT-2's `bytes_to_unicode`; llama.cpp's src/unicode.cpp).
pub(super) fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_is_filled_with_distinct_tokens_that_their_merges_make() {
        for n_vocab in [300, 1024, 40_000] {
            let Tokenizer {
                tokens,
                types,
                merges,
            } = build(n_vocab);
            assert_eq!(
                (tokens.len(), types.len()),
                (n_vocab as usize, n_vocab as usize)
            );
            assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len());
            assert_eq!(tokens[IM_END as usize], "<|im_end|>");
            assert_eq!(merges.len(), tokens.len() - 259);
            let mut known: HashSet<&str> = tokens[..256].iter().map(String::as_str).collect();
            for (merge, token) in merges.iter().zip(&tokens[259..]) {
                let parts: Vec<&str> = merge.split(' ').collect();
                assert_eq!(parts.concat(), *token);
                assert!(parts.iter().all(|part| known.contains(part)), "{merge}");
                known.insert(token);
            }
        }
    }

    #[test]
    fn bytes_are_spelled_as_gpt2_spells_them() {
        for (byte, c) in [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'a', 'a'),
            (0, 'Ā'),
            (0xad, 'Ń'),
            (0xff, 'ÿ'),
        ] {
            assert_eq!(byte_char(byte), c);
        }
    }
}
