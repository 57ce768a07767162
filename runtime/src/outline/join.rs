//! One text in order from branches that are written side by side, each mended as it comes.
//!
//! The first branch that is not complete is shown as it grows; those behind it are kept until all
//! before them have ended. Whatever the order of the events, the text is the same.

use super::error::{OutlineError, Result};
use super::mend::{BranchEnd, Mender};
use super::points::{Outline, Point};

/// What happens to a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchEvent {
    /// It goes on.
    Text {
        /// Its place in the outline, from 0.
        branch: usize,
        /// The next piece of its text.
        text: String,
    },
    /// It is complete; nothing of it follows.
    End {
        /// Its place in the outline, from 0.
        branch: usize,
        /// Why.
        end: BranchEnd,
    },
}

/// What an event adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// To the text of its branch, mended.
    pub branch: String,
    /// To the answer, in order.
    pub answer: String,
    /// The text of this point has come to its end, and the model goes on with something else: the
    /// caller may end the branch, as nothing more of it is shown.
    pub is_over: bool,
}

/// Joins the branches of one outline.
#[derive(Clone, Debug, Default)]
pub struct Joiner {
    branches: Vec<Branch>,
    /// The branch that is shown as it grows.
    current: usize,
    /// What was shown of the first opening before.
    begun: String,
}

#[derive(Clone, Debug)]
struct Branch {
    title: String,
    mender: Mender,
    /// Mended text that waits for the branches before it.
    kept: String,
    /// Whether any of its text was put into the answer.
    begun: bool,
    ended: bool,
}

impl Joiner {
    /// Joins the points of this outline.
    pub fn new(outline: &Outline) -> Self {
        let mut joiner = Self::default();
        joiner.extend(&outline.points);
        joiner
    }

    /// The outline has these points by now, which those so far are the first of. The new ones know the
    /// titles of all of them.
    pub fn extend(&mut self, points: &[Point]) {
        let titles = || points.iter().map(|point| point.title.clone());
        let new = titles().skip(self.branches.len()).map(|title| Branch {
            title,
            mender: Mender::new(titles()),
            kept: String::new(),
            begun: false,
            ended: false,
        });
        self.branches.extend(new);
    }

    /// The same, where the answer was `begun` already: a beginning of its first point's opening.
    #[must_use]
    pub fn behind(self, begun: String) -> Self {
        Self { begun, ..self }
    }

    /// Takes the next event, as the model wrote it; gives what is to be shown now.
    ///
    /// # Errors
    /// A branch that is not there or has ended; the text is not changed by it.
    pub fn push(&mut self, event: &BranchEvent) -> Result<Joined> {
        let (BranchEvent::Text { branch, .. } | BranchEvent::End { branch, .. }) = event;
        let (branch, n_branches) = (*branch, self.branches.len());
        let Some(state) = self.branches.get_mut(branch) else {
            return Err(OutlineError::UnknownBranch { branch, n_branches });
        };
        if state.ended {
            return Err(OutlineError::BehindEnd { branch });
        }
        let mended = match event {
            BranchEvent::Text { text, .. } => state.mender.push(text),
            BranchEvent::End { end, .. } => {
                state.ended = true;
                state.mender.finish(*end)
            }
        };
        state.kept.push_str(&mended);
        let is_over = !state.ended && state.mender.is_over();
        Ok(Joined {
            branch: mended,
            is_over,
            answer: self.show(),
        })
    }

    /// A branch has used up most of its budget: it is over at the next end of a sentence.
    pub fn hurry(&mut self, branch: usize) {
        if let Some(state) = self.branches.get_mut(branch) {
            state.mender.hurry();
        }
    }

    /// Ends every branch that has not ended, as when the request was given up; the rest of the text.
    pub fn finish(&mut self) -> String {
        for state in self.branches.iter_mut().filter(|state| !state.ended) {
            state.kept.push_str(&state.mender.finish(BranchEnd::Cut));
            state.ended = true;
        }
        self.show()
    }

