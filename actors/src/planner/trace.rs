//! What became of each step, for pictures: kept only while someone asks for it.

use std::collections::VecDeque;
use std::time::Instant;

use super::flight::SentStep;
use crate::message::StageTiming;
use crate::{PlanEpoch, StepId, clock};

/// Most steps that are kept, of which the oldest are dropped: an answer of as many tokens, in well
/// under a megabyte.
const MAX_STEPS: usize = 4096;

/// One step, from the Planner and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTrace {
    /// The plan that it belonged to; steps are counted anew in each.
    pub epoch: PlanEpoch,
    /// The step.
    pub step: StepId,
    /// When it was sent to stage 0, in microseconds since the UNIX epoch on the head's clock.
    pub sent_us: u64,
    /// When its report was back, on the same clock.
    pub reported_us: u64,
    /// Rows of prompts.
    pub n_prompt_rows: u32,
    /// Rows of accepted tokens; those that are computed again after a fault count here too.
    pub n_decode_rows: u32,
    /// One entry per stage, on the stages' clocks.
    pub timings: Vec<StageTiming>,
}

/// The last steps, if anyone wants them.
#[derive(Default)]
pub(super) struct Trace {
    /// One moment on both clocks, while steps are kept: in microseconds since the UNIX epoch.
    moment: Option<(Instant, u64)>,
    steps: VecDeque<StepTrace>,
}

impl Trace {
    /// Gives what was kept so far. Steps that are reported from now on are kept if `unix_us` says
    /// what time it is.
    pub(super) fn take(&mut self, unix_us: Option<u64>, now: Instant) -> Vec<StepTrace> {
        self.moment = unix_us.map(|unix_us| (now, unix_us));
        std::mem::take(&mut self.steps).into()
    }

    /// Keeps a step whose report came `now`.
    pub(super) fn record(
        &mut self,
        epoch: PlanEpoch,
        done: &SentStep,
        timings: &[StageTiming],
        now: Instant,
    ) {
        let Some(moment) = self.moment else { return };
        if self.steps.len() == MAX_STEPS {
            self.steps.pop_front();
        }
        let rows = |of_prompts: bool| {
            let parts = done
                .parts
                .iter()
                .filter(|part| part.is_prompt == of_prompts);
            let n_rows: usize = parts.map(|part| part.n_rows).sum();
            u32::try_from(n_rows).unwrap_or(u32::MAX)
        };
        self.steps.push_back(StepTrace {
            epoch,
            step: done.step,
            sent_us: unix_us_of(done.sent, moment),
            reported_us: unix_us_of(now, moment),
            n_prompt_rows: rows(true),
            n_decode_rows: rows(false),
            timings: timings.to_vec(),
        });
    }
}

/// An instant as microseconds since the UNIX epoch, given one moment on both clocks.
fn unix_us_of(instant: Instant, (known, known_us): (Instant, u64)) -> u64 {
    match instant.checked_duration_since(known) {
        Some(later) => known_us.saturating_add(clock::micros(later)),
        None => known_us.saturating_sub(clock::micros(known.duration_since(instant))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::super::batching::RequestRows;
    use super::super::flight::Flight;
    use super::*;
    use crate::RequestId;
    use crate::planning::cost::Work;

    const MS: Duration = Duration::from_millis(1);

    /// Sends a step of 3 prompt rows and 1 decode row at `sent`; it is back 5 ms later.
    fn step(flight: &mut Flight, trace: &mut Trace, sent: Instant) {
        let part = |n_rows, is_prompt| RequestRows {
            request: RequestId(1),
            n_rows,
            is_prompt,
            is_judged: true,
            is_dead: false,
        };
        let work = Work::chunk(4, 0);
        let step = flight.send(vec![part(1, false), part(3, true)], work, sent);
        let done = flight.report(step, &[], sent + 5 * MS).unwrap().unwrap();
        trace.record(PlanEpoch(7), &done, &[], sent + 5 * MS);
    }

    #[test]
    fn steps_are_kept_only_while_they_are_wanted() {
        let begin = Instant::now();
        let mut flight = Flight::new(Duration::from_secs(1), begin);
        flight.restart(1);
        let mut trace = Trace::default();
        step(&mut flight, &mut trace, begin);
        assert_eq!(trace.take(Some(1_000_000), begin + 10 * MS), []);
        step(&mut flight, &mut trace, begin + 20 * MS);
        // Sent before the known moment, reported after it.
        step(&mut flight, &mut trace, begin + 8 * MS);
        let kept = trace.take(None, begin + 30 * MS);
        let times: Vec<_> = kept.iter().map(|s| (s.sent_us, s.reported_us)).collect();
        assert_eq!(times, [(1_010_000, 1_015_000), (998_000, 1_003_000)]);
        assert_eq!((kept[0].epoch, kept[0].step), (PlanEpoch(7), StepId(1)));
        assert_eq!((kept[0].n_prompt_rows, kept[0].n_decode_rows), (3, 1));
        step(&mut flight, &mut trace, begin);
        assert_eq!(trace.take(None, begin), []);
    }

    #[test]
    fn the_oldest_steps_make_room() {
        let begin = Instant::now();
        let mut flight = Flight::new(Duration::from_secs(1), begin);
        flight.restart(1);
        let mut trace = Trace::default();
        trace.take(Some(0), begin);
        for _ in 0..MAX_STEPS + 2 {
            step(&mut flight, &mut trace, begin);
        }
        let kept = trace.take(None, begin);
        assert_eq!(kept.len(), MAX_STEPS);
        assert_eq!(kept[0].step, StepId(2));
    }
}
