//! The facts of a plain and of an outlined answer; points that are missing or doubled.

use std::collections::HashSet;
use std::ops::AddAssign;

use jupiter::outline::Outline;
use jupiter_world::Check;

use super::answer::Answer;

/// What many pairs of answers to the same questions say, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Questions.
    pub questions: u32,
    /// Of them, those that were answered point by point.
    pub outlined: u32,
    /// Both answers were ended by the model.
    pub ended: u32,
    /// Facts due.
    pub due: u32,
    /// Facts in the plain answers.
    pub in_plain: u32,
    /// Facts in the outlined answers.
    pub in_outlined: u32,
    /// Facts in both.
    pub in_both: u32,
    /// Points of all outlines.
    pub points: u32,
    /// Points without a text.
    pub missing: u32,
    /// Points that are there twice, and sentences.
    pub doubled: u32,
}

impl Quality {
    /// Judges the two answers to a question.
    pub fn of(check: &Check, plain: &Answer, outlined: &Answer) -> Self {
        let mut quality = Self {
            questions: 1,
            outlined: u32::from(outlined.outline.is_some()),
            ended: u32::from(plain.ended && outlined.ended),
            ..facts(check, &plain.text, &outlined.text)
        };
        if let Some(outline) = &outlined.outline {
            let faults = Faults::of(outline, &outlined.text);
            quality.points = outline.points.len() as u32;
            quality.missing = faults.missing.len() as u32;
            quality.doubled = faults.doubled.len() as u32;
        }
        quality
    }

    /// Whether every fact of the plain answer is in the outlined one, every point once.
    pub fn is_perfect(&self) -> bool {
        self.in_both == self.in_plain && self.missing + self.doubled == 0
    }
}

impl AddAssign for Quality {
    fn add_assign(&mut self, other: Self) {
        self.questions += other.questions;
        self.outlined += other.outlined;
        self.ended += other.ended;
        self.due += other.due;
        self.in_plain += other.in_plain;
        self.in_outlined += other.in_outlined;
        self.in_both += other.in_both;
        self.points += other.points;
        self.missing += other.missing;
        self.doubled += other.doubled;
    }
}

/// The facts of both texts.
fn facts(check: &Check, plain: &str, outlined: &str) -> Quality {
    // One at a time, so that it is known which of them both say.
    let each = match check {
        Check::Facts { keys } => keys
            .iter()
            .map(|key| Check::Facts {
                keys: vec![key.clone()],
            })
            .collect(),
        other => vec![other.clone()],
    };
    let mut quality = Quality::default();
    for check in &each {
        let (plain, outlined) = (check.score(plain), check.score(outlined));
        quality.due += plain.due;
        quality.in_plain += plain.found;
        quality.in_outlined += outlined.found;
        quality.in_both += plain.found.min(outlined.found);
    }
    quality
}

/// What is wrong with the points of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Titles of points that have no text.
    pub missing: Vec<String>,
    /// Lines of points that the outline does not have at their place, and sentences or titles that
    /// are said again.
    pub doubled: Vec<String>,
}

impl Faults {
    /// Compares a text of numbered points with its outline.
    pub fn of(outline: &Outline, text: &str) -> Self {
        let mut faults = Self::default();
        let mut said: HashSet<String> = outline.points.iter().map(|p| plain(&p.title)).collect();
        let mut lines = text.lines().peekable();
        for (i, point) in outline.points.iter().enumerate() {
            let opening = format!("{}. {}", i + 1, point.title);
            let own = lines.next_if(|line| line.starts_with(&opening));
            let mut body = own.map_or("", |line| &line[opening.len()..]).to_owned();
            // Lines of its own, up to the next point.
            let next = format!("{}. ", i + 2);
            while let Some(more) = lines.next_if(|line| own.is_some() && !line.starts_with(&next)) {
                body.push('\n');
                body.push_str(more);
            }
            if plain(&body).is_empty() {
                faults.missing.push(point.title.clone());
            }
            for sentence in sentences(&body) {
                if !said.insert(plain(sentence)) {
                    faults.doubled.push(sentence.to_owned());
                }
            }
        }
        faults.doubled.extend(lines.map(str::to_owned));
        faults
    }
}

/// The sentences of a text, none of them empty.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| matches!(c, '\n' | '!' | '?');
    let parts = text.split(ends).flat_map(|line| line.split(". "));
    parts.filter(|sentence| !plain(sentence).is_empty())
}

/// The words alone: without case and signs.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use jupiter::outline::Point;

    use super::*;

    fn outline() -> Outline {
        let points = ["Park the robot", "Open the door", "Pull the plug"];
        Outline {
            points: points
                .map(|title| Point {
                    title: title.into(),
                })
                .into(),
        }
    }

    fn faults(text: &str) -> (usize, usize) {
        let faults = Faults::of(&outline(), text);
        (faults.missing.len(), faults.doubled.len())
    }

    #[test]
    fn every_point_is_there_once() {
        let good = "1. Park the robot: On flat ground, e.g. here. Wait.\n2. Open the door: Swing \
                    it.\n- With care.\n3. Pull the plug: Never pull on the cable.";
        assert_eq!(faults(good), (0, 0));
        let bare = good.replace(": Never pull on the cable.", ".");
        assert_eq!(faults(&bare), (1, 0));
        let left_out = good.replace("2. Open the door: Swing it.\n", "");
        assert_eq!(
            Faults::of(&outline(), &left_out).missing,
            ["Open the door", "Pull the plug"]
        );
        assert_eq!(faults(""), (3, 0));
    }

    #[test]
    fn nothing_is_said_twice() {
        let text = |third: &str| {
            format!(
                "1. Park the robot: Here.\n2. Open the door: Swing it.\n3. Pull the plug: {third}"
            )
        };
        assert_eq!(faults(&text("Pull it.")), (0, 0));
        assert_eq!(faults(&text("Pull it. swing it!")), (0, 1));
        assert_eq!(faults(&text("Pull the plug. Pull it.")), (0, 1));
        assert_eq!(
            faults(&text("Pull it.\n4. Go: Go on.\n5. Stop: Stop it.")),
            (0, 2)
        );
    }

    #[test]
    fn facts_are_counted_where_both_say_them() {
        let keys = ["flat ground", "square key", "power plug"];
        let check = Check::Facts {
            keys: keys.map(Into::into).into(),
        };
        let counted = facts(&check, "flat ground, square key", "square key\npower plug");
        let expected = Quality {
            due: 3,
            in_plain: 2,
            in_outlined: 2,
            in_both: 1,
            ..Quality::default()
        };
        assert_eq!(counted, expected);
        assert!(!counted.is_perfect());
        let same = Check::Text {
            text: "Yes.".into(),
        };
        assert!(facts(&same, "Yes.", "Yes.").is_perfect());
    }
}
