//! What the file of `--timeline` shows.

use jupiter::timeline::{Page, Section, from_trace};

use super::report::Measured;

/// The best run of each test.
pub(super) fn page(measured: &Measured) -> Page {
    let stages = measured.stage_names();
    let tests = [(true, &measured.pp), (false, &measured.tg)];
    let branches = measured.outline.as_ref().map(|outline| Section {
        title: outline.title(),
        timelines: vec![from_trace("measured", &stages, &measured.outline_steps)],
    });
    let sections = tests.into_iter().filter_map(|(is_prompt, test)| {
        let test = test.as_ref()?;
        let best = test.best()?;
        let prediction = |plan| measured.prediction(plan, is_prompt, best).timeline;
        let predicted = measured.plan.as_deref().map(prediction);
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
