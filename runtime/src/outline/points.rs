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
    /// A few words on one line, without number, markup or final punctuation; never empty.
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

    /// Whether `written` says just this, so that its tokens may stand for the outline. Otherwise
    /// the model's words count other points than ours, and only [`Outline::render`] may be quoted.
    pub fn is_written_as(&self, written: &str) -> bool {
        let mut lines = written.trim().lines().map(str::trim_end);
        let mut own = self.points.iter().enumerate();
        let equal = own.by_ref().all(|(i, point)| {
            let line = lines
                .next()
                .and_then(|line| line.strip_prefix(&format!("{}. ", i + 1)));
            line == Some(&point.title)
        });
        equal && lines.next().is_none()
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
    fn only_the_plain_form_stands_for_the_outline() {
        let points = ["Gather tools", "Open the case"].map(|title| Point {
            title: title.into(),
        });
        let outline = Outline {
            points: points.into(),
        };
        assert_eq!(outline.render(), "1. Gather tools\n2. Open the case");
        assert!(outline.is_written_as("1. Gather tools\n2. Open the case\n"));
        for other in [
            "Sure:\n1. Gather tools\n2. Open the case",
            "1. Gather tools",
            "1. Gather tools\n2. Open the case\n3. More",
            "1. Gather tools\n3. Open the case",
            "1. Gather tools.\n2. Open the case",
        ] {
            assert!(!outline.is_written_as(other), "{other}");
        }
    }

    #[test]
    fn titles_are_the_same_without_case_punctuation_and_articles() {
        assert_eq!(title_key("Open the  Case!"), title_key("open case"));
        assert_eq!(title_key("The The"), "the the");
        assert_ne!(title_key("Step one"), title_key("Step two"));
    }
}
