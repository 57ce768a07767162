//! The page that a browser shows: its data as JSON in a frame of HTML, style and script.
//!
//! The script draws SVG from the data; it is in `page.js`, the style in `page.css`.

use serde::Serialize;

use super::{Lane, Page, Section, SpanKind, Timeline};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing may be loaded from anywhere, whatever a name says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// A section as the script reads it.
#[derive(Serialize)]
struct SectionData<'a> {
    title: &'a str,
    timelines: Vec<TimelineData<'a>>,
}

#[derive(Serialize)]
struct TimelineData<'a> {
    name: &'a str,
    notes: &'a [String],
    end_us: f64,
    lanes: Vec<LaneData<'a>>,
}

#[derive(Serialize)]
struct LaneData<'a> {
    name: &'a str,
    busy_us: f64,
    spans: Vec<SpanData<'a>>,
}

/// Start, end, wait (microseconds), row within the lane, label, kind, rows of prompts and answers:
/// a list, since names of fields would be most of the page.
#[derive(Serialize)]
struct SpanData<'a>(f64, f64, f64, usize, &'a str, SpanKind, u32, u32);

pub(super) fn write(page: &Page) -> String {
    let sections: Vec<_> = page.sections.iter().map(section).collect();
    // Numbers and text can always be written as JSON.
    let data = serde_json::to_string(&sections).unwrap_or_default();
    // Within a script element only `<` could end it, or open a comment.
    let data = data.replace('<', "\\u003c");
    let title = escape(&page.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <noscript><p>The bars are drawn by the script in this page: allow it.</p></noscript>\n\
         <main id=\"page\"></main>\n<div id=\"hint\" hidden></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

fn section(section: &Section) -> SectionData<'_> {
    SectionData {
        title: &section.title,
        timelines: section.timelines.iter().map(timeline).collect(),
    }
}

fn timeline(timeline: &Timeline) -> TimelineData<'_> {
    TimelineData {
        name: &timeline.name,
        notes: &timeline.notes,
        end_us: timeline.end_us(),
        lanes: timeline.lanes.iter().map(lane).collect(),
    }
}

fn lane(lane: &Lane) -> LaneData<'_> {
    let spans = lane.spans.iter().zip(lane.rows()).map(|(span, row)| {
        SpanData(
            span.start_us,
            span.end_us,
            span.wait_us,
            row,
            &span.label,
            span.kind,
            span.rows.n_prompt,
            span.rows.n_decode,
        )
    });
    LaneData {
        name: &lane.name,
        busy_us: lane.busy_us(),
        spans: spans.collect(),
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::span;
    use super::*;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--";

    fn page(n_spans: usize) -> Page {
        let spans = (0..n_spans).map(|i| span(&i.to_string(), i as f64, i as f64 + 1.0));
        let timeline = Timeline {
            name: "measured".into(),
            lanes: vec![Lane {
                name: HOSTILE.into(),
                spans: spans.collect(),
            }],
            notes: vec![HOSTILE.into()],
        };
        Page {
            title: HOSTILE.into(),
            sections: vec![Section {
                title: HOSTILE.into(),
                timelines: vec![timeline],
            }],
        }
    }

    fn data(html: &str) -> Value {
        let (_, rest) = html.split_once("id=\"data\">").unwrap();
        let (data, _) = rest.split_once("</script>").unwrap();
        serde_json::from_str(data).unwrap()
    }

    #[test]
    fn the_page_holds_every_span_and_names_as_they_are() {
        let data = data(&page(5000).html());
        let timeline = &data[0]["timelines"][0];
        let lane = &timeline["lanes"][0];
        assert_eq!(lane["spans"].as_array().unwrap().len(), 5000);
        assert_eq!(
            lane["spans"][7],
            json!([7.0, 8.0, 0.0, 0, "7", "prompt", 8, 0])
        );
        assert_eq!(timeline["end_us"], 5000.0);
        assert_eq!(lane["busy_us"], 5000.0);
        assert_eq!(lane["name"], HOSTILE);
        assert_eq!(data[0]["title"], HOSTILE);
    }

    #[test]
    fn names_are_never_markup() {
        let html = page(1).html();
        assert!(!html.contains("<script>alert"), "{html}");
        assert_eq!(html.matches("<script").count(), 2, "{html}");
        assert_eq!(html.matches("</script>").count(), 2, "{html}");
        assert!(!html.contains("<!--"), "{html}");
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let html = page(1).html();
        for foreign in ["//", "http:", "src=", "href=", "url(", "@import", "import("] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
