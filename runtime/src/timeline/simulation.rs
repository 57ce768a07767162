//! From a simulated pipeline to a timeline.

use jupiter_actors::planning::simulate::Span as Simulated;

use super::{Lane, Span, SpanKind, StepRows, Timeline};

/// The timeline of a simulation with a stage for each of the names. `rows` are those of each job;
/// a job without rows there is shown as decoding none. Spans of servers that do not exist are left
/// out.
pub fn from_simulation(
    name: &str,
    stages: &[String],
    rows: &[StepRows],
    spans: &[Simulated],
) -> Timeline {
    let n_servers = (2 * stages.len()).saturating_sub(1);
    let mut lanes: Vec<Lane> = (0..n_servers)
        .map(|server| Lane {
            name: match server % 2 {
                0 => stages[server / 2].clone(),
                _ => format!("link {} to {}", server / 2, server / 2 + 1),
            },
            spans: Vec::new(),
        })
        .collect();
    let mut order: Vec<&Simulated> = spans.iter().collect();
    order.sort_by_key(|span| (span.job, span.server));
    let mut before: Option<&Simulated> = None;
    for span in order {
        if let Some(lane) = lanes.get_mut(span.server) {
            let rows = rows.get(span.job).copied().unwrap_or_default();
            let left_ns = before.filter(|before| before.job == span.job);
            let left_ns = left_ns.map_or(span.start_ns, |before| before.end_ns);
            lane.spans.push(Span {
                start_us: micros(span.start_ns),
                end_us: micros(span.end_ns.max(span.start_ns)),
                wait_us: micros(span.start_ns.saturating_sub(left_ns)),
                label: span.job.to_string(),
                kind: match span.server % 2 {
                    0 => rows.kind(),
                    _ => SpanKind::Transfer,
                },
                rows,
            });
        }
        before = Some(span);
    }
    Timeline {
        name: name.to_owned(),
        lanes,
        notes: Vec::new(),
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_links_are_lanes_and_waits_count_from_the_server_before() {
        let span = |server, job, start_ns, end_ns| Simulated {
            server,
            job,
            start_ns,
            end_ns,
        };
        let spans = [
            span(0, 0, 0, 4_000),
            span(0, 1, 4_000, 6_000),
            span(1, 0, 4_000, 4_500),
            span(2, 0, 5_500, 9_500),
            span(1, 1, 6_000, 6_500),
            span(2, 1, 9_500, 11_000),
            span(3, 1, 9_500, 11_000),
        ];
        let rows = [(8, 0), (0, 2)].map(|(n_prompt, n_decode)| StepRows { n_prompt, n_decode });
        let names = ["a".to_owned(), "b".to_owned()];
        let timeline = from_simulation("predicted", &names, &rows, &spans);
        let lanes: Vec<_> = timeline.lanes.iter().map(|lane| &lane.name).collect();
        assert_eq!(lanes, ["a", "link 0 to 1", "b"]);
        let last = &timeline.lanes[2].spans;
        assert_eq!((last[0].start_us, last[0].wait_us), (5.5, 1.0));
        assert_eq!((last[1].start_us, last[1].wait_us), (9.5, 3.0));
        assert_eq!(
            (last[0].kind, last[1].kind),
            (SpanKind::Prompt, SpanKind::Decode)
        );
        assert_eq!(timeline.lanes[1].spans[0].kind, SpanKind::Transfer);
        assert_eq!(timeline.end_us(), 11.0);
        assert_eq!(from_simulation("none", &[], &rows, &spans).lanes, []);
    }
}
