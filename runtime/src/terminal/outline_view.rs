//! An answer as it grows on a terminal: the outline first, then its points fill in side by side.
//!
//! Pure: events go in, lines come out. Where a terminal is too small for all titles and a line of
//! text there are none: the text in order is shown instead.

use std::ops::Range;

use super::shown;
use crate::outline::{BranchEvent, Outline, OutlineError, Point, Result, opening};

/// Fewest columns for a live view: narrower, a text of two words a line is hard to follow.
const MIN_WIDTH: usize = 24;
/// Columns before the text of a point: below its title, behind sign and number.
const INDENT: usize = 5;

/// What a text ends with that does not break off.
const ENDS: [char; 9] = ['.', '!', '?', '…', ')', '"', '`', '。', '।'];

/// Columns and lines of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewSize {
    /// Columns.
    pub width: usize,
    /// Lines.
    pub height: usize,
}

/// What the view shows.
#[derive(Clone, Debug, Default)]
pub struct OutlineView {
    points: Vec<PointView>,
}

#[derive(Clone, Debug)]
struct PointView {
    title: String,
    text: String,
    state: PointState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PointState {
    Waiting,
    Writing,
    Done,
}

impl OutlineView {
    /// A view that shows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the points of an outline as far as they are known. Those that are shown already stay as they
    /// are.
    pub fn outline(&mut self, outline: &Outline) {
        let pairs = self.points.iter().zip(&outline.points);
        let n_known = pairs.take_while(|(a, b)| a.title == b.title).count();
        self.points.truncate(n_known);
        let new = outline.points[n_known..].iter();
        self.points.extend(new.map(PointView::new));
    }

    /// Takes the next event of a branch, its text mended.
    ///
    /// # Errors
    /// A branch that is not there or has ended; nothing is changed by it.
    pub fn apply(&mut self, event: &BranchEvent) -> Result<()> {
        let (BranchEvent::Text { branch, .. } | BranchEvent::End { branch, .. }) = event;
        let (branch, n_branches) = (*branch, self.points.len());
        let point = self
            .points
            .get_mut(branch)
            .ok_or(OutlineError::UnknownBranch { branch, n_branches })?;
        if point.state == PointState::Done {
            return Err(OutlineError::BehindEnd { branch });
        }
        match event {
            BranchEvent::Text { text, .. } => {
                point.text.push_str(text);
                point.state = PointState::Writing;
            }
            BranchEvent::End { .. } => point.state = PointState::Done,
        }
        Ok(())
    }

    /// Ends what has not ended, as when the request was given up. What breaks off in a sentence gets
    /// the sign of it; of points that have no text their titles are left.
    pub fn finish(&mut self) {
        for point in &mut self.points {
            if point.state == PointState::Writing && !point.text.ends_with(ENDS) {
                point.text.push('…');
            }
            point.state = PointState::Done;
        }
    }

    /// Whether the terminal has room for all titles and a line of text.
    pub fn is_live(&self, size: ViewSize) -> bool {
        size.width >= MIN_WIDTH && size.height > self.points.len()
    }

    /// The title of the first point.
    pub(super) fn first_title(&self) -> Option<&str> {
        self.points.first().map(|point| point.title.as_str())
    }

