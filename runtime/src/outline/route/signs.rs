//! What tells a question's sort beside its words: signs of programs and formulas, other languages.

use super::Class;
use super::words::Text;

/// Bytes that are searched for signs.
const MAX_BYTES: usize = 8 << 10;

const CODE: [&str; 22] = [
    "```",
    "();",
    "};",
    "){",
    ") {",
    "==",
    "!=",
    "=>",
    "->",
    "::",
    "</",
    "/>",
    "def ",
    "#include",
    "import ",
    "select ",
    "traceback",
    "err!",
    "error:",
    "exception:",
    "<<",
    "&&",
];

/// Common words of languages that the rules do not know, none of them English.
const FOREIGN: [&str; 80] = [
    "wie",
    "ich",
    "der",
    "das",
    "und",
    "ist",
    "eine",
    "einen",
    "einer",
    "ein",
    "welche",
    "für",
    "nicht",
    "mit",
    "gegenüber",
    "kann",
    "mein",
    "wir",
    "bitte",
    "warum",
    "wechsle",
    "le",
    "la",
    "les",
    "une",
    "des",
    "et",
    "est",
    "pour",
    "comment",
    "quelle",
    "quel",
    "quels",
    "quelles",
    "faire",
    "avec",
    "dans",
    "je",
    "pourquoi",
    "à",
    "el",
    "los",
    "las",
    "una",
    "qué",
    "cómo",
    "cuáles",
    "son",
    "por",
    "para",
    "es",
    "y",
    "como",
    "quais",
    "são",
    "o",
    "os",
    "uma",
    "não",
    "que",
    "che",
    "di",
    "cosa",
    "come",
    "devo",
    "sono",
    "il",
    "gli",
    "della",
    "wat",
    "zijn",
    "een",
    "het",
    "van",
    "hoe",
    "ik",
    "de",
    "voor",
    "prima",
    "jest",
];

const ENGLISH: [&str; 36] = [
    "the", "is", "are", "a", "an", "of", "to", "how", "what", "why", "which", "i", "my", "do",
    "does", "can", "in", "for", "and", "or", "me", "you", "it", "this", "that", "with", "on", "at",
    "give", "list", "write", "tell", "who", "when", "where", "please",
];

/// Why the rules cannot read the question, if they cannot.
pub(super) fn foreign(question: &str, text: &Text) -> Option<&'static str> {
    let letters = || {
        question
            .chars()
            .take(MAX_BYTES)
            .filter(|c| c.is_alphabetic())
    };
    let n_other = letters()
        .filter(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}'))
        .count();
    if n_other * 2 > letters().count() {
        return Some("another script: the rules know English");
    }
    let count = |known: &[&str]| {
        text.words
            .iter()
            .filter(|word| known.contains(&word.as_str()))
            .count()
    };
    let (n_foreign, n_english) = (count(&FOREIGN), count(&ENGLISH));
    (n_foreign >= 2 && n_foreign > n_english).then_some("another language: the rules know English")
}

/// What signs tell, with their weight.
pub(super) fn signs(question: &str, text: &Text) -> Vec<(u8, Class, &'static str)> {
    let head = &question[..question.floor_char_boundary(MAX_BYTES)];
    let lower = head.to_lowercase();
    let mut signs = Vec::new();
    if CODE.iter().any(|sign| lower.contains(sign)) {
        signs.push((9, Class::Code, "holds signs of a program"));
    }
    if has_formula(head) {
        signs.push((8, Class::Mathematics, "holds a formula"));
    }
    let quantity = ["how", "what", "whats", "where"]
        .iter()
        .any(|word| text.has(word));
    let amount = ["many", "much", "long", "far", "is", "are", "has"]
        .iter()
        .any(|word| text.has(word));
    if text.n_numbers() >= 2 && quantity && amount && text.words.len() >= 9 {
        signs.push((
            7,
            Class::Mathematics,
            "asks for a quantity and gives several",
        ));
    }
    signs
}

/// Whether an operator stands between two terms, or a fraction of digits.
fn has_formula(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let solid =
        |range: &mut dyn Iterator<Item = usize>| range.map(|i| chars[i]).find(|c| *c != ' ');
    chars.iter().enumerate().any(|(i, &c)| {
        if !matches!(c, '^' | '=' | '×' | '÷' | '*' | '+' | '/' | '−') {
            return false;
        }
        let before = solid(&mut (i.saturating_sub(2)..i).rev());
        let behind = solid(&mut (i + 1..(i + 3).min(chars.len())));
        let (Some(before), Some(behind)) = (before, behind) else {
            return false;
        };
        let is_term = |c: char| c.is_ascii_alphanumeric() || matches!(c, '(' | ')');
        match c {
            '/' | '*' => before.is_ascii_digit() && behind.is_ascii_digit(),
            _ => {
                is_term(before)
                    && is_term(behind)
                    && (before.is_ascii_digit()
                        || behind.is_ascii_digit()
                        || matches!(before, ')' | 'x'))
            }
        }
    })
}
