//! Which rows go into a call of llama.cpp together, where a model has recurrent layers.
//!
//! llama.cpp cuts a batch into parts in which each set of sequences has equally many rows, one set
//! after the other (`split_equal` in llama-batch.cpp), and computes each part by itself. The hidden states
//! of a batch are taken from one computation, in a known order: so each call is such a part.
//! `llama_memory_recurrent` alone, without keys of layers that attend, takes in a part only sequences whose
//! numbers follow each other.

use crate::SequenceId;

/// Rows of one set of sequences that follow each other.
struct Run<'a> {
    set: &'a [SequenceId],
    /// Indices of rows, those that are left.
    rows: Vec<usize>,
}

/// The calls for rows of these sets of sequences, each a list of their indices: at most `n_max` rows, of
/// sets without a common sequence, equally many of each, set after set; where `in_order`, of sequences that
/// follow each other. Rows of a sequence stay in order.
pub(super) fn of(sets: &[&[SequenceId]], n_max: usize, in_order: bool) -> Vec<Vec<usize>> {
    let mut runs = runs(sets);
    let mut calls = Vec::new();
    while !runs.is_empty() {
        let mut ready: Vec<usize> = (0..runs.len())
            .filter(|&at| {
                runs[..at]
                    .iter()
                    .all(|before| !meet(before.set, runs[at].set))
            })
            .collect();
        if in_order {
            ready.sort_by_key(|&at| runs[at].set.first().copied());
        }
        let n = runs[ready[0]].rows.len().min(n_max.max(1));
        let mut call: Vec<usize> = Vec::new();
        let mut last = None;
        for at in ready {
            let is_first = call.is_empty();
            let seq = runs[at].set.first().map(|seq| seq.0);
            let follows = !in_order || seq == last.map(|last| last + 1);
            let fits = runs[at].rows.len() == n && call.len() + n <= n_max;
            if is_first || fits && follows {
                call.extend(runs[at].rows.drain(..n));
                last = seq;
            }
        }
        calls.push(call);
        runs.retain(|run| !run.rows.is_empty());
    }
    calls
}

/// Rows of a set that no row of another set comes between, for one of its sequences.
fn runs<'a>(sets: &[&'a [SequenceId]]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for (row, &set) in sets.iter().enumerate() {
        let last = runs.iter_mut().rev().find(|run| meet(run.set, set));
        match last.filter(|run| run.set == set) {
            Some(run) => run.rows.push(row),
            None => runs.push(Run {
                set,
                rows: vec![row],
            }),
        }
    }
    runs
}

fn meet(a: &[SequenceId], b: &[SequenceId]) -> bool {
    a.iter().any(|seq| b.contains(seq))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(sets: &[&[u32]], n_max: usize, in_order: bool) -> Vec<Vec<usize>> {
        let sets: Vec<Vec<SequenceId>> = sets
            .iter()
            .map(|set| set.iter().map(|&seq| SequenceId(seq)).collect())
            .collect();
        let sets: Vec<&[SequenceId]> = sets.iter().map(|set| &**set).collect();
        of(&sets, n_max, in_order)
    }

    #[test]
    fn sequences_with_equally_many_rows_share_a_call() {
        assert_eq!(calls(&[&[0], &[1], &[2]], 8, false), [[0, 1, 2]]);
        assert_eq!(
            calls(&[&[0], &[2], &[1], &[4]], 8, true),
            [vec![0, 2, 1], vec![3]]
        );
        assert_eq!(
            calls(&[&[0], &[1], &[0], &[1], &[2]], 8, false),
            [vec![0, 2, 1, 3], vec![4]]
        );
        assert_eq!(
            calls(&[&[0_u32][..]; 5], 2, false),
            [vec![0, 1], vec![2, 3], vec![4]]
        );
        // A root that all share, then branches.
        assert_eq!(
            calls(&[&[0, 1], &[0], &[1], &[1]], 8, false),
            [vec![0], vec![1], vec![2, 3]]
        );
    }

    proptest! {
        #[test]
        fn calls_are_parts_as_llama_cpp_makes_them(
            sets in prop::collection::vec(prop::sample::subsequence(vec![0u32, 1, 2, 3, 4], 1..=3), 1..30),
            n_max in 1usize..9,
            in_order: bool,
        ) {
            let sets: Vec<&[u32]> = sets.iter().map(|set| &**set).collect();
            let calls = calls(&sets, n_max, in_order);
            let mut order: Vec<usize> = calls.concat();
            for seq in 0..5 {
                let of_seq = order.iter().filter(|&&row| sets[row].contains(&seq));
                prop_assert!(of_seq.is_sorted());
            }
            order.sort_unstable();
            prop_assert_eq!(order, (0..sets.len()).collect::<Vec<_>>());
            for call in &calls {
                prop_assert!(call.len() <= n_max);
                let parts: Vec<&[usize]> = call.chunk_by(|&a, &b| sets[a] == sets[b]).collect();
                let mut steps = parts.windows(2).map(|pair| sets[pair[1][0]][0] as i64 - sets[pair[0][0]][0] as i64);
                prop_assert!(!in_order || steps.all(|step| step == 1));
                for (i, part) in parts.iter().enumerate() {
                    prop_assert_eq!(part.len(), parts[0].len());
                    for other in &parts[..i] {
                        prop_assert!(sets[part[0]].iter().all(|seq| !sets[other[0]].contains(seq)));
                    }
                }
            }
        }
    }
}
