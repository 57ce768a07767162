//! Latency over load: the slowest of a hundred first tokens, and of a hundred gaps between tokens.

use std::path::Path;

use anyhow::{Result, anyhow};
use jupiter_actors::planner::Schedule;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Point, SCHEDULES};

const SIZE: (u32, u32) = (1040, 460);
/// By rule, in the order of [`SCHEDULES`].
const COLORS: [RGBColor; 3] = [
    RGBColor(150, 150, 150),
    RGBColor(70, 110, 170),
    RGBColor(205, 95, 35),
];

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Draws the points into an SVG file.
///
/// # Errors
/// When there are none, or it cannot be written.
pub fn draw(path: &Path, points: &[Point]) -> Result<()> {
    try_draw(path, points).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn try_draw(path: &Path, points: &[Point]) -> Drawn<()> {
    if points.is_empty() {
        return Err("no load was measured".into());
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 2));
    let first = |point: &Point| point.ttft_ms.p99 / 1e3;
    let between = |point: &Point| point.tbt_ms.p99 / 1e3;
    draw_panel(
        &panels[0],
        points,
        "to the first token, p99 in seconds",
        first,
    )?;
    draw_panel(
        &panels[1],
        points,
        "between tokens, p99 in seconds",
        between,
    )?;
    root.present()?;
    Ok(())
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    points: &[Point],
    title: &str,
    seconds: impl Fn(&Point) -> f64,
) -> Drawn<()> {
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        (least.max(1e-6) / 1.1, most.max(1e-6) * 1.1)
    };
    let (slow, fast) = span(&mut points.iter().map(|point| point.rate));
    let (least, most) = span(&mut points.iter().map(&seconds));
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(title, ("sans-serif", 17))
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d((slow..fast).log_scale(), (least..most).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("requests a second")
        .label_style(("sans-serif", 13))
        .draw()?;
    for (schedule, color) in SCHEDULES.into_iter().zip(COLORS) {
        let mut line: Vec<(f64, f64)> = points
            .iter()
            .filter(|point| point.schedule == schedule)
            .map(|point| (point.rate, seconds(point)))
            .collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let dots = line.iter().map(|&at| Circle::new(at, 3, color.filled()));
        chart.draw_series(dots)?;
        chart
            .draw_series([PathElement::new(line.clone(), color.stroke_width(2))])?
            .label(name(schedule))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

fn name(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Auto => "auto",
        Schedule::Throttle => "throttle (gLLM)",
        Schedule::Chunked => "chunked (Sarathi, vLLM)",
    }
}
