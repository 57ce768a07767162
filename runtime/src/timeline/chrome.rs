//! The trace event format of Chrome, which Perfetto reads too: complete events (`X`) with times in
//! microseconds, and metadata (`M`) that names processes and threads.

use serde_json::{Value, json};

use super::{Page, SpanKind, Timeline};

/// The page as one JSON object: a process a timeline, a thread a lane. Spans that overlap go to
/// threads of their own, since events of a thread have to nest.
pub(super) fn write(page: &Page) -> String {
    let mut events = Vec::new();
    let sections = page.sections.iter();
    let timelines =
        sections.flat_map(|section| section.timelines.iter().map(move |t| (section, t)));
    for (pid, (section, timeline)) in timelines.enumerate() {
        let name = format!("{}, {}", section.title, timeline.name);
        events.push(metadata("process_name", pid, 0, json!({"name": name})));
        events.push(metadata(
            "process_sort_index",
            pid,
            0,
            json!({"sort_index": pid}),
        ));
        lanes(timeline, pid, &mut events);
    }
    json!({
        "displayTimeUnit": "ms",
        "otherData": {"title": page.title},
        "traceEvents": events,
    })
    .to_string()
}

fn lanes(timeline: &Timeline, pid: usize, events: &mut Vec<Value>) {
    let mut tid = 0;
    for lane in &timeline.lanes {
        let rows = lane.rows();
        let n_threads = rows.iter().max().map_or(1, |row| row + 1);
        for row in 0..n_threads {
            let name = match row {
                0 => lane.name.clone(),
                _ => format!("{} ({})", lane.name, row + 1),
            };
            let tid = tid + row;
            events.push(metadata("thread_name", pid, tid, json!({"name": name})));
            events.push(metadata(
                "thread_sort_index",
                pid,
                tid,
                json!({"sort_index": tid}),
            ));
        }
        for (span, row) in lane.spans.iter().zip(&rows) {
            let category = match span.kind {
                SpanKind::Prompt => "prompt",
                SpanKind::Decode => "decode",
                SpanKind::Mixed => "mixed",
                SpanKind::Transfer => "transfer",
            };
            events.push(json!({
                "ph": "X",
                "name": format!("step {}", span.label),
                "cat": category,
                "pid": pid,
                "tid": tid + row,
                "ts": span.start_us,
                "dur": span.end_us - span.start_us,
                "args": {
                    "prompt rows": span.rows.n_prompt,
                    "decode rows": span.rows.n_decode,
                    "waited_us": span.wait_us,
                },
            }));
        }
        tid += n_threads;
    }
}

fn metadata(name: &str, pid: usize, tid: usize, args: Value) -> Value {
    json!({"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::span;
    use super::super::{Lane, Section};
    use super::*;

    #[test]
    fn every_span_is_an_event_and_those_of_a_thread_do_not_overlap() {
        let lane = |name: &str, spans| Lane {
            name: name.into(),
            spans,
        };
        let timeline = Timeline {
            name: "measured".into(),
            lanes: vec![
                lane(
                    "stage 0 \"a\"",
                    vec![span("0", 0.0, 2.5), span("1", 2.5, 5.0)],
                ),
                lane(
                    "link 0 to 1",
                    vec![span("0", 2.5, 4.0), span("1", 3.0, 6.0)],
                ),
            ],
            notes: Vec::new(),
        };
        let section = Section {
            title: "pp16".into(),
            timelines: vec![timeline.clone(), timeline],
        };
        let page = Page {
            title: "m.gguf".into(),
            sections: vec![section],
        };
        let trace: Value = serde_json::from_str(&page.json()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let of = |phase: &'static str| events.iter().filter(move |event| event["ph"] == phase);
        let spans: Vec<_> = of("X")
            .map(|e| {
                let number = |key: &str| e[key].as_f64().unwrap();
                (number("pid"), number("tid"), number("ts"), number("dur"))
            })
            .collect();
        let first = [
            (0.0, 0.0, 0.0, 2.5),
            (0.0, 0.0, 2.5, 2.5),
            (0.0, 1.0, 2.5, 1.5),
            (0.0, 2.0, 3.0, 3.0),
        ];
        let second = first.map(|(_, tid, ts, dur)| (1.0, tid, ts, dur));
        assert_eq!(spans, [first, second].concat());
        let names: Vec<_> = of("M").map(|event| &event["args"]["name"]).collect();
        for name in [
            "pp16, measured",
            "stage 0 \"a\"",
            "link 0 to 1",
            "link 0 to 1 (2)",
        ] {
            assert!(names.iter().any(|n| **n == name), "{name}");
        }
        assert_eq!(of("X").next().unwrap()["args"]["prompt rows"], 8);
    }
}
