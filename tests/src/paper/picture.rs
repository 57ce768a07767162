//! The table as bars: a group for each cell, published seconds filled and simulated ones outlined.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::cells::Rows;
use super::published::SYSTEMS;
use super::{MAIN, Row};

const SIZE: (u32, u32) = (1240, 780);
/// Seconds from which the axis goes, and to which.
const AXIS: (f64, f64) = (2.0, 1000.0);
/// Room of a cell that its bars take.
const FILLED: f64 = 0.88;
/// [`SYSTEMS`], then Jupiter and ours.
const COLORS: [RGBColor; 7] = [
    RGBColor(150, 150, 150),
    RGBColor(178, 125, 190),
    RGBColor(120, 160, 90),
    RGBColor(200, 160, 60),
    RGBColor(70, 110, 170),
    RGBColor(60, 60, 60),
    RGBColor(205, 95, 35),
];

type Drawn<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Draws the table into an SVG file: 7B above, 13B below.
///
/// # Errors
/// When it cannot be written.
pub fn draw(path: &Path, rows: &[Row]) -> Result<()> {
    try_draw(path, rows).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn try_draw(path: &Path, rows: &[Row]) -> Drawn<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, body) = root.split_vertically(40);
    legend(&head)?;
    let panels = body.split_evenly((2, 1));
    for (panel, rows) in panels
        .iter()
        .zip(rows.chunks(rows.len().div_ceil(2).max(1)))
    {
        draw_panel(panel, rows)?;
    }
    root.present()?;
    Ok(())
}

fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn<()> {
    let names = SYSTEMS.into_iter().chain(["Jupiter", "ours"]);
    let mut left = 60;
    for (name, color) in names.zip(COLORS) {
        let corners = [(left, 12), (left + 14, 26)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        let style = ("sans-serif", 14).into_font();
        area.draw(&Text::new(name, (left + 20, 12), style))?;
        left += 36 + 8 * name.len() as i32;
    }
    let how = "filled: published (ours: simulated); outlined: simulated (ours: by a straight line)";
    area.draw(&Text::new(
        how,
        (left + 20, 12),
        ("sans-serif", 14).into_font(),
    ))?;
    Ok(())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, rows: &[Row]) -> Drawn<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..rows.len() as f64, (AXIS.0..AXIS.1).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .y_desc("seconds")
        .label_style(("sans-serif", 13))
        .draw()?;
    for (at, row) in rows.iter().enumerate() {
        let bars = row.published.into_iter().zip(row.simulated);
        let seconds = |rows| Some(row.ours(rows).total_s);
        let ours = (seconds(MAIN), seconds(Rows::Line));
        let bars = bars.chain([(Some(row.jupiter), None), ours]);
        for (i, ((filled, outlined), color)) in bars.zip(COLORS).enumerate() {
            let left = at as f64 + (1.0 - FILLED) / 2.0 + FILLED * i as f64 / 7.0;
            let right = left + FILLED / 7.0;
            if let Some(seconds) = filled {
                let corners = [(left + 0.01, AXIS.0), (right - 0.01, seconds)];
                chart.draw_series([Rectangle::new(corners, color.mix(0.75).filled())])?;
                // Above the outline, where that is higher.
                let top = outlined.map_or(seconds, |outlined| outlined.max(seconds));
                let (x, y) = chart.backend_coord(&((left + right) / 2.0, top));
                let (base_x, base_y) = area.get_base_pixel();
                let text = format!("{seconds:.0}");
                let place = (x - base_x - 4 * text.len() as i32, y - base_y - 15);
                area.draw(&Text::new(text, place, ("sans-serif", 12).into_font()))?;
            }
            if let Some(seconds) = outlined {
                let corners = [(left + 0.03, AXIS.0), (right - 0.03, seconds)];
                chart.draw_series([Rectangle::new(corners, BLACK.stroke_width(1))])?;
            }
        }
        let (x, y) = chart.backend_coord(&(at as f64 + 0.5, AXIS.0));
        let (base_x, base_y) = area.get_base_pixel();
        let shares = format!(
            "{:.2} ({:.2}) of Jupiter",
            row.share(MAIN),
            row.share(Rows::Line)
        );
        for (line, text) in (0..).zip([&row.name, &shares]) {
            let place = (x - base_x - 60, y - base_y + 8 + 16 * line);
            area.draw(&Text::new(&**text, place, ("sans-serif", 13).into_font()))?;
        }
    }
    Ok(())
}
