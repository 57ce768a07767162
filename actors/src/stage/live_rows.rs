//! Which rows of a step are still to be computed.

use std::sync::atomic::{AtomicU64, Ordering};

use jupiter_models::Row;

use crate::StepId;
use crate::message::{CancelRows, DraftRows, StepHeader};
use crate::speculation::inflight::StageGate;

/// Each sequence's gates. The Stage cancels, its engine thread asks.
pub(crate) struct LiveRows {
    gates: Vec<StageGate>,
    /// In steps before, all rows of the sequence are dead.
    live_from_step: Vec<AtomicU64>,
}

impl LiveRows {
    pub(crate) fn new(n_seq_max: u32) -> Self {
        Self {
            gates: (0..n_seq_max).map(|_| StageGate::default()).collect(),
            live_from_step: (0..n_seq_max).map(|_| AtomicU64::default()).collect(),
        }
    }

    /// All rows of a new epoch are live.
    pub(crate) fn clear(&self) {
        self.gates.iter().for_each(StageGate::clear);
        for step in &self.live_from_step {
            step.store(0, Ordering::Release);
        }
    }

    /// A cancel came; a late or repeated one changes nothing.
    pub(crate) fn cancel(&self, cancel: CancelRows) {
        if let Some(gate) = self.gates.get(cancel.seq.0 as usize) {
            gate.cancel(cancel.live_from);
        }
        if let Some(step) = self.live_from_step.get(cancel.seq.0 as usize) {
            step.fetch_max(cancel.live_from_step.0, Ordering::AcqRel);
        }
    }

    /// Whether all rows of the row's sequence are dead in this step.
    fn is_over(&self, row: &Row, step: StepId) -> bool {
        let seq = row.seq_ids.first().map(|seq| seq.0 as usize);
        let live_from = seq.and_then(|seq| self.live_from_step.get(seq));
        live_from.is_some_and(|live_from| step.0 < live_from.load(Ordering::Acquire))
    }

    fn is_live(&self, draft: &DraftRows) -> bool {
        let gate = self.gates.get(draft.seq.0 as usize);
        gate.is_none_or(|gate| gate.is_live(draft.generation))
    }

    /// Whether no row of a step is dead.
    pub(crate) fn are_live(&self, header: &StepHeader) -> bool {
        let is_over = |row: &Row| self.is_over(row, header.step);
        header.drafts.iter().all(|draft| self.is_live(draft)) && !header.rows.iter().any(is_over)
    }

    /// Takes dead rows out of a step. The indices of the rows that stay; none when all do.
    pub(crate) fn retain(&self, header: &mut StepHeader) -> Option<Vec<usize>> {
        if self.are_live(header) {
            return None;
        }
        let is_over = |row: &Row| self.is_over(row, header.step);
        let mut dead: Vec<bool> = header.rows.iter().map(is_over).collect();
        header.drafts.retain(|draft| {
            let is_live = self.is_live(draft);
            if let Some(rows) = dead.get_mut(draft.rows()).filter(|_| !is_live) {
                rows.fill(true);
            }
            is_live
        });
        let kept: Vec<usize> = (0..dead.len()).filter(|&row| !dead[row]).collect();
        for draft in &mut header.drafts {
            let first = kept.partition_point(|&row| row < draft.first_row as usize);
            draft.first_row = first as u32;
        }
        let mut index = 0;
        header.rows.retain(|_| {
            index += 1;
            !dead[index - 1]
        });
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use jupiter_models::{Row, SequenceId};

    use super::*;
    use crate::PlanEpoch;

    /// Rows of three sequences: two, three (a root and two guesses) and one.
    fn header() -> StepHeader {
        let row = |seq: u32, pos| Row {
            seq_ids: vec![SequenceId(seq)],
            pos,
            token: pos as i32,
            wants_logits: true,
        };
        let draft = |seq, generation, first_row, parents: &[u16]| DraftRows {
            seq: SequenceId(seq),
            generation,
            first_row,
            parents: parents.to_vec(),
            n_places: 0,
        };
        StepHeader {
            epoch: PlanEpoch(1),
            rows: vec![
                row(0, 5),
                row(0, 6),
                row(1, 7),
                row(1, 8),
                row(1, 8),
                row(2, 9),
            ],
            drafts: vec![
                draft(0, 0, 0, &[0]),
                draft(1, 3, 2, &[0, 0]),
                draft(2, 0, 5, &[]),
            ],
            ..StepHeader::default()
        }
    }

    fn cancel(seq: u32, live_from: u32) -> CancelRows {
        CancelRows {
            epoch: PlanEpoch(1),
            seq: SequenceId(seq),
            live_from,
            live_from_step: StepId(0),
        }
    }

    #[test]
    fn dead_rows_leave_their_step_and_the_others_stay_in_order() {
        let live = LiveRows::new(3);
        let mut step = header();
        live.cancel(cancel(1, 3));
        assert_eq!(live.retain(&mut step), None, "the third is live");
        live.cancel(cancel(1, 4));
        live.cancel(cancel(1, 2));
        live.cancel(cancel(9, 7));
        assert_eq!(live.retain(&mut step), Some(vec![0, 1, 5]));
        let positions: Vec<_> = step.rows.iter().map(|row| row.pos).collect();
        assert_eq!(positions, [5, 6, 9]);
        let firsts: Vec<_> = step.drafts.iter().map(|d| (d.seq.0, d.first_row)).collect();
        assert_eq!(firsts, [(0, 0), (2, 2)]);
        live.clear();
        assert_eq!(live.retain(&mut header()), None);
    }

    #[test]
    fn rows_of_a_prompt_that_was_given_up_leave_the_steps_before_its_end() {
        let live = LiveRows::new(3);
        live.cancel(CancelRows {
            live_from_step: StepId(5),
            ..cancel(0, 1)
        });
        let prompt = |step| StepHeader {
            step: StepId(step),
            drafts: header().drafts.split_off(1),
            ..header()
        };
        assert_eq!(live.retain(&mut prompt(4)), Some(vec![2, 3, 4, 5]));
        assert_eq!(
            live.retain(&mut prompt(5)),
            None,
            "another one has the slot"
        );
        live.clear();
        assert_eq!(live.retain(&mut prompt(0)), None);
    }

    #[test]
    fn rows_that_are_not_there_hurt_nobody() {
        let live = LiveRows::new(3);
        live.cancel(cancel(1, 9));
        let mut step = header();
        step.drafts[1].first_row = u32::MAX;
        assert_eq!(live.retain(&mut step).map(|kept| kept.len()), Some(6));
    }
}
