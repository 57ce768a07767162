//! One picture of a cluster, drawn or as text.

use std::convert::Infallible;

use jupiter::DeadlineKind;
use jupiter::status::{RequestReport, RequestState, StageReport, StatusReport};
use jupiter::terminal::shown;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Row, Table};
use ratatui::{Frame, Terminal};

use crate::cli::table::bytes;

/// What is shown.
pub(super) struct View {
    report: StatusReport,
    /// What happened since the report before it.
    rates: Option<Rates>,
    /// Why there is no newer report.
    pub(super) trouble: Option<String>,
}

/// For each second between two reports.
#[derive(Clone, Debug, PartialEq)]
struct Rates {
    prompt_rows: f64,
    answer_tokens: f64,
    steps: f64,
    /// Share of the time that the engine of each stage worked, 0 to 1.
    busy: Vec<f64>,
}

impl View {
    pub(super) fn new(report: StatusReport, before: Option<&StatusReport>) -> Self {
        let rates = before.and_then(|before| Rates::between(before, &report));
        Self {
            report,
            rates,
            trouble: None,
        }
    }
}

impl Rates {
    /// None of two heads: the later one has counted from its own beginning.
    fn between(before: &StatusReport, after: &StatusReport) -> Option<Self> {
        let ms = after.at_ms.checked_sub(before.at_ms).filter(|&ms| ms > 0)?;
        let a_second =
            |before: u64, after: u64| after.saturating_sub(before) as f64 * 1e3 / ms as f64;
        let stages = before.stages.iter().zip(&after.stages);
        Some(Self {
            prompt_rows: a_second(before.n_prompt_rows, after.n_prompt_rows),
            answer_tokens: a_second(before.n_answer_tokens, after.n_answer_tokens),
            steps: a_second(before.n_steps, after.n_steps),
            busy: stages
                .map(|(before, after)| (a_second(before.busy_us, after.busy_us) / 1e6).min(1.0))
                .collect(),
        })
    }
}

/// Draws it over the whole terminal.
pub(super) fn draw(view: &View, frame: &mut Frame<'_>) {
    let n_stages = view.report.stages.len() as u16;
    let [head, cells, stages, requests] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(2),
        Constraint::Length(n_stages + 2),
        Constraint::Min(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(summary(view)), head);
    draw_cells(&view.report, frame, cells);
    draw_stages(view, frame, stages);
    draw_requests(&view.report, frame, requests);
}

/// The same as plain text.
pub(super) fn to_text(view: &View, size: (u16, u16)) -> Result<String, Infallible> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1))?;
    terminal.draw(|frame| draw(view, frame))?;
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(size.0));
    let lines = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    let text: String = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    Ok(format!("{}\n", text.trim_end()))
}

fn summary(view: &View) -> Vec<Line<'_>> {
    let report = &view.report;
    let why = report.why.as_deref().map(|why| format!(": {why}"));
    let state = format!(
        "{}{}, epoch {}; nodes: {}; requests: {} running, {} waiting",
        report.phase,
        why.unwrap_or_default(),
        report.epoch,
        report.nodes.len(),
        report.n_live,
        report.n_waiting,
    );
    let speed = view.rates.as_ref().map_or_else(
        || "measuring".to_owned(),
        |rates| {
            format!(
                "{:.1} tokens/s of answers, {:.1} rows/s of prompts, {:.1} steps/s",
                rates.answer_tokens, rates.prompt_rows, rates.steps
            )
        },
    );
    let trouble = view.trouble.as_deref().unwrap_or_default();
    vec![
        Line::styled(shown(&state).into_owned(), Modifier::BOLD),
        Line::from(speed),
        Line::styled(shown(trouble).into_owned(), Style::new().fg(Color::Red)),
    ]
}

fn draw_cells(report: &StatusReport, frame: &mut Frame<'_>, area: Rect) {
    let widths = [
        Constraint::Length(10),
        Constraint::Max(30),
        Constraint::Min(0),
    ];
    let [label, gauge, note] = Layout::horizontal(widths).areas(Rect {
        height: area.height.min(1),
        ..area
    });
    let ratio = report.n_cells as f64 / f64::from(report.n_ctx.max(1));
    let of = format!("{} of {}", report.n_cells, report.n_ctx);
    let preempted = match report.n_preempted {
        0 => String::new(),
        n => format!("  given up {n} times for others"),
    };
    let bar = Gauge::default().ratio(ratio.min(1.0)).label(of);
    frame.render_widget(Paragraph::new("KV cells"), label);
    frame.render_widget(bar.gauge_style(Style::new().fg(Color::Blue)), gauge);
    frame.render_widget(Paragraph::new(preempted), note);
}

