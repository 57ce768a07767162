//! What stages and links did when, measured or predicted, as a picture.
//!
//! ```text
//! steps of a Planner, real or simulated -- [from_trace] --> Timeline --> Page --> HTML, or JSON
//! ```
//!
//! A [`Page`] has sections, one a test; the timelines of a section lie one above the other on the
//! same scale. Pure functions: nobody is asked and nothing is written here.

mod chrome;
mod clocks;
mod html;
mod trace;

use serde::Serialize;

pub use trace::from_trace;

/// What a file of pictures shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Its heading.
    pub title: String,
    /// Its parts, in order.
    pub sections: Vec<Section>,
}

/// Timelines that are to be compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its heading: the test that they show.
    pub title: String,
    /// One above the other on the same scale: the measured one, the predicted one.
    pub timelines: Vec<Timeline>,
}

/// What every stage and link of a pipeline did. Its time begins at 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// What it is: `measured`, `predicted`.
    pub name: String,
    /// In the order in which a step passes them.
    pub lanes: Vec<Lane>,
    /// What a reader has to know beside it, a sentence each.
    pub notes: Vec<String>,
}

/// A stage or a link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// What it did, in any order. Only on links may two of them overlap.
    pub spans: Vec<Span>,
}

/// One step at one stage, or under way on one link.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// When it began, in microseconds since the beginning of the timeline.
    pub start_us: f64,
    /// When it ended.
    pub end_us: f64,
    /// Time that it had waited before it began, in microseconds.
    pub wait_us: f64,
    /// Written on its bar: the number of its step.
    pub label: String,
    /// Its colour.
    pub kind: SpanKind,
    /// Its rows.
    pub rows: StepRows,
}

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    /// A chunk of prompts is computed.
    Prompt,
    /// Rows of answers are computed.
    Decode,
    /// Both at once.
    Mixed,
    /// A step is under way between two stages, or between a stage and the head.
    Transfer,
}

/// The rows of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepRows {
    /// Of prompts.
    pub n_prompt: u32,
    /// Of answers.
    pub n_decode: u32,
}

impl StepRows {
    fn kind(self) -> SpanKind {
        match (self.n_prompt, self.n_decode) {
            (0, _) => SpanKind::Decode,
            (_, 0) => SpanKind::Prompt,
            _ => SpanKind::Mixed,
        }
    }
}

impl Page {
    /// The page as HTML that needs no other file and no network.
    pub fn html(&self) -> String {
        html::write(self)
    }

    /// The page in the trace event format that Perfetto and chrome://tracing open: a process a
    /// timeline, a thread a lane.
    pub fn json(&self) -> String {
        chrome::write(self)
    }
}

impl Timeline {
    /// When its last span ends, in microseconds.
    pub fn end_us(&self) -> f64 {
        let ends = self.lanes.iter().flat_map(|lane| &lane.spans);
        ends.map(|span| span.end_us).fold(0.0, f64::max)
    }
}

impl Lane {
    /// How long anything went on in it, in microseconds; what overlaps counts once.
    pub fn busy_us(&self) -> f64 {
        let mut until = f64::NEG_INFINITY;
        let mut busy = 0.0;
        for i in self.by_start() {
            let span = &self.spans[i];
            busy += (span.end_us - span.start_us.max(until)).max(0.0);
            until = until.max(span.end_us);
        }
        busy
    }

    /// For each span a row of its own among those that it overlaps, as few rows as that takes.
    fn rows(&self) -> Vec<usize> {
        let mut ends: Vec<f64> = Vec::new();
        let mut rows = vec![0; self.spans.len()];
        for i in self.by_start() {
            let span = &self.spans[i];
            let free = ends.iter().position(|end| *end <= span.start_us);
            rows[i] = free.unwrap_or(ends.len());
            if rows[i] == ends.len() {
                ends.push(span.end_us);
            }
            ends[rows[i]] = span.end_us;
        }
        rows
    }

    fn by_start(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.spans.len()).collect();
        order.sort_by(|&a, &b| self.spans[a].start_us.total_cmp(&self.spans[b].start_us));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn span(label: &str, start_us: f64, end_us: f64) -> Span {
        Span {
            start_us,
            end_us,
            wait_us: 0.0,
            label: label.to_owned(),
            kind: SpanKind::Prompt,
            rows: StepRows {
                n_prompt: 8,
                n_decode: 0,
            },
        }
    }

    #[test]
    fn what_overlaps_counts_once_and_lies_in_rows_of_its_own() {
        let lane = Lane {
            name: "link".into(),
            spans: vec![
                span("c", 20.0, 25.0),
                span("a", 0.0, 10.0),
                span("b", 5.0, 12.0),
                span("d", 10.0, 11.0),
            ],
        };
        assert_eq!(lane.busy_us(), 17.0);
        assert_eq!(lane.rows(), [0, 0, 1, 0]);
    }
}
