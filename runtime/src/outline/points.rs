//! An outline: the titles of the points of an answer, clean and each different from the others.

use serde::{Deserialize, Serialize};

/// Fewer points than this bring no speed that is worth a second prompt (Skeleton-of-Thought).
pub const MIN_POINTS: usize = 3;
/// Default for the most points: the papers ask for 3 to 10.
pub const DEFAULT_MAX_POINTS: usize = 10;

/// The points of an answer, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// What the answer consists of.
    pub points: Vec<Point>,
}

/// One point of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// A few words on one line, without number, markup and punctuation; never empty.
    pub title: String,
}

/// How many points make an outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlineLimits {
    /// With fewer points the answer is written plainly.
    pub min_points: usize,
    /// Further points are left out.
    pub max_points: usize,
}

impl Default for OutlineLimits {
    fn default() -> Self {
        Self {
            min_points: MIN_POINTS,
            max_points: DEFAULT_MAX_POINTS,
        }
    }
}

impl Outline {
    /// The outline in its plain form, one `1. Title` a line, without a line break at the end.
    pub fn render(&self) -> String {
        let lines = self.points.iter().enumerate();
        let lines: Vec<String> = lines
            .map(|(i, point)| format!("{}. {}", i + 1, point.title))
            .collect();
        lines.join("\n")
    }
}

/// What makes two titles the same: the words without case, punctuation and articles.
pub(crate) fn title_key(title: &str) -> String {
    const ARTICLES: [&str; 18] = [
        "a", "an", "the", "der", "die", "das", "den", "ein", "eine", "le", "la", "les", "un",
        "une", "el", "los", "las", "il",
    ];
    let lower = title.to_lowercase();
    let words = || {
        let words = lower.split(|c: char| !c.is_alphanumeric());
        words.filter(|word| !word.is_empty())
    };
    let meaning: Vec<&str> = words().filter(|word| !ARTICLES.contains(word)).collect();
    if meaning.is_empty() {
        words().collect::<Vec<_>>().join(" ")
    } else {
        meaning.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_the_same_without_case_punctuation_and_articles() {
        assert_eq!(title_key("Open the  Case!"), title_key("open case"));
        assert_eq!(title_key("The The"), "the the");
        assert_ne!(title_key("Step one"), title_key("Step two"));
    }
}