    fn show(&mut self) -> String {
        let mut out = String::new();
        while let Some(branch) = self.branches.get_mut(self.current) {
            let text = std::mem::take(&mut branch.kept);
            if !branch.begun && (!text.is_empty() || branch.ended) {
                branch.begun = true;
                let opening = opening(self.current, &branch.title, &text);
                let begun = std::mem::take(&mut self.begun);
                out.push_str(if self.current > 0 { "\n" } else { "" });
                out.push_str(opening.strip_prefix(&begun).unwrap_or(&opening));
            }
            out.push_str(&text);
            if !branch.ended {
                break;
            }
            self.current += 1;
        }
        out
    }
}

/// What stands before the text of a point, of which the first piece is enough; of an empty point it
/// is all there is. Text that begins on a line of its own, such as code, has no space before it.
pub(crate) fn opening(index: usize, title: &str, text: &str) -> String {
    let ends = title.ends_with(['?', '!', '.']);
    let sign = match (text.is_empty(), ends) {
        (_, true) => "",
        (true, false) => ".",
        (false, false) => ":",
    };
    let has_space = !text.is_empty() && !text.starts_with('\n');
    let space = if has_space { " " } else { "" };
    format!("{}. {title}{sign}{space}", index + 1)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::outline::Point;

    fn outline(n: usize) -> Outline {
        let titles = [
            "Lift the car",
            "Take off the wheel",
            "Why so?",
            "Mount the wheel",
            "Lower it",
            "Drive",
        ];
        Outline {
            points: titles[..n]
                .iter()
                .map(|title| Point {
                    title: (*title).into(),
                })
                .collect(),
        }
    }

    pub(crate) fn text(branch: usize, text: &str) -> BranchEvent {
        BranchEvent::Text {
            branch,
            text: text.into(),
        }
    }

    pub(crate) fn end(branch: usize) -> BranchEvent {
        BranchEvent::End {
            branch,
            end: BranchEnd::Stop,
        }
    }

    #[test]
    fn text_is_shown_as_soon_as_all_before_it_is_complete() {
        let mut joiner = Joiner::new(&outline(4));
        let mut push = |event| joiner.push(&event).unwrap().answer;
        assert_eq!(push(text(1, "Turn the nuts")), "");
        assert_eq!(push(text(0, "Use")), "1. Lift the car: Use");
        assert_eq!(push(text(0, " a jack")), " a jack");
        assert_eq!(push(end(2)), "");
        assert_eq!(push(end(0)), ".\n2. Take off the wheel: Turn the nuts");
        assert_eq!(push(end(1)), ".\n3. Why so?");
        assert_eq!(push(text(3, "Mount the wheel")), "", "its title only");
        assert_eq!(push(end(3)), "\n4. Mount the wheel.");
        assert_eq!(joiner.finish(), "");
    }

    #[test]
    fn a_branch_that_goes_on_with_the_next_point_is_over() {
        let mut joiner = Joiner::new(&outline(2));
        let mut push = |event| joiner.push(&event).unwrap();
        let cut = |branch| BranchEvent::End {
            branch,
            end: BranchEnd::Cut,
        };
        assert!(!push(text(0, "Use a jack\n")).is_over);
        assert!(push(text(0, "2. Take off")).is_over);
        let more = push(text(0, " the wheel"));
        assert!(more.is_over && more.branch.is_empty());
        let ended = push(cut(0));
        assert!(!ended.is_over, "nothing is left to end");
        assert_eq!(ended.answer, ".");
        push(text(1, "Turn the nuts"));
        assert_eq!(push(cut(1)).branch, "…");
    }

    #[test]
    fn what_was_begun_is_not_shown_again() {
        for begun in ["", "1. ", "1. Lift the car"] {
            let mut joiner = Joiner::new(&outline(2)).behind(begun.to_owned());
            let shown = joiner.push(&text(0, "Use it")).unwrap().answer;
            assert_eq!(format!("{begun}{shown}"), "1. Lift the car: Use it");
            joiner.push(&end(0)).unwrap();
            assert_eq!(joiner.finish(), "\n2. Take off the wheel.");
        }
    }

    #[test]
    fn points_may_be_known_later_than_others_begin() {
        let points = outline(3).points;
        let mut joiner = Joiner::default();
        joiner.extend(&points[..2]);
        let mut shown = joiner.push(&text(0, "Use it")).unwrap().answer;
        for branch in [0, 1] {
            shown += &joiner.push(&end(branch)).unwrap().answer;
        }
        assert_eq!(shown, "1. Lift the car: Use it.\n2. Take off the wheel.");
        joiner.extend(&points);
        let last = joiner.push(&text(2, "So")).unwrap().answer;
        assert_eq!(last, "\n3. Why so? So");
    }

    #[test]
    fn code_begins_on_a_line_of_its_own() {
        let mut joiner = Joiner::new(&outline(3));
        let mut push = |event| joiner.push(&event).unwrap().answer;
        let shown = push(text(0, "```\n1. lift()\n")) + &push(end(0));
        assert_eq!(shown, "1. Lift the car:\n```\n1. lift()\n```");
        push(end(1));
        assert_eq!(push(text(2, "\n- a")), "\n3. Why so?\n- a");
    }

    #[test]
    fn a_request_that_was_given_up_ends_all_branches() {
        let mut joiner = Joiner::new(&outline(3));
        joiner.push(&text(0, "Use it")).unwrap();
        joiner.push(&end(1)).unwrap();
        joiner.push(&text(2, "So")).unwrap();
        assert_eq!(joiner.finish(), "…\n2. Take off the wheel.\n3. Why so? So…");
    }

    #[test]
    fn events_that_cannot_be_are_refused() {
        let mut joiner = Joiner::new(&outline(3));
        assert_eq!(
            joiner.push(&end(3)),
            Err(OutlineError::UnknownBranch {
                branch: 3,
                n_branches: 3
            })
        );
        joiner.push(&end(1)).unwrap();
        assert_eq!(
            joiner.push(&text(1, "x")),
            Err(OutlineError::BehindEnd { branch: 1 })
        );
        assert_eq!(
            joiner.finish(),
            "1. Lift the car.\n2. Take off the wheel.\n3. Why so?"
        );
    }

    /// Texts of branches, as pieces.
    fn branches() -> impl Strategy<Value = Vec<Vec<String>>> {
        let piece = prop_oneof![
            "[a-z]{1,6}",
            Just(" ".to_owned()),
            Just("\n".to_owned()),
            Just("Lift the car".to_owned()),
            Just("1. ".to_owned()),
            Just("2".to_owned()),
            Just(". ".to_owned()),
            Just(":".to_owned()),
            Just("**".to_owned()),
            Just("\n3. x".to_owned()),
            Just("\n```\n".to_owned()),
            Just("- ".to_owned()),
            "\\PC{0,4}",
        ];
        prop::collection::vec(prop::collection::vec(piece, 0..8), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_interleaving_gives_the_same_text(
            branches in branches(),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 80),
        ) {
            let outline = outline(branches.len());
            // In order, each branch in one piece.
            let mut joiner = Joiner::new(&outline);
            let mut expected = String::new();
            for (branch, pieces) in branches.iter().enumerate() {
                expected += &joiner.push(&text(branch, &pieces.concat())).unwrap().answer;
                expected += &joiner.push(&end(branch)).unwrap().answer;
            }
            prop_assert_eq!(joiner.finish(), "");

            let mut joiner = Joiner::new(&outline);
            let mut shown = String::new();
            let mut left: Vec<(usize, usize)> =
                (0..branches.len()).map(|branch| (branch, 0)).collect();
            for choice in choices {
                if left.is_empty() {
                    break;
                }
                let at = choice.index(left.len());
                let (branch, piece) = left[at];
                match branches[branch].get(piece) {
                    Some(piece) => shown += &joiner.push(&text(branch, piece)).unwrap().answer,
                    None => shown += &joiner.push(&end(branch)).unwrap().answer,
                }
                if piece == branches[branch].len() {
                    left.remove(at);
                } else {
                    left[at].1 += 1;
                }
            }
            prop_assert!(left.is_empty());
            prop_assert_eq!(&shown, &expected);
            // No point lost or doubled: each opening stands at the begin of one line.
            for (i, point) in outline.points.iter().enumerate() {
                let opening = format!("{}. {}", i + 1, point.title);
                prop_assert!(shown.lines().any(|line| line.starts_with(&opening)), "{}", shown);
            }
        }
    }
}
