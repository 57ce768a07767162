//! The sign at the beginning of a line that makes it a point: a number, a letter, a bullet.

/// A sort of marker. Points of one outline have markers of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `1.`, `(1)`, `1 -`, `Step 1:`, digits of any script.
    Number,
    /// `I.`, `iv)`.
    Roman,
    /// `A.`, `b)`, of any alphabet.
    Letter,
    /// `-`, `*`, a bullet.
    Bullet,
    /// `1.2`: a point below a point.
    Nested,
}

/// A marker, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker<'a> {
    pub(crate) kind: Kind,
    /// What it counts; 0 for bullets.
    pub(crate) ordinal: u32,
    /// The line behind it.
    pub(crate) rest: &'a str,
}

/// Longest number: an outline has no thousand points, and years are no numbers of points.
const MAX_DIGITS: usize = 3;
/// Largest Roman numeral that is read as one: beyond, letters such as `MIX` are words.
const MAX_ROMAN: u32 = 39;

const LABELS: [&str; 25] = [
    "step",
    "point",
    "part",
    "section",
    "phase",
    "item",
    "topic",
    "tip",
    "idea",
    "chapter",
    "number",
    "no",
    "stage",
    "reason",
    "option",
    "schritt",
    "punkt",
    "étape",
    "paso",
    "passo",
    "punto",
    "шаг",
    "пункт",
    "ขั้นตอนที่",
    "stap",
];
const NUMBER_WORDS: [&str; 10] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
];
const DELIMITERS: &[char] = &['.', ')', ':', ']', '、', '．', '）', '：', '。', '/', '|'];
const DASHES: &[char] = &['-', '–', '—'];
const ASCII_BULLETS: &[char] = &['-', '*', '+', '–', '—'];
const BULLETS: &[char] = &[
    '•', '‣', '◦', '▪', '▫', '●', '○', '■', '□', '➤', '➢', '►', '▶', '▸', '✓', '✔', '✅', '☐', '☑',
    '·', '・', '⁃', '∙', '※', '»', '→', '➜', '➔', '★', '☆', '◆', '◇', '⚫', '🔹', '🔸', '👉',
];
const CJK_DIGITS: &str = "一二三四五六七八九十";
/// First digit of each script that outlines are written in.
const ZEROS: [char; 18] = [
    '0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{17e0}',
    '\u{ff10}',
];
/// First and last of numbers that are one character, and what the first counts.
const CIRCLED: [(char, char); 7] = [
    ('①', '⑳'),
    ('⑴', '⒇'),
    ('⒈', '⒛'),
    ('❶', '❿'),
    ('➀', '➉'),
    ('➊', '➓'),
    ('⓵', '⓾'),
];

/// The marker at the beginning of a line without leading spaces.
pub(crate) fn marker(line: &str) -> Option<Marker<'_>> {
    circled(line)
        .or_else(|| numbered(line))
        .or_else(|| labelled(line))
        .or_else(|| lettered(line))
        .or_else(|| bulleted(line))
}

