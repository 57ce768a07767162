//! Everyday questions, for any model: how soon its words come and what its points are like, plain, with
//! `--outline auto` and with `--outline on`.
//!
//! There are no facts to look for, so texts are judged by what can be counted: points on their title,
//! sentences that come again, words that the plain answer has too.

use std::collections::HashSet;
use std::fmt::Write;

use anyhow::Result;
use jupiter::outline::Outline;
use jupiter::{ChatMessage, Client, OutlineMode};

use super::answer::{self, Answer};

/// Questions of all sorts, each with its class; the router was written with the first table in view.
const TABLES: [&str; 2] = [
    include_str!("../../../../runtime/src/outline/route/questions_held_out.tsv"),
    include_str!("../../../../runtime/src/outline/route/questions_seen.tsv"),
];
/// Classes that suit an outline.
const SUITING: [&str; 6] = [
    "list",
    "how-to",
    "comparison",
    "advice",
    "explanation",
    "causes",
];
/// Fewest letters of a word that says something.
const WORD: usize = 4;
/// Fewest characters of a sentence that does not come again by chance.
const SENTENCE: usize = 12;
/// How questions are asked.
const MODES: [OutlineMode; 3] = [OutlineMode::Off, OutlineMode::Auto, OutlineMode::On];

/// One question's answers, in the order plain, auto, on.
pub struct Asked {
    question: String,
    answers: [Answer; 3],
}

/// The first `n` questions of one turn and line that suit an outline, or do not.
pub fn questions(n: usize, suit: bool) -> Vec<String> {
    let lines = TABLES.iter().flat_map(|table| table.lines());
    let pairs = lines.filter_map(|line| line.split_once('\t'));
    let pairs = pairs.filter(|(class, _)| !class.ends_with('?'));
    let of_sort =
        pairs.filter(|(class, text)| SUITING.contains(class) == suit && !text.contains("\\n"));
    of_sort.map(|(_, text)| text.to_owned()).take(n).collect()
}

/// Asks all questions in all ways, one after the other.
///
/// # Errors
/// When a request fails.
pub async fn ask(client: &Client, questions: Vec<String>) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for question in questions {
        let chat = [ChatMessage::user(&*question)];
        let mut answers = Vec::new();
        for mode in MODES {
            answers.push(answer::write_as(client, &chat, mode, true).await?);
        }
        if let Ok(answers) = <[Answer; 3]>::try_from(answers) {
            all.push(Asked { question, answers });
        }
    }
    Ok(all)
}

/// A table of both sorts of questions.
pub fn table(suiting: &[Asked], others: &[Asked]) -> String {
    let mut text = String::from(
        "| questions | way | by points | first word, ms | first word over plain | latest after plain, ms \
         | last word, ms | last word over plain | the same, worst tenth | at equal length | points on \
         their title | repeated sentences | words of the plain answer |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, asked) in [("that suit", suiting), ("others", others)] {
        for (way, mode) in ["plain", "auto", "on"].iter().enumerate() {
            text += &row(name, mode, way, asked);
        }
    }
    text
}

/// The answers themselves, for who wants to read them.
pub fn texts(asked: &[Asked]) -> String {
    let mut text = String::new();
    for one in asked {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "> {}", one.question);
        for (mode, answer) in ["plain", "auto", "on"].iter().zip(&one.answers) {
            let _ = writeln!(text, "[{mode}] {}\n", answer.text);
        }
    }
    text
}

