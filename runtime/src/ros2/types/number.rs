//! Grammars (GBNF) of the numbers between two others, so that a model can write no other one.
//!
//! A decimal is a whole number of its last place: what is between -0.3 and 0.3 with six decimals is
//! between -300,000 and 300,000 millionths.

/// Decimals of a number that a model may write, and digits in front of them.
const N_DECIMALS: u32 = 6;
const N_DIGITS: u32 = 10;

/// How far from a whole number of millionths a limit may be because it is written in binary.
const ROUNDING: f64 = 1e-4;

/// Decimals from `min` to `max`; nothing where there is none.
pub(super) fn decimal(min: f64, max: f64) -> Option<String> {
    between(N_DIGITS, N_DECIMALS, min, max)
}

/// Whole numbers of so many digits at most from `min` to `max`; nothing where there is none.
pub(super) fn whole(is_signed: bool, n_digits: u32, min: f64, max: f64) -> Option<String> {
    let min = if is_signed { min } else { min.max(0.0) };
    between(n_digits, 0, min, max)
}

fn between(n_digits: u32, n_decimals: u32, min: f64, max: f64) -> Option<String> {
    let unit = 10_i128.pow(n_decimals);
    let largest = 10_i128.pow(n_digits + n_decimals) - 1;
    let places = |value: f64, round: fn(f64) -> f64| {
        let value = value * unit as f64;
        let near = value.round();
        let is_near = (value - near).abs() < ROUNDING;
        // What is beyond the largest is as good as the largest.
        let places = if is_near { near } else { round(value) } as i128;
        places.clamp(-largest - 1, largest + 1)
    };
    let min = places(min, f64::ceil).max(-largest);
    let max = places(max, f64::floor).min(largest);
    if min > max {
        return None;
    }
    let mut ways = Vec::new();
    if min < 0 {
        let way = positive((-max).max(1), -min, n_decimals);
        ways.push(format!(r#""-" {way}"#));
    }
    if max >= 0 {
        ways.push(positive(min.max(0), max, n_decimals));
    }
    Some(one_of(ways))
}

/// Numbers from `min` to `max` places, neither of them negative.
fn positive(min: i128, max: i128, n_decimals: u32) -> String {
    let unit = 10_i128.pow(n_decimals);
    let ((first, from), (last, to)) = ((min / unit, min % unit), (max / unit, max % unit));
    let with = |digits: String, from, to| {
        let decimals = decimals(from, to, n_decimals);
        format!("{digits}{decimals}")
    };
    if first == last {
        return with(format!("\"{first}\""), from, to);
    }
    let (mut ways, mut full) = (Vec::new(), (first, last));
    if from > 0 {
        ways.push(with(format!("\"{first}\""), from, unit - 1));
        full.0 += 1;
    }
    if to < unit - 1 {
        ways.push(with(format!("\"{last}\""), 0, to));
        full.1 -= 1;
    }
    if full.0 <= full.1 {
        ways.push(with(integers(full.0, full.1), 0, unit - 1));
    }
    one_of(ways)
}

/// Point and decimals from `from` to `to` places, of so many; zeros at the end may be left out.
fn decimals(from: i128, to: i128, n: u32) -> String {
    if n == 0 {
        return String::new();
    }
    let digits = digits(from, to, n, true);
    let mark = if from == 0 { "?" } else { "" };
    format!(r#" ("." {digits}){mark}"#)
}

/// Whole numbers without zeros in front.
fn integers(min: i128, max: i128) -> String {
    let mut ways = Vec::new();
    let (mut n, mut from) = (1, 0);
    while from <= max {
        let to = 10_i128.pow(n) - 1;
        if min <= to {
            ways.push(digits(min.max(from), max.min(to), n, false));
        }
        (n, from) = (n + 1, to + 1);
    }
    one_of(ways)
}

/// Texts of `n` digits that are numbers from `min` to `max`; where they `may_end` early, as decimals, the
/// digits that are left out are zeros.
fn digits(min: i128, max: i128, n: u32, may_end: bool) -> String {
    let unit = 10_i128.pow(n - 1);
    let rest = |from: i128, to: i128| {
        if n == 1 {
            return String::new();
        }
        let is_full = from == 0 && to == unit - 1;
        match (is_full, may_end) {
            (true, true) => format!(" [0-9]{{0,{}}}", n - 1),
            (true, false) => format!(" [0-9]{{{}}}", n - 1),
            (false, _) => {
                let mark = if may_end && from == 0 { "?" } else { "" };
                format!(" {}{mark}", digits(from, to, n - 1, may_end))
            }
        }
    };
    let (first, last) = (min / unit, max / unit);
    if first == last {
        return format!("(\"{first}\"{})", rest(min % unit, max % unit));
    }
    let (mut ways, mut full) = (Vec::new(), (first, last));
    if min % unit > 0 {
        ways.push(format!("\"{first}\"{}", rest(min % unit, unit - 1)));
        full.0 += 1;
    }
    if max % unit < unit - 1 {
        ways.push(format!("\"{last}\"{}", rest(0, max % unit)));
        full.1 -= 1;
    }
    if full.0 <= full.1 {
        ways.push(format!("[{}-{}]{}", full.0, full.1, rest(0, unit - 1)));
    }
    one_of(ways)
}

fn one_of(ways: Vec<String>) -> String {
    format!("({})", ways.join(" | "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Whether `text` is one that the expression means: sets of places where each part of it can end.
    fn matches(expression: &str, text: &str) -> bool {
        let expression: Vec<char> = expression.chars().collect();
        let mut reader = Matcher {
            expression: &expression,
            at: 0,
            text: text.as_bytes(),
        };
        let ends = reader.ways(&[0]);
        assert_eq!(reader.at, expression.len());
        ends.contains(&text.len())
    }

    struct Matcher<'a> {
        expression: &'a [char],
        at: usize,
        text: &'a [u8],
    }

    impl Matcher<'_> {
        fn peek(&self) -> char {
            self.expression.get(self.at).copied().unwrap_or(')')
        }

        /// What stands up to `end`, which is passed.
        fn until(&mut self, end: char) -> String {
            let from = self.at + 1;
            self.at = from;
            while self.peek() != end {
                self.at += 1;
            }
            self.at += 1;
            self.expression[from..self.at - 1].iter().collect()
        }

        fn ways(&mut self, starts: &[usize]) -> Vec<usize> {
            let mut ends = Vec::new();
            loop {
                let mut here = starts.to_vec();
                while !matches!(self.peek(), ')' | '|') {
                    match self.peek() {
                        ' ' => self.at += 1,
                        _ => here = self.item(&here),
                    }
                }
                ends.extend(here);
                match self.peek() {
                    '|' => self.at += 1,
                    _ => return ends,
                }
            }
        }

        fn item(&mut self, starts: &[usize]) -> Vec<usize> {
            let atom = self.at;
            let mut ends = self.atom(starts);
            let (min, max) = match self.peek() {
                '?' => {
                    self.at += 1;
                    (0, 1)
                }
                '{' => {
                    let said = self.until('}');
                    let (min, max) = said.split_once(',').unwrap_or((&said, &said));
                    (min.parse().unwrap(), max.parse().unwrap())
                }
                _ => return ends,
            };
            let behind = self.at;
            let mut all = if min == 0 {
                starts.to_vec()
            } else {
                Vec::new()
            };
            for n in 1..=max {
                if n >= min {
                    all.extend(&ends);
                }
                self.at = atom;
                ends = self.atom(&ends);
            }
            self.at = behind;
            all
        }

        fn atom(&mut self, starts: &[usize]) -> Vec<usize> {
            let text = self.text;
            match self.peek() {
                '"' => {
                    let said = self.until('"');
                    let said = said.as_bytes();
                    let fits = |&&at: &&usize| text[at..].starts_with(said);
                    starts
                        .iter()
                        .filter(fits)
                        .map(|at| at + said.len())
                        .collect()
                }
                '[' => {
                    let said = self.until(']');
                    let (from, to) = (said.as_bytes()[0], said.as_bytes()[2]);
                    let fits =
                        |&&at: &&usize| text.get(at).is_some_and(|c| (from..=to).contains(c));
                    starts.iter().filter(fits).map(|at| at + 1).collect()
                }
                _ => {
                    self.at += 1;
                    let ends = self.ways(starts);
                    self.at += 1;
                    ends
                }
            }
        }
    }

    proptest! {
        #[test]
        fn decimals_within_match_and_no_others(a in -3_000..3_000_i32, b in -3_000..3_000_i32, n in -4_000..4_000_i32, places in 0..4_u32) {
            let unit = f64::from(10_i32.pow(places));
            let (min, max) = (f64::from(a.min(b)) / unit, f64::from(a.max(b)) / unit);
            let (value, text) = (f64::from(n) / 1000.0, format!("{}", f64::from(n) / 1000.0));
            let expected = (min..=max).contains(&value);
            let grammar = decimal(min, max).unwrap();
            prop_assert_eq!(matches(&grammar, &text), expected, "{} {} {}: {}", min, max, text, grammar);
            let long = format!("{value:.6}");
            prop_assert_eq!(matches(&grammar, &long), expected && long != "-0.000000");
        }

        #[test]
        fn whole_numbers_within_match_and_no_others(a in -30_000..30_000_i32, b in -30_000..30_000_i32, n in -31_000..31_000_i32) {
            let (min, max) = (a.min(b), a.max(b));
            let grammar = whole(true, 9, f64::from(min) - 0.5, f64::from(max) + 0.5).unwrap();
            prop_assert_eq!(matches(&grammar, &n.to_string()), (min..=max).contains(&n), "{}", grammar);
        }
    }

    #[test]
    fn what_the_type_cannot_hold_is_left_out() {
        let byte = whole(false, 2, -5.0, 1e9).unwrap();
        let all = |text: &str| matches(&byte, text);
        assert!(all("0") && all("99") && !all("100") && !all("-1") && !all("07") && !all("1.0"));
        let float = decimal(-1e300, 1e300).unwrap();
        assert!(matches(&float, "9999999999.999999") && !matches(&float, "10000000000"));
        assert_eq!(whole(false, 2, -5.0, -1.0), None);
        assert_eq!(whole(true, 2, 0.2, 0.8), None);
        assert_eq!(decimal(1e-8, 2e-8), None);
        assert_eq!(decimal(1e12, 2e12), None);
        let zero = decimal(0.0, 0.0).unwrap();
        assert!(matches(&zero, "0") && matches(&zero, "0.00") && !matches(&zero, "-0"));
    }
}
