//! Which rows and operations a KV cache can take; llama.cpp would abort on some of the others.

use std::collections::BTreeMap;

use super::bad_step;
use crate::{KvOp, Result, Row, SequenceId};

/// Positions are `llama_pos`, an i32.
const MAX_POSITION: u32 = i32::MAX as u32 - 1;

/// Checks `rows` against the sequences of a cache: `positions` gives the first and last cached
/// position of a sequence. These are the conditions of `llama_batch_allocr::init`
/// (llama-batch.cpp), and stricter in two points: a new sequence starts at position 0, and a
/// position occurs once in a sequence.
pub(super) fn check_rows(
    rows: &[Row],
    n_rows_max: u32,
    n_seq_max: u32,
    positions: impl Fn(SequenceId) -> Option<(u32, u32)>,
) -> Result<()> {
    if rows.is_empty() || rows.len() > n_rows_max as usize {
        return Err(bad_step(format!(
            "{} rows: 1 to {n_rows_max} are possible",
            rows.len()
        )));
    }
    // The next position of each sequence that the rows meet.
    let mut next: BTreeMap<SequenceId, u32> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        if row.pos > MAX_POSITION {
            return Err(bad_step(format!(
                "row {i} has position {}, beyond 2^31 - 2",
                row.pos
            )));
        }
        let Some(&first) = row.seq_ids.first() else {
            return Err(bad_step(format!("row {i} belongs to no sequence")));
        };
        for (k, &seq) in row.seq_ids.iter().enumerate() {
            check_sequence(seq, n_seq_max)?;
            if row.seq_ids[..k].contains(&seq) {
                return Err(bad_step(format!("row {i} names sequence {seq} twice")));
            }
            if seq != first && positions(seq) != positions(first) {
                return Err(bad_step(format!(
                    "row {i} is shared by {first} and {seq}, whose cached positions differ: fork first"
                )));
            }
            let expected = next
                .entry(seq)
                .or_insert_with(|| positions(seq).map_or(0, |(_, last)| last + 1));
            if row.pos != *expected {
                return Err(bad_step(format!(
                    "row {i} has position {} of {seq}, expected {expected}",
                    row.pos
                )));
            }
            *expected += 1;
        }
    }
    Ok(())
}

/// Checks an operation on a cache whose layers may have forgotten what a sliding window of `n_swa`
/// positions no longer needs.
pub(super) fn check_op(
    op: KvOp,
    n_seq_max: u32,
    n_swa: Option<u32>,
    positions: impl Fn(SequenceId) -> Option<(u32, u32)>,
) -> Result<()> {
    match op {
        KvOp::Drop { seq } => check_sequence(seq, n_seq_max),
        KvOp::Truncate { seq, pos } => {
            check_sequence(seq, n_seq_max)?;
            check_window(seq, pos, n_swa, positions(seq))
        }
        KvOp::Fork { src, dst, len } => {
            check_sequence(src, n_seq_max)?;
            check_sequence(dst, n_seq_max)?;
            if src == dst {
                return Err(bad_step(format!("{src} cannot be forked into itself")));
            }
            let n_cached = positions(src).map_or(0, |(_, last)| last + 1);
            if len > n_cached {
                return Err(bad_step(format!(
                    "{len} positions of {src} cannot be forked, it has {n_cached}"
                )));
            }
            check_window(src, len, n_swa, positions(src))
        }
    }
}

fn check_sequence(seq: SequenceId, n_seq_max: u32) -> Result<()> {
    if seq.0 < n_seq_max {
        return Ok(());
    }
    Err(bad_step(format!(
        "sequence {seq} is not below {n_seq_max} (-np)"
    )))
}