    /// The whole text in order: what [`Joiner`](crate::outline::Joiner) gives of the same events. Up
    /// to the first point that is not complete.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (i, point) in self.points.iter().enumerate() {
            let is_done = point.state == PointState::Done;
            if is_done || !point.text.is_empty() {
                text.push_str(if i > 0 { "\n" } else { "" });
                text.push_str(&opening(i, &point.title, &point.text));
                text.push_str(&point.text);
            }
            if !is_done {
                break;
            }
        }
        text
    }

    /// At most `size.height` lines of at most `size.width` columns, without control characters;
    /// none where the view [is not live](Self::is_live).
    pub fn lines(&self, size: ViewSize) -> Vec<String> {
        if !self.is_live(size) {
            return Vec::new();
        }
        let texts: Vec<Vec<String>> = self
            .points
            .iter()
            .map(|point| point.lines(size.width))
            .collect();
        let shown = self.share(&texts, size.height - self.points.len());
        let mut lines = Vec::new();
        for (i, (point, text)) in self.points.iter().zip(&texts).enumerate() {
            let sign = match point.state {
                PointState::Waiting => '·',
                PointState::Writing => '▸',
                PointState::Done => '✓',
            };
            lines.push(fit(
                &format!("{sign} {}. {}", i + 1, point.title),
                size.width,
            ));
            lines.extend(
                text[shown[i].clone()]
                    .iter()
                    .map(|line| format!("{:INDENT$}{line}", "")),
            );
        }
        lines
    }

    /// Which lines of each text are shown when all together may have `room`: of those that are
    /// being written the last ones, of complete ones what room is left for their first ones.
    fn share(&self, texts: &[Vec<String>], mut room: usize) -> Vec<Range<usize>> {
        let mut shown: Vec<usize> = vec![0; texts.len()];
        for state in [PointState::Writing, PointState::Done] {
            let mut grown = true;
            while room > 0 && grown {
                grown = false;
                for (i, text) in texts.iter().enumerate() {
                    if self.points[i].state == state && shown[i] < text.len() && room > 0 {
                        shown[i] += 1;
                        room -= 1;
                        grown = true;
                    }
                }
            }
        }
        let range = |(i, text): (usize, &Vec<String>)| match self.points[i].state {
            PointState::Writing => text.len() - shown[i]..text.len(),
            _ => 0..shown[i],
        };
        texts.iter().enumerate().map(range).collect()
    }
}

impl PointView {
    fn new(point: &Point) -> Self {
        Self {
            title: point.title.clone(),
            text: String::new(),
            state: PointState::Waiting,
        }
    }

    fn lines(&self, width: usize) -> Vec<String> {
        // Code begins on a line of its own, and here it does so anyway.
        let text = self.text.trim_start_matches('\n');
        text.lines()
            .flat_map(|line| wrap(line, width - INDENT))
            .collect()
    }
}

/// The text on lines of at most `width` columns, broken between words where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    // What is left of control characters has no place in the middle of a line.
    let text = shown(text).replace(char::is_control, " ");
    let lines = textwrap::wrap(&text, width).into_iter();
    lines.map(|line| line.into_owned()).collect()
}