fn row(name: &str, mode: &str, way: usize, asked: &[Asked]) -> String {
    let pairs = || asked.iter().map(|one| (&one.answers[0], &one.answers[way]));
    let of = |f: &dyn Fn(&Answer, &Answer) -> f64| -> Vec<f64> {
        let mut values: Vec<f64> = pairs().map(|(plain, this)| f(plain, this)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let at = |values: &[f64], share: f64| {
        let i = (values.len() as f64 * share) as usize;
        values
            .get(i.min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0.0)
    };
    let first = of(&|_, this| this.first_word_ms);
    let first_ratio = of(&|plain, this| this.first_word_ms / plain.first_word_ms);
    let later = of(&|plain, this| this.first_word_ms - plain.first_word_ms);
    let last = of(&|_, this| this.last_word_ms);
    let last_ratio = of(&|plain, this| this.last_word_ms / plain.last_word_ms);
    let outlined = || {
        asked
            .iter()
            .filter(|one| one.answers[way].outline.is_some())
    };
    let per_char =
        |answer: &Answer| answer.last_word_ms / answer.text.chars().count().max(1) as f64;
    let equal = outlined().map(|one| per_char(&one.answers[way]) / per_char(&one.answers[0]));
    let mut equal: Vec<f64> = equal.collect();
    equal.sort_by(f64::total_cmp);
    let points: Vec<(String, String)> = outlined()
        .flat_map(|one| points(&one.answers[way]))
        .collect();
    let n_on_title = points
        .iter()
        .filter(|(title, text)| is_on(title, text))
        .count();
    let n_repeated: usize = pairs().map(|(_, this)| repeated(&this.text)).sum();
    let overlap = of(&|plain, this| overlap(&plain.text, &this.text));
    format!(
        "| {name} | {mode} | {} of {} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {} of {} \
         | {n_repeated} | {:.0} % |\n",
        outlined().count(),
        asked.len(),
        at(&first, 0.5),
        at(&first_ratio, 0.5),
        at(&later, 1.0),
        at(&last, 0.5),
        at(&last_ratio, 0.5),
        at(&last_ratio, 0.9),
        at(&equal, 0.5),
        n_on_title,
        points.len(),
        100.0 * at(&overlap, 0.5),
    )
}

/// Title and text of each point.
fn points(answer: &Answer) -> Vec<(String, String)> {
    let Some(Outline { points }) = &answer.outline else {
        return Vec::new();
    };
    let mut rest = answer.text.as_str();
    let mut all = Vec::new();
    for (i, point) in points.iter().enumerate() {
        let next = points
            .get(i + 1)
            .map(|next| format!("\n{}. {}", i + 2, next.title));
        let end = next.and_then(|next| rest.find(&next)).unwrap_or(rest.len());
        let (text, behind) = rest.split_at(end);
        let opening = format!("{}. {}", i + 1, point.title);
        let text = text.trim_start().strip_prefix(&opening).unwrap_or(text);
        all.push((point.title.clone(), text.to_owned()));
        rest = behind;
    }
    all
}

/// Words that say something, as far as their stems go.
fn words(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let says = words.filter(|word| word.chars().count() >= WORD);
    says.map(|word| word.to_lowercase().chars().take(WORD + 1).collect())
        .collect()
}

fn is_on(title: &str, text: &str) -> bool {
    !words(title).is_disjoint(&words(text))
}

fn overlap(plain: &str, other: &str) -> f64 {
    let (plain, other) = (words(plain), words(other));
    plain.intersection(&other).count() as f64 / plain.len().max(1) as f64
}

/// Sentences that were said before in this text.
fn repeated(text: &str) -> usize {
    let sentences = text.split(['.', '!', '?', '\n', ':']);
    let sentences = sentences.map(|sentence| sentence.trim().to_lowercase());
    let mut said = HashSet::new();
    let counts = |sentence: &String| sentence.chars().count() >= SENTENCE;
    sentences
        .filter(counts)
        .filter(|s| !said.insert(s.clone()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_questions_of_both_sorts() {
        for suit in [true, false] {
            assert_eq!(questions(40, suit).len(), 40);
        }
    }

    #[test]
    fn texts_are_judged_by_words_and_sentences() {
        assert!(is_on("Get enough sleep", "Sleep for seven hours."));
        assert!(!is_on("Get enough sleep", "Drink water."));
        assert_eq!(repeated("Drink more water. No. Drink more water."), 1);
        assert_eq!(overlap("Drink water", "Water helps"), 0.5);
    }
}
