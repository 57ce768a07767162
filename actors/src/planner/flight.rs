//! The micro-batches on their way through the stages: credits, deadlines and timings.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batching::{RequestRows, UnderWay};
use super::stats::Share;
use crate::message::StageTiming;
use crate::planning::cost::Work;
use crate::{RequestId, StepId};

/// A step may take this many times as long as its rows did at worst so far: contexts grow, and
/// machines get hot.
const DEADLINE_FACTOR: u32 = 10;

/// Added to each deadline: what a busy machine and a bad network may need beside the computing.
const DEADLINE_SLACK: Duration = Duration::from_secs(2);

/// Most steps in flight where `capacity` of them count: cancelled ones pass the stages quickly, but
/// not at once.
pub(super) fn max_steps(capacity: usize) -> usize {
    2 * capacity
}

/// A step that was sent and not yet reported.
pub(super) struct SentStep {
    pub(super) step: StepId,
    pub(super) parts: Vec<RequestRows>,
    n_rows: usize,
    /// What it costs by the profiles.
    pub(super) work: Work,
    pub(super) sent: Instant,
    /// Whether nothing else was in flight while it was, so that its latency is its own.
    pub(super) alone: bool,
}

impl SentStep {
    /// Whether all of it was cancelled.
    fn is_dead(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.is_dead)
    }

    /// What each request's rows are of all.
    pub(super) fn shares(&self) -> impl Iterator<Item = (RequestId, Share)> {
        let n_rows: usize = self.parts.iter().map(|part| part.n_rows).sum();
        self.parts.iter().map(move |part| {
            let share = Share {
                of_rows: part.n_rows as f64 / n_rows as f64,
                is_prompt: part.is_prompt,
            };
            (part.request, share)
        })
    }

    /// Whether stages may have left out rows of it.
    pub(super) fn is_whole(&self) -> bool {
        !self.parts.iter().any(|part| part.is_dead)
    }
}

/// The steps in flight, oldest first.
pub(super) struct Flight {
    /// Credits: the most steps in flight that still count. A report gives one back.
    capacity: usize,
    steps: VecDeque<SentStep>,
    next_step: StepId,
    /// When the oldest step became the oldest: its deadline counts from here.
    head_since: Instant,
    /// The longest a row has taken, over the whole pipeline.
    worst_per_row: Option<Duration>,
    timeout: Duration,
    stats: StepStats,
}

/// What the steps of this head took so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepStats {
    /// Steps reported.
    pub n_steps: u64,
    /// Their rows.
    pub n_rows: u64,
    /// Most cells of the KV cache that were in use before a step.
    pub most_cells: u32,
    /// Time the engine of each stage worked, in microseconds.
    pub busy_us: Vec<u64>,
    /// Best time that a hop added to a step of one row, alone in the pipeline, in microseconds:
    /// (latency - engines' time) / (stages + 1), encoding, actors and link included.
    pub hop_us: Option<f64>,
}

