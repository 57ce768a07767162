//! What holds for the default model alone, by what it was taught: the beginning of a plain answer says
//! how long it is, and an answer of points is remembered in one piece.
//!
//! The default model was never taught to judge whether a question suits an outline, nor to refuse
//! one: asked for the points of what it does not know, or of what it knows a single sentence about,
//! it makes some up. Its plain answers are right, and the long ones are known by their beginning.

use super::points::MIN_POINTS;

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

/// An answer of points without their numbers and titles, in one paragraph: the only form of earlier
/// answers that the default model knows. Behind a numbered list it takes a question for the wish to
/// have a point of it. None for other texts.
pub(crate) fn in_one_piece(answer: &str) -> Option<String> {
    let mut points: Vec<String> = Vec::new();
    for line in answer.lines() {
        let opening = format!("{}. ", points.len() + 1);
        match (line.strip_prefix(&opening), points.last_mut()) {
            (Some(point), _) => {
                let text = point.split_once(": ").map_or(point, |(_, text)| text);
                points.push(text.to_owned());
            }
            (None, Some(point)) => {
                point.push(' ');
                point.push_str(line.trim());
            }
            (None, None) => return None,
        }
    }
    (points.len() >= MIN_POINTS).then(|| points.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_are_remembered_in_one_piece() {
        let answer = "1. Lift the car: Use a jack.\n2. Take off the wheel: Turn the nuts.\nAll five.\n\
                      3. Why so?";
        let piece = in_one_piece(answer).unwrap();
        assert_eq!(piece, "Use a jack. Turn the nuts. All five. Why so?");
        for other in [
            "",
            "Use a jack.",
            "1. One.\n2. Two.",
            "1. A\n3. B\n4. C",
            "Well:\n1. A\n2. B\n3. C",
        ] {
            assert_eq!(in_one_piece(other), None, "{other}");
        }
    }

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