fn draw_stages(view: &View, frame: &mut Frame<'_>, area: Rect) {
    let busy = view.rates.as_ref().map(|rates| &rates.busy);
    let row = |(at, stage): (usize, &StageReport)| {
        let busy = busy.and_then(|busy| busy.get(at));
        let part = |part: usize| {
            stage
                .memory_bytes
                .map_or("-".to_owned(), |all| bytes(all[part]))
        };
        Row::new([
            at.to_string(),
            shown(&stage.node).into_owned(),
            format!("{}..{}", stage.layers[0], stage.layers[1]),
            busy.map_or("-".to_owned(), |busy| format!("{:3.0} %", 100.0 * busy)),
            part(0),
            part(1),
            part(2),
        ])
    };
    let rows = view.report.stages.iter().enumerate().map(row);
    let widths = [5, 20, 8, 6, 11, 11, 11].map(Constraint::Length);
    let titles = [
        "stage", "node", "layers", "busy", "weights", "KV", "compute",
    ];
    frame.render_widget(table(rows.collect(), titles, widths), area);
}

fn draw_requests(report: &StatusReport, frame: &mut Frame<'_>, area: Rect) {
    let rows = report.requests.iter().map(request_row).collect();
    let widths = [8, 8, 4, 8, 12, 7, 8, 20].map(Constraint::Length);
    let titles = [
        "request", "client", "prio", "state", "prompt", "answer", "age", "deadline",
    ];
    frame.render_widget(table(rows, titles, widths), area);
}

fn table<'a, const N: usize>(
    rows: Vec<Row<'a>>,
    titles: [&'a str; N],
    widths: [Constraint; N],
) -> Table<'a> {
    let header = Row::new(titles).style(Modifier::UNDERLINED);
    Table::new(rows, widths).header(header)
}

fn request_row(request: &RequestReport) -> Row<'_> {
    let state = match request.state {
        RequestState::Waiting => "waiting",
        RequestState::Prompt => "prompt",
        RequestState::Answer => "answer",
    };
    let client = match request.client {
        0 => "here".to_owned(),
        client => format!("{:06x}", client >> 40),
    };
    let deadline = request.deadline.map(|(kind, ms)| match kind {
        DeadlineKind::Answer => format!("answer {}", seconds(ms)),
        DeadlineKind::FirstToken => format!("first token {}", seconds(ms)),
    });
    let color = match request.state {
        RequestState::Waiting => Color::DarkGray,
        _ => Color::Reset,
    };
    Row::new([
        request.id.to_string(),
        client,
        request.priority.to_string(),
        state.to_owned(),
        format!("{}/{}", request.n_computed, request.n_prompt),
        request.n_answer.to_string(),
        seconds(request.age_ms),
        deadline.unwrap_or_default(),
    ])
    .style(Style::new().fg(color))
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn report(at_ms: u64, n_answer_tokens: u64, busy_us: u64) -> StatusReport {
        let request = |id, state| RequestReport {
            id,
            client: id << 60,
            priority: 4,
            state,
            n_prompt: 20,
            n_computed: 12,
            n_answer: 0,
            age_ms: 1250,
            deadline: (id == 1).then_some((DeadlineKind::FirstToken, 2000)),
        };
        StatusReport {
            at_ms,
            phase: "running".into(),
            why: None,
            epoch: 2,
            nodes: vec!["a".into(), "b\u{1b}[2J".into()],
            stages: vec![StageReport {
                node: "b\u{1b}[2J".into(),
                layers: [0, 7],
                memory_bytes: Some([3 << 20, 1 << 20, 0]),
                busy_us,
            }],
            n_live: 1,
            n_waiting: 1,
            n_preempted: 3,
            n_cells: 32,
            n_ctx: 128,
            n_steps: 5,
            n_prompt_rows: 40,
            n_answer_tokens,
            requests: vec![
                request(0, RequestState::Prompt),
                request(1, RequestState::Waiting),
            ],
        }
    }

    #[test]
    fn a_frame_shows_requests_stages_memory_and_speed() {
        let before = report(1000, 10, 0);
        let view = View::new(report(3000, 60, 500_000), Some(&before));
        let text = to_text(&view, (100, 30)).unwrap();
        for told in [
            "running, epoch 2; nodes: 2; requests: 1 running, 1 waiting",
            "25.0 tokens/s of answers, 0.0 rows/s of prompts",
            "32 of 128",
            "given up 3 times",
            "0..7",
            " 25 %",
            "3.00 MiB",
            "12/20",
            "first token 2.0 s",
            "1.2 s",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_small_terminal_and_a_new_head_are_no_trouble() {
        let mut view = View::new(report(10, 1, 0), Some(&report(5000, 60, 9)));
        assert_eq!(view.rates, None, "it counts from its own beginning");
        view.trouble = Some("no head answers".into());
        for size in [(1, 1), (10, 3), (300, 4)] {
            to_text(&view, size).unwrap();
        }
        assert!(
            to_text(&view, (80, 24))
                .unwrap()
                .contains("no head answers")
        );
    }
}
