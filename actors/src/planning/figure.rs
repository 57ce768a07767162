//! Numbers of files and flags as they stand in an error: in one line, however large or small.

use std::fmt;

/// A number that is written with all its digits where they are few, else with an exponent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure(pub(crate) f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        match size == 0.0 || (1e-6..1e15).contains(&size) || !size.is_finite() {
            true => write!(f, "{}", self.0),
            false => write!(f, "{:e}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_takes_a_line_of_digits() {
        for (number, text) in [
            (0.0, "0"),
            (-2.0, "-2"),
            (0.25, "0.25"),
            (1e12, "1000000000000"),
            (1e300, "1e300"),
            (-1e300, "-1e300"),
            (2.5e-300, "2.5e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(Figure(number).to_string(), text);
        }
    }
}