/// A sequence that goes on at `pos` needs the window before it. Sliding layers reuse cells that no
/// later position can see, so after a long way back they may be gone.
fn check_window(
    seq: SequenceId,
    pos: u32,
    n_swa: Option<u32>,
    cached: Option<(u32, u32)>,
) -> Result<()> {
    let (Some(n_swa), Some((first, last))) = (n_swa, cached) else {
        return Ok(());
    };
    // Position `pos` sees back to `pos - n_swa + 1`.
    if pos == 0 || pos > last || first <= (pos + 1).saturating_sub(n_swa) {
        return Ok(());
    }
    Err(bad_step(format!(
        "{seq} cannot go back to position {pos}: its sliding window begins at {first}; drop it and \
         compute it again"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(seqs: &[u32], pos: u32) -> Row {
        Row {
            seq_ids: seqs.iter().map(|&s| SequenceId(s)).collect(),
            pos,
            token: 0,
            wants_logits: false,
        }
    }

    /// Sequences 0 and 1 hold positions 0..=4, 2 holds 3..=9, the others nothing.
    fn cached(seq: SequenceId) -> Option<(u32, u32)> {
        match seq.0 {
            0 | 1 => Some((0, 4)),
            2 => Some((3, 9)),
            _ => None,
        }
    }

    #[test]
    fn rows_that_go_on_are_taken_and_others_named() {
        let check = |rows: &[Row]| check_rows(rows, 4, 8, cached).map_err(|e| e.to_string());
        assert_eq!(
            check(&[row(&[0], 5), row(&[0], 6), row(&[2], 10), row(&[3], 0)]),
            Ok(())
        );
        assert_eq!(
            check(&[row(&[0, 1], 5), row(&[0], 6), row(&[1], 6)]),
            Ok(())
        );
        assert_eq!(
            check(&[row(&[3, 4], 0), row(&[3], 1), row(&[4], 1)]),
            Ok(())
        );
        let refuse = |rows: &[Row], message: &str| assert_eq!(check(rows).unwrap_err(), message);
        refuse(&[], "bad step: 0 rows: 1 to 4 are possible");
        refuse(
            &vec![row(&[0], 5); 5],
            "bad step: 5 rows: 1 to 4 are possible",
        );
        refuse(&[row(&[], 0)], "bad step: row 0 belongs to no sequence");
        refuse(
            &[row(&[8], 0)],
            "bad step: sequence s8 is not below 8 (-np)",
        );
        refuse(
            &[row(&[0, 0], 5)],
            "bad step: row 0 names sequence s0 twice",
        );
        refuse(
            &[row(&[0], 4)],
            "bad step: row 0 has position 4 of s0, expected 5",
        );
        refuse(
            &[row(&[0], 5), row(&[0], 5)],
            "bad step: row 1 has position 5 of s0, expected 6",
        );
        refuse(
            &[row(&[3], 1)],
            "bad step: row 0 has position 1 of s3, expected 0",
        );
        refuse(
            &[row(&[0, 2], 5)],
            "bad step: row 0 is shared by s0 and s2, whose cached positions differ: fork first",
        );
        refuse(
            &[row(&[0], u32::MAX)],
            "bad step: row 0 has position 4294967295, beyond 2^31 - 2",
        );
    }

    #[test]
    fn operations_beyond_what_is_cached_are_refused() {
        let [s0, s2, s3, s9] = [0, 2, 3, 9].map(SequenceId);
        let check = |op, n_swa| check_op(op, 8, n_swa, cached).map_err(|error| error.to_string());
        assert_eq!(check(KvOp::Truncate { seq: s0, pos: 2 }, None), Ok(()));
        assert_eq!(check(KvOp::Truncate { seq: s3, pos: 7 }, Some(4)), Ok(()));
        assert_eq!(
            check(
                KvOp::Fork {
                    src: s0,
                    dst: s3,
                    len: 5
                },
                Some(4)
            ),
            Ok(())
        );
        // Of 2 the positions before 3 are gone: with a window of 4, position 6 sees 3..=6.
        assert_eq!(check(KvOp::Truncate { seq: s2, pos: 6 }, Some(4)), Ok(()));
        assert_eq!(check(KvOp::Truncate { seq: s2, pos: 0 }, Some(4)), Ok(()));
        assert!(check(KvOp::Truncate { seq: s2, pos: 5 }, Some(4)).is_err());
        assert!(
            check(
                KvOp::Fork {
                    src: s2,
                    dst: s3,
                    len: 5
                },
                Some(4)
            )
            .is_err()
        );
        let refuse = |op, message: &str| assert_eq!(check(op, None).unwrap_err(), message);
        refuse(
            KvOp::Drop { seq: s9 },
            "bad step: sequence s9 is not below 8 (-np)",
        );
        refuse(
            KvOp::Fork {
                src: s0,
                dst: s0,
                len: 1,
            },
            "bad step: s0 cannot be forked into itself",
        );
        refuse(
            KvOp::Fork {
                src: s0,
                dst: s3,
                len: 6,
            },
            "bad step: 6 positions of s0 cannot be forked, it has 5",
        );
    }
}
