//! What the file of `--timeline` shows.

use jupiter::timeline::{Page, Section, from_trace};

use super::predict::Prediction;
use super::report::Measured;

/// The best run of each test.
pub(super) fn page(measured: &Measured) -> Page {
    let stages = measured.stage_names();
    let predictions = &measured.predictions;
    let predicted = |of: &Option<Prediction>| of.as_ref().map(|of| of.timeline.clone());
    let branches = measured.outline.as_ref().map(|outline| {
        let timelines = [from_trace("measured", &stages, &measured.outline_steps)];
        let predicted = predicted(&predictions.branches);
        Section {
            title: outline.title(),
            timelines: timelines.into_iter().chain(predicted).collect(),
        }
    });
    let tests = [
        (&measured.pp, &predictions.pp),
        (&measured.tg, &predictions.tg),
    ];
    let sections = tests.into_iter().filter_map(|(test, prediction)| {
        let test = test.as_ref()?;
        let best = test.best()?;
        let predicted = predicted(prediction);
        let timelines = [from_trace("measured", &stages, &best.steps)];
        Some(Section {
            title: format!("{}, the best of {}", test.name, test.pipeline.len()),
            timelines: timelines.into_iter().chain(predicted).collect(),
        })
    });
    Page {
        title: format!(
            "{}: {} stages, {} threads each, chunks of {}",
            measured.model,
            stages.len(),
            measured.n_threads,
            measured.chunk
        ),
        sections: sections.chain(branches).collect(),
    }
}
