//! One time for machines whose clocks differ.
//!
//! A step cannot reach a stage before the one before it was done with it, nor the first before it
//! was sent, nor be back before the last was done. All steps together bound what has to be added
//! to each stage's clock from both sides; the smallest shift within the bounds is taken, which is
//! none where the clocks agree to within the time on the way.

/// One step on the clocks of those that it passed, in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passage {
    /// Sent, on the head's clock.
    pub sent: i128,
    /// Reported, on the head's clock.
    pub reported: i128,
    /// When it reached each stage and left it, on that stage's clock.
    pub stages: Vec<(i128, i128)>,
}

/// What to add to the clock of each of `n_stages` stages, so that every step goes forward in time.
///
/// Where that is impossible, since a clock was set meanwhile, the order of the stages is kept and
/// that of the last stage and the report is not.
pub(super) fn shifts(passages: &[Passage], n_stages: usize) -> Vec<i128> {
    if passages.is_empty() {
        return vec![0; n_stages];
    }
    let most = |of: &dyn Fn(&Passage) -> i128| passages.iter().map(of).max().unwrap_or(0);
    // How much more has to be added to the clock of stage k than to that of the one before it.
    let more = |k: usize| match k.checked_sub(1) {
        None => most(&|p| p.sent - p.stages[0].0),
        Some(before) => most(&|p| p.stages[before].1 - p.stages[k].0),
    };
    let mut upper = vec![0; n_stages];
    for k in (0..n_stages).rev() {
        upper[k] = if k + 1 == n_stages {
            -most(&|p| p.stages[k].1 - p.reported)
        } else {
            upper[k + 1] - more(k + 1)
        };
    }
    let mut shifts = Vec::with_capacity(n_stages);
    let mut before = 0;
    for (k, upper) in upper.into_iter().enumerate() {
        before = upper.min(0).max(before + more(k));
        shifts.push(before);
    }
    shifts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passage(sent: i128, stages: &[(i128, i128)], reported: i128) -> Passage {
        Passage {
            sent,
            reported,
            stages: stages.to_vec(),
        }
    }

    #[test]
    fn the_smallest_shift_that_all_steps_allow_is_taken() {
        // Stage 1's clock is 1000 behind: its steps arrive before they left stage 0.
        let steps = [
            passage(0, &[(10, 50), (-930, -900)], 130),
            passage(20, &[(50, 90), (-895, -850)], 180),
        ];
        assert_eq!(shifts(&steps, 2), [0, 985]);
        // And 1000 ahead: it is done only after its report was back.
        let steps = [passage(0, &[(10, 50), (1070, 1100)], 130)];
        assert_eq!(shifts(&steps, 2), [0, -970]);
        assert_eq!(shifts(&[], 3), [0, 0, 0]);
    }

    /// Steps that really went forward, and how far each stage's clock is off.
    fn truth() -> impl Strategy<Value = (Vec<Passage>, Vec<i128>)> {
        (1..5_usize).prop_flat_map(|n_stages| {
            let times = proptest::collection::vec(0..1000_i64, 2 * n_stages + 2);
            let offsets = proptest::collection::vec(-10_000..10_000_i64, n_stages);
            (proptest::collection::vec(times, 1..20), offsets).prop_map(|(steps, offsets)| {
                let passages = steps.into_iter().map(|took| {
                    let mut now = 0;
                    let mut next = took.into_iter().map(|took| {
                        now += i128::from(took);
                        now
                    });
                    let mut next = || next.next().unwrap_or_default();
                    let sent = next();
                    let stages = offsets.iter().map(|_| (next(), next())).collect();
                    Passage {
                        sent,
                        stages,
                        reported: next(),
                    }
                });
                let offsets = offsets.iter().copied().map(i128::from).collect();
                (passages.collect(), offsets)
            })
        })
    }

    fn shifted(passages: &[Passage], by: &[i128]) -> Vec<Passage> {
        let mut passages = passages.to_vec();
        for passage in &mut passages {
            for (stage, by) in passage.stages.iter_mut().zip(by) {
                *stage = (stage.0 + by, stage.1 + by);
            }
        }
        passages
    }

    proptest! {
        #[test]
        fn every_step_goes_forward_in_time_whatever_the_clocks_say((true_steps, offsets) in truth()) {
            let n_stages = offsets.len();
            prop_assert_eq!(shifts(&true_steps, n_stages), vec![0; n_stages]);
            let seen = shifted(&true_steps, &offsets);
            let found = shifts(&seen, n_stages);
            prop_assert!(found[0].abs() <= offsets[0].abs());
            for step in shifted(&seen, &found) {
                let mut last = step.sent;
                for (arrived, ended) in step.stages {
                    prop_assert!(last <= arrived, "{last} then {arrived}");
                    last = ended;
                }
                prop_assert!(last <= step.reported);
            }
        }
    }
}