/// The text cut to one line.
fn fit(text: &str, width: usize) -> String {
    let mut lines = wrap(text, width);
    if lines.len() > 1 {
        lines = wrap(text, width.saturating_sub(1));
        lines.truncate(1);
        lines.push("…".to_owned());
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use textwrap::core::display_width;

    use super::*;
    use crate::outline::Joiner;
    use crate::outline::join_tests::{end, text};

    fn outline() -> Outline {
        let titles = ["Lift the car", "Take off the wheel", "Mount the spare"];
        Outline {
            points: titles
                .map(|title| Point {
                    title: title.into(),
                })
                .into(),
        }
    }

    fn shot(view: &OutlineView, width: usize, height: usize) -> String {
        view.lines(ViewSize { width, height }).join("\n")
    }

    #[test]
    fn the_outline_comes_first_and_fills_in_side_by_side() {
        let mut view = OutlineView::new();
        assert_eq!(shot(&view, 30, 12), "");
        let mut begun = outline();
        begun.points.truncate(2);
        view.outline(&begun);
        assert_eq!(
            shot(&view, 30, 12),
            "· 1. Lift the car\n· 2. Take off the wheel"
        );
        view.apply(&text(1, "Turn the nuts, one after")).unwrap();
        view.outline(&outline());
        view.apply(&text(0, "Use a jack on flat ground, and keep"))
            .unwrap();
        let expected = "\
▸ 1. Lift the car
     Use a jack on flat
     ground, and keep
▸ 2. Take off the wheel
     Turn the nuts, one after
· 3. Mount the spare";
        assert_eq!(shot(&view, 30, 12), expected);
        view.apply(&end(1)).unwrap();
        view.apply(&end(2)).unwrap();
        let expected = "\
▸ 1. Lift the car
     Use a jack on flat
     ground, and keep
✓ 2. Take off the wheel
     Turn the nuts, one after
✓ 3. Mount the spare";
        assert_eq!(shot(&view, 30, 12), expected);
    }

    #[test]
    fn a_low_terminal_shows_the_end_of_what_is_being_written() {
        let mut view = OutlineView::new();
        view.outline(&outline());
        view.apply(&text(0, "one two three four five six seven eight nine ten"))
            .unwrap();
        view.apply(&text(1, "alpha beta gamma delta epsilon zeta eta theta"))
            .unwrap();
        view.apply(&text(2, "short")).unwrap();
        view.apply(&end(2)).unwrap();
        let expected = "\
▸ 1. Lift the car
     eight nine ten
▸ 2. Take off the wheel
     eta theta
✓ 3. Mount the spare";
        assert_eq!(shot(&view, 24, 5), expected);
    }

    #[test]
    fn a_tiny_terminal_has_no_view() {
        let mut view = OutlineView::new();
        view.outline(&outline());
        view.apply(&text(1, "Turn the nuts")).unwrap();
        for (width, height) in [(30, 3), (23, 9), (0, 0)] {
            let size = ViewSize { width, height };
            assert!(!view.is_live(size));
            assert_eq!(view.lines(size), Vec::<String>::new());
        }
        assert_eq!(view.text(), "");
    }

    #[test]
    fn a_text_that_breaks_off_is_marked() {
        let mut view = OutlineView::new();
        view.outline(&outline());
        view.apply(&text(0, "Use a jack")).unwrap();
        view.apply(&text(1, "Turn the nuts.")).unwrap();
        view.finish();
        let expected = "\
1. Lift the car: Use a jack…
2. Take off the wheel: Turn the nuts.
3. Mount the spare.";
        assert_eq!(view.text(), expected);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut view = OutlineView::new();
        view.outline(&outline());
        view.apply(&text(0, "a\tb\x1b[2Jc\r")).unwrap();
        let shot = shot(&view, 40, 9);
        assert!(!shot.replace('\n', "").contains(char::is_control));
        assert!(shot.contains(r"a b\u{1b}[2Jc\u{d}"), "{shot:?}");
    }

    #[test]
    fn events_that_cannot_be_are_refused() {
        let mut view = OutlineView::new();
        assert!(view.apply(&end(0)).is_err());
        view.outline(&outline());
        view.apply(&end(0)).unwrap();
        assert!(view.apply(&end(0)).is_err());
        view.finish();
        assert_eq!(
            shot(&view, 30, 9),
            "✓ 1. Lift the car\n✓ 2. Take off the wheel\n✓ 3. Mount the spare"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 500,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn lines_fit_and_the_text_is_the_joined_one(
            events in prop::collection::vec(
                (0..4usize, "\\PC{0,30}|[a-z 字👉]{0,60}|\n", prop::bool::weighted(0.1)),
                0..40,
            ),
            width in 0..70usize,
            height in 0..20usize,
        ) {
            let mut view = OutlineView::new();
            let mut joiner = Joiner::new(&outline());
            view.outline(&outline());
            let mut joined = String::new();
            for (branch, piece, is_end) in events {
                let event = if is_end { end(branch) } else { text(branch, &piece) };
                let shown = joiner.push(&event);
                let text = shown.as_ref().map_or("", |shown| shown.branch.as_str());
                let mended = BranchEvent::Text { branch, text: text.to_owned() };
                prop_assert_eq!(view.apply(&mended).is_ok(), shown.is_ok());
                if is_end && shown.is_ok() {
                    view.apply(&event).unwrap();
                }
                joined += &shown.unwrap_or_default().answer;
                prop_assert_eq!(view.text(), joined.as_str());
                let lines = view.lines(ViewSize { width, height });
                prop_assert!(lines.len() <= height);
                for line in lines {
                    prop_assert!(display_width(&line) <= width, "{:?}", line);
                }
            }
        }
    }
}