/// Whether a word is `2.` or `2)`: a point behind another on its line.
pub(crate) fn is_inline_number(word: &str) -> bool {
    let digits = word.strip_suffix(['.', ')']);
    digits.is_some_and(|digits| {
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

fn circled(line: &str) -> Option<Marker<'_>> {
    let first = line.chars().next()?;
    let (from, _) = CIRCLED
        .iter()
        .find(|(from, to)| (*from..=*to).contains(&first))?;
    let rest = line[first.len_utf8()..]
        .trim_start_matches(DELIMITERS)
        .trim_start();
    let ordinal = first as u32 - *from as u32 + 1;
    Some(Marker {
        kind: Kind::Number,
        ordinal,
        rest,
    })
}

fn numbered(line: &str) -> Option<Marker<'_>> {
    let (open, inner) = opened(line);
    let (ordinal, behind) = number(inner)?;
    // A keycap: the digit, a variation selector, the frame.
    if let Some(rest) = behind
        .strip_prefix('\u{fe0f}')
        .unwrap_or(behind)
        .strip_prefix('\u{20e3}')
    {
        let rest = rest.trim_start_matches(DELIMITERS).trim_start();
        return Some(Marker {
            kind: Kind::Number,
            ordinal,
            rest,
        });
    }
    let rest = delimited(open, behind)?;
    if let Some((_, deeper)) = number(rest).filter(|_| behind.starts_with('.')) {
        let nested = deeper.starts_with([' ', '.', ')', ':']) && rest == &behind[1..];
        return nested.then_some(Marker {
            kind: Kind::Nested,
            ordinal,
            rest: deeper,
        });
    }
    // `3:1`, `9/10`, `24-7` are no markers; `1.Title` is one.
    let glued = rest.len() == behind.len().saturating_sub(1) && number(rest).is_some();
    (!glued).then(|| Marker {
        kind: Kind::Number,
        ordinal,
        rest: rest.trim_start(),
    })
}

/// `Step 1:`, `Point two -`.
fn labelled(line: &str) -> Option<Marker<'_>> {
    let end = line.find([' ', '#', '.'])?;
    let label = line[..end].to_lowercase();
    if !LABELS.contains(&label.as_str()) {
        return None;
    }
    let behind = line[end..].trim_start_matches(['.', ' ', '#']);
    let word_end = behind
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(behind.len());
    let word = behind[..word_end].to_lowercase();
    let as_word = NUMBER_WORDS.iter().position(|known| *known == word);
    let (ordinal, behind) = match as_word {
        Some(at) => (at as u32 + 1, &behind[word_end..]),
        None => number(behind)?,
    };
    // French sets a space before its colon.
    let colon = behind
        .strip_prefix(' ')
        .filter(|rest| rest.starts_with(':'));
    let behind = colon.unwrap_or(behind);
    let rest = if behind.is_empty() {
        behind
    } else {
        delimited(false, behind)?
    };
    Some(Marker {
        kind: Kind::Number,
        ordinal,
        rest: rest.trim_start(),
    })
}

/// Roman numerals and letters; `i.` is Roman, and only its neighbours can tell otherwise.
fn lettered(line: &str) -> Option<Marker<'_>> {
    let (open, inner) = opened(line);
    let end = inner
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(inner.len());
    let (word, behind) = inner.split_at(end);
    let rest = if open {
        behind.strip_prefix([')', ']', '）'])?
    } else {
        behind.strip_prefix(['.', ')', '．', '）'])?
    };
    // Initials and abbreviations go on without a space.
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let mut chars = word.chars();
    let (first, second) = (chars.next()?, chars.next());
    let (kind, ordinal) = match (roman(word), second) {
        (Some(value), _) => (Kind::Roman, value),
        (None, None) => (Kind::Letter, letter_ordinal(first)),
        (None, Some(_)) => return None,
    };
    Some(Marker {
        kind,
        ordinal,
        rest: rest.trim_start(),
    })
}

/// What a letter counts in its alphabet, as far as code points tell.
pub(crate) fn letter_ordinal(letter: char) -> u32 {
    let lower = letter.to_lowercase().next().unwrap_or(letter) as u32;
    let first = match lower {
        0x61..=0x7a => 0x61,
        0x3b1..=0x3c9 => 0x3b1,
        0x430..=0x44f => 0x430,
        other => other,
    };
    lower - first + 1
}

fn bulleted(line: &str) -> Option<Marker<'_>> {
    let first = line.chars().next()?;
    let rest = &line[first.len_utf8()..];
    let is_bullet =
        BULLETS.contains(&first) || (ASCII_BULLETS.contains(&first) && rest.starts_with(' '));
    let rest = rest.trim_start_matches('\u{fe0f}').trim_start();
    is_bullet.then_some(Marker {
        kind: Kind::Bullet,
        ordinal: 0,
        rest,
    })
}

fn opened(line: &str) -> (bool, &str) {
    let inner = line.strip_prefix(['(', '[', '（', '【']);
    (inner.is_some(), inner.unwrap_or(line))
}

/// A number in digits of any script, or in Chinese numerals up to 99, and what follows it.
fn number(text: &str) -> Option<(u32, &str)> {
    let digits = text.chars().map_while(digit).take(MAX_DIGITS + 1);
    let (mut value, mut n_digits) = (0, 0);
    for digit in digits {
        value = value * 10 + digit;
        n_digits += 1;
    }
    if n_digits > MAX_DIGITS {
        return None;
    }
    if n_digits > 0 {
        let end: usize = text.chars().take(n_digits).map(char::len_utf8).sum();
        return Some((value, &text[end..]));
    }
    let numerals: Vec<u32> = text.chars().map_while(cjk_digit).take(3).collect();
    let value = match numerals[..] {
        [n] => n,
        [10, n] if n < 10 => 10 + n,
        [n, 10] if n < 10 => n * 10,
        [tens, 10, n] if tens < 10 && n < 10 => tens * 10 + n,
        _ => return None,
    };
    let behind = &text[numerals.len() * '一'.len_utf8()..];
    // Without its delimiter a numeral is a word of the sentence.
    behind
        .starts_with(['、', '．', '.', '）', ')', '：', ':', '】'])
        .then_some((value, behind))
}

