//! From the Planner's steps to a timeline.

use jupiter_actors::planner::StepTrace;

use super::clocks::{Passage, shifts};
use super::{Lane, Span, SpanKind, StepRows, Timeline};

/// The timeline of measured steps on stages of these names, from the moment the first was sent.
///
/// Steps are numbered from 0, as those of a simulation are, so that the two can be compared. Only
/// the last epoch is shown: a fault moves stages. Steps without the times of every stage are
/// left out, and a note says how many.
pub fn from_trace(name: &str, stages: &[String], steps: &[StepTrace]) -> Timeline {
    let n_stages = stages.len();
    let epoch = steps.last().map(|step| step.epoch);
    let steps: Vec<&StepTrace> = steps.iter().filter(|s| Some(s.epoch) == epoch).collect();
    let n_all = steps.len();
    let (steps, passages): (Vec<_>, Vec<_>) = steps
        .into_iter()
        .filter_map(|step| Some((step, passage(step, n_stages)?)))
        .unzip();
    let shifts = shifts(&passages, n_stages);
    let mut notes = clock_notes(stages, &shifts);
    if steps.len() < n_all {
        let n_left_out = n_all - steps.len();
        notes.push(format!(
            "{n_left_out} of {n_all} steps are left out: they came without the times of every stage."
        ));
    }
    let origin = passages.iter().map(|p| p.sent).min().unwrap_or(0);
    let mut lanes = lanes(stages);
    let first = steps.first().map_or(0, |step| step.step.0);
    for (step, passage) in steps.iter().zip(&passages) {
        let number = step.step.0.saturating_sub(first);
        let mut left = passage.sent - origin;
        for (k, timing) in step.timings.iter().enumerate() {
            let (arrived, ended) = passage.stages[k];
            let arrived = arrived + shifts[k] - origin;
            let ended = ended + shifts[k] - origin;
            lanes[2 * k]
                .spans
                .push(transfer(step, number, left, arrived));
            lanes[2 * k + 1].spans.push(Span {
                start_us: (arrived + i128::from(timing.waited_us)) as f64,
                end_us: ended as f64,
                wait_us: timing.waited_us as f64,
                label: number.to_string(),
                kind: rows(step).kind(),
                rows: rows(step),
            });
            left = ended;
        }
        if let Some(back) = lanes.last_mut() {
            back.spans
                .push(transfer(step, number, left, passage.reported - origin));
        }
    }
    Timeline {
        name: name.to_owned(),
        lanes,
        notes,
    }
}

/// A step's times, if it has those of every stage.
fn passage(step: &StepTrace, n_stages: usize) -> Option<Passage> {
    let in_order = |(k, timing): (usize, &jupiter_actors::message::StageTiming)| {
        usize::try_from(timing.stage) == Ok(k)
    };
    if n_stages == 0
        || step.timings.len() != n_stages
        || !step.timings.iter().enumerate().all(in_order)
    {
        return None;
    }
    let stages = step.timings.iter().map(|timing| {
        let began = i128::from(timing.began_us);
        let arrived = began - i128::from(timing.waited_us);
        (arrived, began + i128::from(timing.busy_us))
    });
    Some(Passage {
        sent: i128::from(step.sent_us),
        reported: i128::from(step.reported_us),
        stages: stages.collect(),
    })
}

/// Links and stages in turns, from the head and back to it.
fn lanes(stages: &[String]) -> Vec<Lane> {
    let lane = |name: String| Lane {
        name,
        spans: Vec::new(),
    };
    let mut lanes = Vec::with_capacity(2 * stages.len() + 1);
    for (k, name) in stages.iter().enumerate() {
        let from = k.checked_sub(1).map_or("head".into(), |k| k.to_string());
        lanes.push(lane(format!("link {from} to {k}")));
        lanes.push(lane(name.clone()));
    }
    if let Some(last) = stages.len().checked_sub(1) {
        lanes.push(lane(format!("sampling, link {last} to head")));
    }
    lanes
}

fn transfer(step: &StepTrace, number: u64, left: i128, arrived: i128) -> Span {
    Span {
        start_us: left as f64,
        end_us: arrived.max(left) as f64,
        wait_us: 0.0,
        label: number.to_string(),
        kind: SpanKind::Transfer,
        rows: rows(step),
    }
}

fn rows(step: &StepTrace) -> StepRows {
    StepRows {
        n_prompt: step.n_prompt_rows,
        n_decode: step.n_decode_rows,
    }
}

fn clock_notes(stages: &[String], shifts: &[i128]) -> Vec<String> {
    let shifted = stages.iter().zip(shifts).filter(|(_, shift)| **shift != 0);
    let note = |(name, shift): (&String, &i128)| {
        let ms = *shift as f64 / 1e3;
        format!(
            "The clock of {name} was shifted by {ms:+.3} ms, the least with which no step goes back \
             in time: the links beside it are exact only in sum."
        )
    };
    shifted.map(note).collect()
}

