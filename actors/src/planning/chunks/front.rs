//! The ways to a boundary that may still turn out best.

/// The first share that is tried when a front is too large; a ten-thousandth is below what any
/// measurement tells apart. Doubled until the front is small enough.
const FIRST_SHARE: f64 = 1e-4;

/// One way to a boundary.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// When each server is free.
    pub(super) free_ns: Vec<u64>,
    /// Their sum: a vector that is nowhere later has no larger one.
    pub(super) sum_ns: u128,
    /// Chunks up to the boundary.
    pub(super) n_chunks: u32,
    /// Boundary and vector before the last chunk.
    pub(super) from: (u32, u32),
    /// The last chunk on the reference server: what errors may be a share of.
    pub(super) slack_ns: u64,
}

/// How a kept vector came to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) n_chunks: u32,
    pub(super) from: (u32, u32),
}

/// The vectors kept for a boundary.
#[derive(Clone, Debug)]
pub(super) struct Front {
    n_servers: usize,
    free_ns: Vec<u64>,
    steps: Vec<Step>,
    /// What was given up for a small front.
    pub(super) share: f64,
}

impl Front {
    /// Before the first chunk all servers are free.
    pub(super) fn empty_pipeline(n_servers: usize) -> Front {
        Front {
            n_servers,
            free_ns: vec![0; n_servers],
            steps: vec![Step::default()],
            share: 0.0,
        }
    }

    /// Keeps at most `max_front` candidates. Begins with half the share that the boundary before
    /// needed, to be exact again where that is possible.
    pub(super) fn of(
        candidates: &mut [Candidate],
        n_servers: usize,
        last_share: f64,
        max_front: usize,
    ) -> Front {
        candidates.sort_unstable_by(|a, b| {
            (a.sum_ns, a.n_chunks, a.from).cmp(&(b.sum_ns, b.n_chunks, b.from))
        });
        let mut share = last_share / 2.0;
        if share < FIRST_SHARE {
            share = 0.0;
        }
        loop {
            if let Some(front) = Front::with_share(candidates, n_servers, share, max_front) {
                return front;
            }
            share = (share * 2.0).max(FIRST_SHARE);
        }
    }

    /// None if more than `max_front` are left.
    fn with_share(
        candidates: &[Candidate],
        n_servers: usize,
        share: f64,
        max_front: usize,
    ) -> Option<Front> {
        let mut front = Front {
            n_servers,
            free_ns: Vec::new(),
            steps: Vec::new(),
            share,
        };
        // In order of their sums, so that none is nowhere later than one that was kept before.
        for candidate in candidates {
            let slack = (candidate.slack_ns as f64 * share) as u64;
            let is_no_better = |kept: &[u64]| {
                let pairs = kept.iter().zip(&candidate.free_ns);
                pairs.rev().all(|(kept, ns)| *kept <= ns + slack)
            };
            if front.free_ns.chunks_exact(n_servers).any(is_no_better) {
                continue;
            }
            if front.len() == max_front {
                return None;
            }
            front.free_ns.extend(&candidate.free_ns);
            front.steps.push(Step {
                n_chunks: candidate.n_chunks,
                from: candidate.from,
            });
        }
        Some(front)
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(super) fn free_ns(&self, label: usize) -> &[u64] {
        &self.free_ns[label * self.n_servers..(label + 1) * self.n_servers]
    }

    pub(super) fn step(&self, label: usize) -> Step {
        self.steps[label]
    }
}
