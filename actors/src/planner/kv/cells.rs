//! Which cells of the KV cache a sequence has, and how many several sequences have together.

/// The cells of a sequence in the order of its tokens: runs of cells that one sequence took. A fork has
/// the first runs of what it was forked from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells(Vec<Run>);

/// Cells that one sequence took, up to token `end` of its text; the run before is where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    taking: Taking,
    end: usize,
}

/// Counts the sequences that took cells. So a cell is known by who took it, and for which token.
pub(super) type Taking = u64;

impl Cells {
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |run| run.end)
    }

    /// Those of the first `n` tokens.
    pub(super) fn first(&self, n: usize) -> Self {
        let mut cells = self.clone();
        cells.shrink(n);
        cells
    }

    /// Gives up those behind the first `n` tokens.
    pub(super) fn shrink(&mut self, n: usize) {
        while let Some(run) = self.0.pop() {
            let begin = self.len();
            if n > begin {
                let end = run.end.min(n);
                return self.0.push(Run { end, ..run });
            }
        }
    }

    /// Has more cells, up to token `end`, of those that `taking` takes.
    pub(super) fn grow(&mut self, taking: Taking, end: usize) {
        let len = self.len();
        match self.0.last_mut() {
            Some(run) if run.taking == taking => run.end = len.max(end),
            _ if end > len => self.0.push(Run { taking, end }),
            _ => {}
        }
    }

    /// Cells at its end that none of the `others` has.
    pub(super) fn n_alone<'a>(&self, others: impl Iterator<Item = &'a Cells>) -> usize {
        let Some(last) = self.0.last() else {
            return 0;
        };
        let begin = self.len() - self.n_last();
        let of_last = |cells: &Cells| {
            let run = cells.0.iter().find(|run| run.taking == last.taking);
            run.map(|run| run.end)
        };
        let shared = others.filter_map(of_last).max().unwrap_or(begin);
        last.end.saturating_sub(shared.max(begin))
    }

    /// Cells of its last run.
    fn n_last(&self) -> usize {
        let before = self.0.len().checked_sub(2).and_then(|at| self.0.get(at));
        self.len() - before.map_or(0, |run| run.end)
    }

    /// Whether `other` has all of them.
    pub(super) fn are_within(&self, other: &Cells) -> bool {
        self.len() <= other.len() && other.first(self.len()) == *self
    }
}

/// How many cells all of these have, each counted once.
pub(super) fn n_distinct<'a>(all: impl Iterator<Item = &'a Cells>) -> usize {
    let mut runs = Vec::new();
    for cells in all {
        let mut begin = 0;
        for run in &cells.0 {
            runs.push((run.taking, run.end, run.end - begin));
            begin = run.end;
        }
    }
    // All runs of a taking begin with the same cell: the longest has the others in it.
    runs.sort_unstable();
    let longest = |at: usize| runs.get(at + 1).is_none_or(|next| next.0 != runs[at].0);
    let at = (0..runs.len()).filter(|&at| longest(at));
    at.map(|at| runs[at].2).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(runs: &[(Taking, usize)]) -> Cells {
        let mut cells = Cells::default();
        runs.iter()
            .for_each(|&(taking, end)| cells.grow(taking, end));
        cells
    }

    #[test]
    fn what_is_shared_counts_once() {
        let base = cells(&[(1, 10)]);
        let mut fork = base.first(6);
        fork.grow(2, 9);
        let mut other = fork.first(8);
        other.grow(3, 20);
        assert_eq!((fork.len(), other.len()), (9, 20));
        assert_eq!(n_distinct([&base, &fork, &other].into_iter()), 10 + 3 + 12);
        assert_eq!(n_distinct([&fork, &other].into_iter()), 6 + 3 + 12);
        assert_eq!(n_distinct(std::iter::empty()), 0);
    }

    #[test]
    fn the_end_that_nobody_shares_can_be_given_up() {
        let base = cells(&[(1, 10)]);
        let fork = cells(&[(1, 6), (2, 9)]);
        assert_eq!(base.n_alone([&fork].into_iter()), 4);
        assert_eq!(fork.n_alone([&base].into_iter()), 3);
        assert_eq!(base.first(6).n_alone([&fork].into_iter()), 0);
        assert!(base.first(5).are_within(&fork) && !base.are_within(&fork));
        let mut short = fork.clone();
        short.shrink(7);
        assert_eq!(short, cells(&[(1, 6), (2, 7)]));
        short.shrink(6);
        assert_eq!(short, base.first(6));
        short.shrink(0);
        assert_eq!(short.len(), 0);
    }
}