#[cfg(test)]
mod tests {
    use jupiter_actors::message::StageTiming;
    use jupiter_actors::{PlanEpoch, StepId};

    use super::*;

    const NOON_US: u64 = 1_800_000_000_000_000;

    /// Step 0 or 1 of two stages, the second with a clock that is `behind_us` behind.
    fn step(number: u64, behind_us: u64) -> StepTrace {
        let sent_us = NOON_US + 10 * number;
        let timing = |stage, began_us, waited_us| StageTiming {
            stage,
            began_us,
            waited_us,
            busy_us: 100,
        };
        StepTrace {
            epoch: PlanEpoch(1),
            step: StepId(40 + number),
            sent_us,
            reported_us: NOON_US + 300 + 100 * number,
            n_prompt_rows: 16,
            n_decode_rows: 0,
            timings: vec![
                timing(0, NOON_US + 20 + 100 * number, 90 * number),
                timing(1, NOON_US + 150 + 100 * number - behind_us, 5),
            ],
        }
    }

    fn stages() -> Vec<String> {
        vec!["stage 0".to_owned(), "stage 1".to_owned()]
    }

    fn times(lane: &Lane) -> Vec<(f64, f64, f64)> {
        let time = |span: &Span| (span.start_us, span.end_us, span.wait_us);
        lane.spans.iter().map(time).collect()
    }

    #[test]
    fn links_and_stages_are_lanes_that_follow_each_step() {
        let timeline = from_trace("measured", &stages(), &[step(0, 0), step(1, 0)]);
        let names: Vec<_> = timeline.lanes.iter().map(|lane| &lane.name[..]).collect();
        assert_eq!(
            names,
            [
                "link head to 0",
                "stage 0",
                "link 0 to 1",
                "stage 1",
                "sampling, link 1 to head"
            ]
        );
        let lanes: Vec<_> = timeline.lanes.iter().map(times).collect();
        assert_eq!(lanes[0], [(0.0, 20.0, 0.0), (10.0, 30.0, 0.0)]);
        assert_eq!(lanes[1], [(20.0, 120.0, 0.0), (120.0, 220.0, 90.0)]);
        assert_eq!(lanes[2], [(120.0, 145.0, 0.0), (220.0, 245.0, 0.0)]);
        assert_eq!(lanes[3], [(150.0, 250.0, 5.0), (250.0, 350.0, 5.0)]);
        assert_eq!(lanes[4], [(250.0, 300.0, 0.0), (350.0, 400.0, 0.0)]);
        assert_eq!(timeline.lanes[1].spans[0].kind, SpanKind::Prompt);
        let labels = timeline.lanes[3].spans.iter().map(|span| &span.label[..]);
        assert_eq!(labels.collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!(timeline.notes, [""; 0]);
    }

    #[test]
    fn a_clock_that_is_behind_is_shifted_and_the_page_says_so() {
        let timeline = from_trace("measured", &stages(), &[step(0, 1025), step(1, 1025)]);
        // The link cannot be told from the clock: it takes no time.
        assert_eq!(times(&timeline.lanes[2])[0], (120.0, 120.0, 0.0));
        assert_eq!(times(&timeline.lanes[3])[0], (125.0, 225.0, 5.0));
        assert_eq!(timeline.notes.len(), 1);
        assert!(
            timeline.notes[0].contains("stage 1 was shifted by +1.000 ms"),
            "{timeline:?}"
        );
    }

    #[test]
    fn other_epochs_and_incomplete_steps_are_left_out() {
        let other = StepTrace {
            epoch: PlanEpoch(0),
            ..step(0, 0)
        };
        let mut incomplete = step(0, 0);
        incomplete.timings.pop();
        let timeline = from_trace("measured", &stages(), &[other, incomplete, step(1, 0)]);
        assert!(timeline.lanes.iter().all(|lane| lane.spans.len() == 1));
        assert!(
            timeline.notes[0].starts_with("1 of 2 steps"),
            "{timeline:?}"
        );
        assert_eq!(from_trace("measured", &[], &[step(0, 0)]).lanes, []);
    }

    /// Times come from other machines: none of them may overflow.
    #[test]
    fn impossible_times_do_not_panic() {
        let mut hostile = step(0, 0);
        for timing in &mut hostile.timings {
            (timing.began_us, timing.busy_us) = (u64::MAX, u64::MAX);
        }
        hostile.timings[1].began_us = 0;
        hostile.timings[1].waited_us = u64::MAX;
        hostile.sent_us = u64::MAX;
        hostile.reported_us = 0;
        let timeline = from_trace("measured", &stages(), &[hostile]);
        assert!(timeline.end_us().is_finite());
    }
}
