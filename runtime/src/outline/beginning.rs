//! What the beginning of a plain answer of the default model says of its length.
//!
//! The default model was never taught to judge whether a question suits an outline, nor to refuse
//! one: asked for the points of what it does not know, or of what it knows a single sentence about,
//! it makes some up. Its plain answers are right, and the long ones are known by their beginning.

/// What only its long answers begin with, in the words that it was trained with: steps, causes and
/// parts.
const LONG: [&str; 3] = ["follow these", "common causes", "main parts"];
/// The first word of an answer in steps; no short answer begins with it.
const STEPS: &str = "To ";

/// It speaks of itself: small talk, or what it does not know.
const ITSELF: [&str; 2] = ["I ", "Ask me"];

/// Whether the answer that begins so is a long one; none as long as that is open. An answer that
/// ends while it is open is short.
pub(crate) fn is_long(said: &str) -> Option<bool> {
    let said = said.trim_start();
    // Lists and commands have their form already.
    let has_form = said.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '{' | '-' | '*'));
    if has_form || ITSELF.iter().any(|words| said.starts_with(words)) {
        return Some(false);
    }
    if said.starts_with(STEPS) || LONG.iter().any(|words| said.contains(words)) {
        return Some(true);
    }
    let (_, more) = said.split_once(". ")?;
    (!more.is_empty()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_goes_on_is_long() {
        for (said, expected) in [
            ("", None),
            ("To", None),
            ("To ch", Some(true)),
            ("There are four common causes", Some(true)),
            ("There are three roles", None),
            ("The IMU has three main parts", Some(true)),
            ("A lidar is a sensor of 3.5 kilograms.", None),
            ("A lidar is a sensor. ", None),
            ("A lidar is a sensor. It", Some(true)),
            ("I", None),
            ("I only", Some(false)),
            ("IMU", None),
            ("Ask me about a part. You", Some(false)),
            ("1", Some(false)),
            ("{\"actions\"", Some(false)),
        ] {
            assert_eq!(is_long(said), expected, "{said}");
        }
    }
}
