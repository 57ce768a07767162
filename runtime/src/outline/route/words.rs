//! A question as words and sentences.

/// Most bytes of a question that are looked at: what is asked stands at its begin or its end.
const MAX_BYTES: usize = 8 << 10;
/// Questions of so many words are read whole; of longer ones the middle is context.
const MAX_WHOLE_WORDS: usize = 90;
/// Sentences at the begin and the end of a longer one that are read.
const EDGE_SENTENCES: (usize, usize) = (2, 3);

/// The words of a question, lower case and without apostrophes, in sentences.
pub(super) struct Text {
    pub(super) words: Vec<String>,
    /// First and one past the last word of each sentence that is read.
    pub(super) sentences: Vec<(usize, usize)>,
    /// Words before which a clause begins: the first of a sentence, and behind a comma.
    pub(super) starts: Vec<usize>,
}

impl Text {
    pub(super) fn new(question: &str) -> Self {
        let mut text = Self {
            words: Vec::new(),
            sentences: Vec::new(),
            starts: Vec::new(),
        };
        let mut begin = 0;
        let mut word = String::new();
        let edges = edges(question);
        let chars = edges.iter().flat_map(|edge| edge.chars().chain(['\n']));
        let mut chars = chars.peekable();
        while let Some(c) = chars.next() {
            let joins = matches!(c, '+' | '#') && !word.is_empty() && word.len() < 4;
            if c.is_alphanumeric() || joins {
                word.extend(c.to_lowercase());
                continue;
            }
            if matches!(c, '\'' | '’' | '`') && !word.is_empty() {
                continue;
            }
            if matches!(c, '.' | ',')
                && word.ends_with(|d: char| d.is_ascii_digit())
                && chars.peek().is_some_and(char::is_ascii_digit)
            {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                text.words.push(std::mem::take(&mut word));
            }
            let n_words = text.words.len();
            match c {
                '.' | '?' | '!' | ';' | '\n' | ':' | '…' if n_words > begin => {
                    text.sentences.push((begin, n_words));
                    begin = n_words;
                }
                ',' | '(' | '"' | '-' | '–' | '—' => text.starts.push(n_words),
                _ => {}
            }
        }
        if text.words.len() > MAX_WHOLE_WORDS {
            let (first, last) = EDGE_SENTENCES;
            let n = text.sentences.len();
            if n > first + last {
                text.sentences.drain(first..n - last);
            }
        }
        text.starts
            .extend(text.sentences.iter().map(|&(begin, _)| begin));
        text.starts.sort_unstable();
        text.starts.dedup();
        text
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    pub(super) fn n_numbers(&self) -> usize {
        self.words.iter().filter(|word| is_number(word)).count()
    }
}

pub(super) fn is_number(word: &str) -> bool {
    const WORDS: [&str; 12] = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty",
        "hundred",
    ];
    word.starts_with(|c: char| c.is_ascii_digit()) || WORDS.contains(&word)
}

/// The whole question, or of an endless one its begin and its end.
fn edges(question: &str) -> Vec<&str> {
    if question.len() <= MAX_BYTES {
        return vec![question];
    }
    let begin = question.floor_char_boundary(MAX_BYTES / 2);
    let end = question.ceil_char_boundary(question.len() - MAX_BYTES / 2);
    vec![&question[..begin], &question[end..]]
}
