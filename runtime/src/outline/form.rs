//! Whether the points of an answer are whole: what trials of a model are judged by.

use std::collections::HashSet;

/// Fewest characters of a point that says something: a short sentence.
const MIN_CHARS: usize = 20;
/// Fewest characters of a sentence that no other point has by chance.
const MIN_SENTENCE_CHARS: usize = 12;

/// Share of the points that are whole: each says something, comes to its end, and says nothing that
/// one before it said. Of an answer without points it is 0.
pub(crate) fn whole_share(points: &[String]) -> f64 {
    let mut said = HashSet::new();
    let mut n_whole = 0;
    for text in points.iter().map(|text| text.trim()) {
        let sentences = text.split(['.', '!', '?', '\n', '。']);
        let sentences = sentences.map(|sentence| sentence.trim().to_lowercase());
        let counts = |sentence: &String| sentence.chars().count() >= MIN_SENTENCE_CHARS;
        let n_again = sentences
            .filter(counts)
            .filter(|s| !said.insert(s.clone()))
            .count();
        let is_whole = text.chars().count() >= MIN_CHARS && !text.ends_with('…');
        n_whole += usize::from(is_whole && n_again == 0);
    }
    n_whole as f64 / points.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_whole_that_end_and_say_something_new() {
        let share = |points: &[&str]| {
            let points: Vec<String> = points.iter().map(|&text| text.to_owned()).collect();
            whole_share(&points)
        };
        let good = "Drink a glass of water every hour.";
        assert_eq!(share(&[]), 0.0);
        assert_eq!(share(&[good, "Sleep for seven hours. It helps."]), 1.0);
        assert_eq!(
            share(&[good, "Yes. Drink a glass of water every hour."]),
            0.5
        );
        assert_eq!(
            share(&[good, "Sleep.", "", "Sleep for seven or eight ho…"]),
            0.25
        );
    }
}