fn digit(c: char) -> Option<u32> {
    let zero = ZEROS
        .iter()
        .find(|zero| (**zero as u32..**zero as u32 + 10).contains(&(c as u32)))?;
    Some(c as u32 - *zero as u32)
}

fn cjk_digit(c: char) -> Option<u32> {
    let at = CJK_DIGITS.chars().position(|numeral| numeral == c)?;
    Some(at as u32 + 1)
}

/// What follows the sign behind a number.
fn delimited(open: bool, behind: &str) -> Option<&str> {
    if open {
        let rest = behind.strip_prefix([')', ']', '）', '】'])?;
        return Some(rest.strip_prefix(['.', ':']).unwrap_or(rest));
    }
    if let Some(rest) = behind.strip_prefix(DELIMITERS) {
        return Some(rest);
    }
    let rest = behind
        .trim_start_matches([' ', '*', '_'])
        .strip_prefix(DASHES)?;
    (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
}

/// The value of a Roman numeral in its usual form.
fn roman(word: &str) -> Option<u32> {
    const PARTS: [(&str, u32); 5] = [("x", 10), ("ix", 9), ("v", 5), ("iv", 4), ("i", 1)];
    let is_lower = word.chars().all(|c| c.is_ascii_lowercase());
    if !(is_lower || word.chars().all(|c| c.is_ascii_uppercase())) {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let (mut rest, mut value) = (lower.as_str(), 0);
    for (part, worth) in PARTS {
        let most = if worth == 10 || worth == 1 { 3 } else { 1 };
        for _ in 0..most {
            let Some(behind) = rest.strip_prefix(part) else {
                break;
            };
            rest = behind;
            value += worth;
        }
    }
    (rest.is_empty() && (1..=MAX_ROMAN).contains(&value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_of_all_sorts_are_read() {
        use Kind::{Bullet, Letter, Nested, Number, Roman};
        for (line, kind, ordinal, rest) in [
            ("1. Title", Number, 1, "Title"),
            ("12) Title", Number, 12, "Title"),
            ("(3) Title", Number, 3, "Title"),
            ("[3] Title", Number, 3, "Title"),
            ("1: Title", Number, 1, "Title"),
            ("1 - Title", Number, 1, "Title"),
            ("1.Title", Number, 1, "Title"),
            ("Step 2: Title", Number, 2, "Title"),
            ("Point two - Title", Number, 2, "Title"),
            ("No. 3: Title", Number, 3, "Title"),
            ("①Title", Number, 1, "Title"),
            ("2\u{fe0f}\u{20e3} Title", Number, 2, "Title"),
            ("٣. Title", Number, 3, "Title"),
            ("२) Title", Number, 2, "Title"),
            ("３．Title", Number, 3, "Title"),
            ("三、Title", Number, 3, "Title"),
            ("（二）Title", Number, 2, "Title"),
            ("IV. Title", Roman, 4, "Title"),
            ("(ii) Title", Roman, 2, "Title"),
            ("B. Title", Letter, 2, "Title"),
            ("(c) Title", Letter, 3, "Title"),
            ("б) Title", Letter, 2, "Title"),
            ("- Title", Bullet, 0, "Title"),
            ("•Title", Bullet, 0, "Title"),
            ("✅ Title", Bullet, 0, "Title"),
            ("1.2 Title", Nested, 1, " Title"),
            ("1.2. Title", Nested, 1, ". Title"),
            // Not to be told apart, and no point either.
            ("3.5 metres", Nested, 3, " metres"),
        ] {
            assert_eq!(
                marker(line),
                Some(Marker {
                    kind,
                    ordinal,
                    rest
                }),
                "{line}"
            );
        }
    }

    #[test]
    fn sentences_have_no_marker() {
        for line in [
            "",
            "3 kinds of it",
            "12:30 is late",
            "24-7 service",
            "1984. A novel",
            "-5 degrees",
            "*Title*",
            "I am here",
            "e.g. this",
            "U.S. law",
            "mix. it",
            "Step by step",
            "一个重要的问题",
            "Here it is:",
        ] {
            assert_eq!(marker(line), None, "{line}");
        }
    }
}