impl Flight {
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            capacity: 0,
            steps: VecDeque::new(),
            next_step: StepId::default(),
            head_since: now,
            worst_per_row: None,
            timeout,
            stats: StepStats::default(),
        }
    }

    /// Forgets the steps of an epoch that is over.
    pub(super) fn restart(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.steps.clear();
        self.next_step = StepId::default();
    }

    /// Forgets how fast the stages were: they have moved.
    pub(super) fn forget_speed(&mut self) {
        self.worst_per_row = None;
    }

    /// Steps under way that are not all dead.
    fn live(&self) -> impl Iterator<Item = &SentStep> {
        self.steps.iter().filter(|step| !step.is_dead())
    }

    pub(super) fn under_way(&self, now: Instant) -> Vec<UnderWay> {
        let under_way = self.live().map(|step| UnderWay {
            work: step.work,
            since_ns: now.duration_since(step.sent).as_nanos() as u64,
        });
        under_way.collect()
    }

    pub(super) fn has_credit(&self) -> bool {
        self.live().count() < self.capacity && self.steps.len() < max_steps(self.capacity)
    }

    /// Steps under way in which tokens are generated.
    pub(super) fn n_decoding(&self) -> usize {
        let decodes = |part: &RequestRows| part.is_judged && !part.is_prompt && !part.is_dead;
        let steps = self.steps.iter();
        steps.filter(|step| step.parts.iter().any(decodes)).count()
    }

    /// The next step to be sent.
    pub(super) fn next_step(&self) -> StepId {
        self.next_step
    }

    /// The oldest step under way, or the next one.
    pub(super) fn oldest(&self) -> StepId {
        self.steps
            .front()
            .map_or(self.next_step, |oldest| oldest.step)
    }

    /// All rows of a request that are under way are dead: stages leave them out.
    pub(super) fn cancel(&mut self, request: RequestId) {
        for step in &mut self.steps {
            for part in &mut step.parts {
                part.is_dead |= part.request == request;
            }
        }
    }

    /// Rows of a request that are under way are nobody's: it has left its slot, and may come back.
    pub(super) fn disown(&mut self, request: RequestId) {
        for step in &mut self.steps {
            for part in &mut step.parts {
                part.is_judged &= part.request != request;
            }
        }
    }

    /// Takes a credit for a step that is sent now.
    pub(super) fn send(&mut self, parts: Vec<RequestRows>, work: Work, now: Instant) -> StepId {
        let step = self.next_step;
        self.next_step = step.next();
        let alone = self.steps.is_empty();
        if alone {
            self.head_since = now;
        }
        self.steps.push_back(SentStep {
            step,
            parts,
            n_rows: work.rows as usize,
            work,
            sent: now,
            alone,
        });
        step
    }

    /// Gives back the credit of the oldest step, which has to be the reported one.
    ///
    /// # Errors
    /// With the step that was expected, when a report is missing. `Ok(None)` is a repeat.
    pub(super) fn report(
        &mut self,
        step: StepId,
        timings: &[StageTiming],
        now: Instant,
    ) -> Result<Option<SentStep>, StepId> {
        let expected = self.oldest();
        if step < expected {
            return Ok(None);
        }
        if step > expected || self.steps.is_empty() {
            return Err(expected);
        }
        let Some(mut done) = self.steps.pop_front() else {
            return Err(expected);
        };
        done.alone &= self.steps.is_empty();
        let took = now.duration_since(self.head_since);
        let per_row = took / u32::try_from(done.n_rows.max(1)).unwrap_or(u32::MAX);
        self.worst_per_row = Some(
            self.worst_per_row
                .map_or(per_row, |worst| worst.max(per_row)),
        );
        self.head_since = now;
        self.count(&done, timings, now);
        Ok(Some(done))
    }

    fn count(&mut self, done: &SentStep, timings: &[StageTiming], now: Instant) {
        self.stats.n_steps += 1;
        self.stats.n_rows += done.n_rows as u64;
        self.stats.most_cells = self.stats.most_cells.max(done.work.cells);
        self.stats
            .busy_us
            .resize(timings.len().max(self.stats.busy_us.len()), 0);
        for timing in timings {
            if let Some(busy) = self.stats.busy_us.get_mut(timing.stage as usize) {
                *busy += timing.busy_us;
            }
        }
        if done.alone && done.n_rows == 1 {
            let busy: u64 = timings.iter().map(|timing| timing.busy_us).sum();
            let latency = now.duration_since(done.sent).as_secs_f64() * 1e6;
            let hop = (latency - busy as f64) / (timings.len() + 1) as f64;
            self.stats.hop_us = Some(self.stats.hop_us.map_or(hop, |best| best.min(hop)));
        }
    }

    /// How long the oldest step is overdue with nothing heard, if it is.
    pub(super) fn overdue(&self, now: Instant) -> Option<Duration> {
        let oldest = self.steps.front()?;
        let rows = u32::try_from(oldest.n_rows).unwrap_or(u32::MAX);
        let allowed = self.worst_per_row.map_or(self.timeout, |worst| {
            let expected = worst.saturating_mul(rows).saturating_mul(DEADLINE_FACTOR);
            expected.saturating_add(DEADLINE_SLACK).min(self.timeout)
        });
        let waited = now.duration_since(self.head_since);
        (waited > allowed).then_some(waited)
    }

    pub(super) fn stats(&self) -> &StepStats {
        &self.stats
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn credits_come_back_in_order_and_repeats_are_told_from_gaps() {
        let now = Instant::now();
        let mut flight = Flight::new(Duration::from_secs(60), now);
        flight.restart(2);
        assert_eq!(flight.send(Vec::new(), Work::chunk(1, 0), now), StepId(0));
        assert_eq!(flight.send(Vec::new(), Work::chunk(1, 0), now), StepId(1));
        assert!(!flight.has_credit());
        assert_eq!(flight.report(StepId(1), &[], now).err(), Some(StepId(0)));
        assert!(flight.report(StepId(0), &[], now).unwrap().is_some());
        assert!(flight.report(StepId(0), &[], now).unwrap().is_none());
        assert!(flight.has_credit());
        assert!(flight.report(StepId(1), &[], now).unwrap().is_some());
        assert_eq!(flight.report(StepId(2), &[], now).err(), Some(StepId(2)));
    }

    #[test]
    fn a_step_whose_requests_are_all_cancelled_takes_no_credit() {
        let now = Instant::now();
        let mut flight = Flight::new(Duration::from_secs(60), now);
        flight.restart(1);
        let part = |request| RequestRows {
            request: RequestId(request),
            n_rows: 1,
            is_prompt: false,
            is_judged: true,
            is_dead: false,
        };
        flight.send(vec![part(1), part(2)], Work::chunk(2, 0), now);
        flight.cancel(RequestId(2));
        assert!(!flight.has_credit(), "the other request's row counts");
        flight.cancel(RequestId(1));
        assert!(flight.has_credit());
        flight.send(vec![part(3)], Work::chunk(1, 0), now);
        let mut report = |step| flight.report(StepId(step), &[], now).unwrap().unwrap();
        assert!(!report(0).is_whole());
        assert!(report(1).is_whole());
    }

    #[test]
    fn a_deadline_follows_the_measured_speed_up_to_the_limit() {
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        let mut flight = Flight::new(60 * second, begin);
        flight.restart(2);
        flight.send(Vec::new(), Work::chunk(10, 0), begin);
        assert_eq!(
            flight.overdue(begin + 60 * second),
            None,
            "nothing is known of the speed"
        );
        flight.report(StepId(0), &[], begin + second).unwrap();
        flight.send(Vec::new(), Work::chunk(10, 0), begin + second);
        // 10 rows took 1 s: ten times that and the slack.
        assert_eq!(flight.overdue(begin + 13 * second), None);
        assert!(flight.overdue(begin + 14 * second).is_some());
    }
}
