//! What was measured, as tables in Markdown.

use std::fmt::Write;

use super::quality::Quality;
use super::speed::{Measured, Pair, Spread};
use crate::evaluation::table::{Figure, Limit, percent};

/// Facts of the plain answers that the outlined ones have to cover, in percent.
const FACTS_PERCENT: f64 = 97.0;

/// A line of the table of times: its name, its unit, and the value of a pair if it has one.
type Line = (&'static str, &'static str, fn(&Pair) -> Option<f64>);

const LINES: [Line; 12] = [
    ("plain: first word", "ms", |p| Some(p.plain.first_word_ms)),
    ("plain: last word", "ms", |p| Some(p.plain.last_word_ms)),
    ("plain: last word, at equal length", "ms", |p| {
        Some(p.plain_at_equal_length_ms())
    }),
    ("plain: each token", "ms", |p| Some(p.plain.per_token_ms())),
    ("plain: tokens of the text", "", |p| Some(p.plain.n_tokens)),
    ("outlined: the outline is there", "ms", |p| {
        p.outlined.outline_ms
    }),
    ("outlined: first word of the text in order", "ms", |p| {
        Some(p.outlined.first_word_ms)
    }),
    ("outlined: last word", "ms", |p| {
        Some(p.outlined.last_word_ms)
    }),
    ("outlined: tokens of the text", "", |p| {
        Some(p.outlined.n_tokens)
    }),
    ("**faster, at equal length**", "times", |p| Some(p.ratio())),
    ("faster, without regard to length", "times", |p| {
        Some(p.ratio_as_it_is())
    }),
    ("first word, plain over outlined", "times", |p| {
        Some(p.plain.first_word_ms / p.outlined.first_word_ms)
    }),
];

/// The times: median (lower to upper quartile) over the questions.
pub fn times(no_guesses: &Measured, guesses: &Measured) -> String {
    let mut text = String::from(
        "| median (quartiles) over the questions     | unit  | without guesses           | guesses as by default     |\n\
         |-------------------------------------------|-------|--------------------------:|--------------------------:|\n",
    );
    for (name, unit, value) in LINES {
        let cell = |measured: &Measured| {
            let Spread { low, median, high } = Spread::of(measured.pairs.iter().filter_map(value));
            format!("{median:.2} ({low:.2} to {high:.2})")
        };
        let (first, second) = (cell(no_guesses), cell(guesses));
        // A String takes everything.
        let _ = writeln!(
            text,
            "| {name:<41} | {unit:<5} | {first:>25} | {second:>25} |"
        );
    }
    text
}

/// The figures of quality.
pub fn figures(quality: &Quality) -> [Figure; 5] {
    let figure = |name, value, limit| Figure { name, value, limit };
    let same = percent(quality.in_both, quality.in_plain);
    [
        figure(
            "facts of the plain answers in the outlined ones",
            same,
            Limit::AtLeast(FACTS_PERCENT),
        ),
        figure(
            "facts due, in the plain answers",
            percent(quality.in_plain, quality.due),
            Limit::None,
        ),
        figure(
            "facts due, in the outlined answers",
            percent(quality.in_outlined, quality.due),
            Limit::None,
        ),
        figure(
            "points missing (number)",
            f64::from(quality.missing),
            Limit::AtMost(0.0),
        ),
        figure(
            "points or sentences doubled (number)",
            f64::from(quality.doubled),
            Limit::AtMost(0.0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::speed::Timing;
    use super::*;

    #[test]
    fn a_lost_fact_or_a_faulty_point_is_a_miss() {
        let good = Quality {
            in_plain: 100,
            in_both: 97,
            in_outlined: 99,
            due: 100,
            ..Quality::default()
        };
        let holds = |quality| figures(&quality).iter().all(Figure::holds);
        assert!(holds(good));
        assert!(!holds(Quality {
            in_both: 96,
            ..good
        }));
        assert!(!holds(Quality { missing: 1, ..good }));
        assert!(!holds(Quality { doubled: 1, ..good }));
    }

    #[test]
    fn lines_are_as_long_as_the_head() {
        let timing = Timing {
            first_word_ms: 123.0,
            outline_ms: Some(234.0),
            last_word_ms: 345.0,
            n_tokens: 100.0,
        };
        let measured = Measured {
            pairs: vec![Pair {
                plain: timing,
                outlined: timing,
            }],
            quality: Quality::default(),
        };
        let table = times(&measured, &measured);
        assert!(table.contains("123.00 (123.00 to 123.00)"), "{table}");
        assert!(table.contains("1.00 (1.00 to 1.00)"), "{table}");
        assert_eq!(table.lines().count(), LINES.len() + 2);
        let width = table.find('\n');
        let lines = table.lines().map(|line| Some(line.len()));
        assert!(lines.into_iter().all(|len| len == width), "{table}");
    }
}
