//! The figures beside what they must reach.

use std::fmt;

/// On which side of its limit a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// For information.
    None,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: &'static str,
    /// In percent, unless the name says otherwise.
    pub value: f64,
    /// What it must reach.
    pub limit: Limit,
}

impl Figure {
    /// Whether it is on the right side.
    pub fn holds(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.value >= limit,
            Limit::AtMost(limit) => self.value <= limit,
            Limit::None => true,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, verdict) = match self.limit {
            Limit::AtLeast(limit) => (format!(">= {limit}"), self.holds()),
            Limit::AtMost(limit) => (format!("<= {limit}"), self.holds()),
            Limit::None => {
                return write!(
                    f,
                    "| {:<52} | {:>8.2} |         |        |",
                    self.name, self.value
                );
            }
        };
        let verdict = if verdict { "yes" } else { "MISSED" };
        write!(
            f,
            "| {:<52} | {:>8.2} | {limit:>7} | {verdict:<6} |",
            self.name, self.value
        )
    }
}

/// `part` of `whole` in percent; nothing of nothing is 0.
pub fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole.max(1))
}

/// The head of a table in Markdown.
pub const HEAD: &str = "\
| figure (percent, unless it says otherwise)           | measured | asked   | holds  |
|------------------------------------------------------|---------:|--------:|--------|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_the_wrong_side_is_missed() {
        let figure = |value, limit| Figure {
            name: "x",
            value,
            limit,
        };
        assert!(figure(99.0, Limit::AtLeast(99.0)).holds());
        assert!(!figure(98.9, Limit::AtLeast(99.0)).holds());
        assert!(!figure(3.1, Limit::AtMost(3.0)).holds());
        assert!(figure(0.0, Limit::None).holds());
        let line = figure(98.9, Limit::AtLeast(99.0)).to_string();
        assert!(line.contains("MISSED"), "{line}");
        assert_eq!(line.len(), HEAD.lines().next().map_or(0, str::len));
    }
}
