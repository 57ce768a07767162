//! What was measured as a picture: one dot for each question, a box from the lower to the upper
//! quartile, a line at the median.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::speed::{Measured, Pair, Spread};

const WIDTH: u32 = 960;
/// Pixels of a lane.
const LANE: u32 = 42;
/// Pixels of a panel beside its lanes: title and axis.
const FRAME: u32 = 92;
/// Pixels of the names of lanes.
const NAMES: u32 = 250;
/// Dots of a lane stand on so many levels, so that few hide each other.
const LEVELS: usize = 7;
const PLAIN: RGBColor = RGBColor(70, 110, 170);
const OUTLINED: RGBColor = RGBColor(205, 95, 35);

/// A distribution.
struct Lane {
    name: &'static str,
    color: RGBColor,
    values: Vec<f64>,
}

/// Distributions on one axis.
struct Panel {
    title: &'static str,
    unit: &'static str,
    lanes: Vec<Lane>,
    /// Where the axis ends.
    end: f64,
    /// A value that is marked.
    mark: Option<f64>,
}

/// Draws times and ratios, without guesses and with them, into an SVG file.
///
/// # Errors
/// When it cannot be written.
pub fn draw(path: &Path, no_guesses: &Measured, guesses: &Measured) -> Result<()> {
    try_draw(path, &panels(no_guesses, guesses))
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn panels(no_guesses: &Measured, guesses: &Measured) -> [Panel; 3] {
    let times = [times(no_guesses), times(guesses)];
    // The same axis, so that the panels can be compared.
    let end = times.iter().flatten().map(highest).fold(0.0, f64::max);
    let [first, second] = times;
    let panel = |title, lanes| Panel {
        title,
        unit: "milliseconds from the question",
        lanes,
        end,
        mark: None,
    };
    let lanes = ratios(no_guesses, guesses);
    [
        panel("without guesses", first),
        panel("guesses as by default", second),
        Panel {
            title: "how many times faster point by point, to the last word",
            unit: "plain over outlined; more is faster",
            end: lanes.iter().map(highest).fold(1.0, f64::max),
            lanes,
            mark: Some(1.0),
        },
    ]
}

fn lane(
    name: &'static str,
    color: RGBColor,
    measured: &Measured,
    value: fn(&Pair) -> Option<f64>,
) -> Lane {
    Lane {
        name,
        color,
        values: measured.pairs.iter().filter_map(value).collect(),
    }
}

fn times(measured: &Measured) -> Vec<Lane> {
    vec![
        lane("plain: first word", PLAIN, measured, |p| {
            Some(p.plain.first_word_ms)
        }),
        lane("outlined: outline is there", OUTLINED, measured, |p| {
            p.outlined.outline_ms
        }),
        lane("outlined: first word", OUTLINED, measured, |p| {
            Some(p.outlined.first_word_ms)
        }),
        lane("outlined: last word", OUTLINED, measured, |p| {
            Some(p.outlined.last_word_ms)
        }),
        lane("plain: last word", PLAIN, measured, |p| {
            Some(p.plain.last_word_ms)
        }),
        lane("plain: last word, equal length", PLAIN, measured, |p| {
            Some(p.plain_at_equal_length_ms())
        }),
    ]
}

fn ratios(no_guesses: &Measured, guesses: &Measured) -> Vec<Lane> {
    let equal: fn(&Pair) -> Option<f64> = |p| Some(p.ratio());
    let as_is: fn(&Pair) -> Option<f64> = |p| Some(p.ratio_as_it_is());
    vec![
        lane("equal length, no guesses", OUTLINED, no_guesses, equal),
        lane("equal length, guesses", OUTLINED, guesses, equal),
        lane("whatever length, no guesses", PLAIN, no_guesses, as_is),
        lane("whatever length, guesses", PLAIN, guesses, as_is),
    ]
}

fn highest(lane: &Lane) -> f64 {
    1.04 * lane.values.iter().copied().fold(0.0, f64::max)
}

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn try_draw(path: &Path, panels: &[Panel]) -> Drawn<()> {
    let heights = panels
        .iter()
        .map(|panel| FRAME + LANE * panel.lanes.len() as u32);
    let heights: Vec<u32> = heights.collect();
    let size = (WIDTH, heights.iter().sum());
    let mut rest = SVGBackend::new(path, size).into_drawing_area();
    rest.fill(&WHITE)?;
    for (panel, height) in panels.iter().zip(heights) {
        let (area, below) = rest.split_vertically(height);
        draw_panel(&area, panel)?;
        rest = below;
    }
    rest.present()?;
    Ok(())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Drawn<()> {
    let n = panel.lanes.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 18))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..panel.end.max(f64::MIN_POSITIVE), 0.0..n)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(WHITE)
        .x_desc(panel.unit)
        .label_style(("sans-serif", 13))
        .draw()?;
    if let Some(mark) = panel.mark {
        let line = PathElement::new([(mark, 0.0), (mark, n)], BLACK.stroke_width(1));
        chart.draw_series([line])?;
    }
    for (i, lane) in panel.lanes.iter().enumerate() {
        let middle = n - i as f64 - 0.5;
        let Spread { low, median, high } = Spread::of(lane.values.iter().copied());
        let quartiles = [(low, middle - 0.36), (high, middle + 0.36)];
        chart.draw_series([Rectangle::new(quartiles, lane.color.mix(0.22).filled())])?;
        chart.draw_series(lane.values.iter().enumerate().map(|(i, &value)| {
            let level = (i % LEVELS) as f64 / (LEVELS - 1) as f64 - 0.5;
            let at = (value, middle + 0.56 * level);
            Circle::new(at, 3, lane.color.mix(0.6).filled())
        }))?;
        let line = [(median, middle - 0.4), (median, middle + 0.4)];
        chart.draw_series([PathElement::new(line, lane.color.stroke_width(3))])?;
        let (_, y) = chart.backend_coord(&(0.0, middle));
        let (_, top) = area.get_base_pixel();
        let style = ("sans-serif", 14).into_font().color(&lane.color);
        area.draw(&Text::new(lane.name, (16, y - top - 7), style))?;
        let style = ("sans-serif", 14).into_font().color(&BLACK);
        let median = format!("{median:.*}", if panel.mark.is_some() { 2 } else { 0 });
        area.draw(&Text::new(median, (NAMES as i32 - 36, y - top - 7), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::speed::Timing;
    use super::*;

    #[test]
    fn every_question_is_a_dot_in_every_lane() {
        let timing = |last_word_ms| Timing {
            first_word_ms: 10.0,
            outline_ms: Some(20.0),
            last_word_ms,
            n_tokens: 50.0,
        };
        let measured = |n: usize| Measured {
            pairs: (0..n)
                .map(|i| Pair {
                    plain: timing(100.0 + i as f64),
                    outlined: timing(50.0),
                })
                .collect(),
            ..Measured::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outlines.svg");
        draw(&path, &measured(5), &measured(3)).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert_eq!(svg.matches("<circle").count(), (5 + 3) * 6 + (5 + 3) * 2);
        assert!(svg.contains("outlined: last word"));
        // Nothing measured is no reason to fail.
        draw(&path, &measured(0), &measured(0)).unwrap();
        let error = draw(
            &folder.path().join("no/folder.svg"),
            &measured(1),
            &measured(1),
        );
        assert!(error.unwrap_err().to_string().contains("no/folder.svg"));
    }
}
