//! When what is beside the Verifier is asked for guesses.

use super::Speculator;
use super::used::{Source, Used};
use crate::speculation::shape::choose::PROBE_EVERY;

/// What probes of heads may take of the time of steps, unless they would be too rare then.
const MOST_FOR_PROBES: f64 = 0.02;
/// Steps between two of them at most.
const MOST_BETWEEN_PROBES: u32 = 32;

impl Speculator {
    /// At how many places behind the next token what is beside the Verifier is to guess: as many as may be
    /// where it is in use, and one where it is time to see whether it would be right.
    pub(in crate::planner) fn n_places(&self) -> u8 {
        let is_heads = |used: &Used| matches!(used.source, Source::Heads(_));
        let Some(heads) = self.used.iter().position(is_heads) else {
            return 0;
        };
        let most = u8::try_from(self.params.draft_max).unwrap_or(u8::MAX);
        match self.chosen.iter().any(|&(at, _)| at == heads) {
            true => most,
            false => most.min(u8::from(self.n_without_heads >= self.probe_heads_after())),
        }
    }

    /// After how many steps without guesses of heads they are asked for one: it is computed, so that a block
    /// of the model that is often wrong should not be asked as often as what is here at no cost.
    fn probe_heads_after(&self) -> u32 {
        let step_ns = self.costs.of(1).map_or(0, |step| step.alone) as f64;
        let steps = self.costs.heads_ns / (MOST_FOR_PROBES * step_ns.max(1.0));
        (steps as u32).clamp(PROBE_EVERY, MOST_BETWEEN_PROBES) - 1
    }

    /// A step was sent, in which heads guess if that was wanted.
    pub(in crate::planner) fn step_sent(&mut self) {
        self.n_without_heads = match self.n_places() {
            0 => self.n_without_heads.saturating_add(1),
            _ => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::Available;
    use super::*;
    use crate::message::{DraftKind, HeadsTiming, StageTiming};
    use crate::planner::batching::step_times::{CostsOf, StepTimes};
    use crate::planning::cost::Work;
    use crate::request::{DraftChoice, SpeculationParams};

    /// Of 200 steps that take 1 ms, in how many heads that take so long are probed.
    fn n_probes(guessed_us: u64) -> usize {
        let heads = HeadsTiming {
            told_us: 0,
            guessed_us,
        };
        let stage = StageTiming {
            stage: 0,
            began_us: 0,
            waited_us: 0,
            busy_us: 1000,
        };
        let mut times = StepTimes::new(None, 1);
        let latency = Duration::from_micros(1000 + guessed_us);
        times.observe(Work::decode(1, 0), &[stage], Some(latency), heads);
        let costs = times.costs(&CostsOf {
            max_rows: 1,
            context: 0,
            cells: 0,
            decode_batch_size: 1,
            n_batches: 1,
        });
        let available = Available {
            heads: Some(DraftKind::Mtp),
            model: false,
        };
        let params = SpeculationParams {
            source: DraftChoice::Mtp,
            ..SpeculationParams::default()
        };
        let mut speculator = Speculator::new(params, available, &[1, 2]);
        speculator.costs = Arc::new(costs);
        let is_asked = |_: &usize| {
            let asked = speculator.n_places() > 0;
            speculator.step_sent();
            asked
        };
        (0..200).filter(is_asked).count()
    }

    #[test]
    fn heads_that_take_long_are_probed_rarely() {
        let n_probes = [10, 200, 5000].map(n_probes);
        assert_eq!(n_probes, [50, 20, 7]);
    }
}
