//! The loss curve as a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::checkpoint::Point;

/// Draws training and held-out loss over the steps into an SVG file; the loss runs in decades.
pub(crate) fn loss_curve(path: &Path, curve: &[Point]) -> Result<()> {
    draw(path, curve).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(path: &Path, curve: &[Point]) -> Result<(), Box<dyn std::error::Error>> {
    let losses = || {
        curve
            .iter()
            .flat_map(|p| [Some(p.training), p.held_out])
            .flatten()
    };
    let low = losses().fold(1.0f32, f32::min).max(1e-4) * 0.8;
    let high = losses().fold(1.0f32, f32::max) * 1.2;
    let last = curve.last().map_or(1, |p| p.step);
    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(32)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..last, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss per answer token (nats)")
        .draw()?;
    let training = curve.iter().map(|p| (p.step, p.training));
    chart
        .draw_series(LineSeries::new(training, &BLUE))?
        .label("training")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE));
    let held_out = curve.iter().filter_map(|p| Some((p.step, p.held_out?)));
    chart
        .draw_series(LineSeries::new(held_out, &RED))?
        .label("held-out phrasings and combinations")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], RED));
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
