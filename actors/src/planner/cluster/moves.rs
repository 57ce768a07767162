//! When the stages move to where they should be. A move stops everybody for as long as the stages
//! load and all streams are computed again; what made it worth while may be over then.

use std::time::{Duration, Instant};

use super::Cluster;
use crate::planner::PlannerConfig;

/// How long a better placement waits for a moment without streams; then they are replayed on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shortest time between two moves because of devices' speed. It doubles with each of them, so that
/// layers do not follow a device that is slow now and then.
const SHORTEST_REST: Duration = Duration::from_secs(60);

/// Longest such time; when as long has passed since the last rest it is the shortest again.
const LONGEST_REST: Duration = Duration::from_secs(32 * 60);

/// Why stages should be elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::planner) enum Cause {
    /// Nodes came.
    #[default]
    Nodes,
    /// A device does differently from the others.
    Speed,
}

/// Moves that were made, and the one that is wanted.
#[derive(Debug, Default)]
pub(in crate::planner) struct Moves {
    cause: Cause,
    /// Since when a better placement is known.
    better_since: Option<Instant>,
    /// When the move that is being made began.
    began: Option<Instant>,
    /// What the last one took until all stages were loaded.
    loading: Duration,
    /// When the last one because of speed was made, and how long it rests.
    last: Option<(Instant, Duration)>,
}

impl Moves {
    /// Where the stages should be may have changed.
    pub(in crate::planner) fn want(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// The stages move.
    pub(in crate::planner) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
        self.better_since = None;
        if std::mem::take(&mut self.cause) == Cause::Speed {
            let rest = match self.last {
                Some((last, rest)) if now.duration_since(last) < rest + LONGEST_REST => {
                    (2 * rest).min(LONGEST_REST)
                }
                _ => SHORTEST_REST,
            };
            self.last = Some((now, rest));
        }
    }

    /// All stages are loaded.
    pub(in crate::planner) fn loaded(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.loading = now.duration_since(began);
        }
    }

    fn rests(&self, now: Instant) -> bool {
        let last = self.last.filter(|_| self.cause == Cause::Speed);
        last.is_some_and(|(last, rest)| now.duration_since(last) < rest)
    }
}

impl Cluster {
    /// Looks where the stages should be, and since when they are not there.
    pub(in crate::planner) fn watch(&mut self, config: &PlannerConfig, now: Instant) {
        self.aim(config);
        self.moves.better_since = match self.is_on_target() {
            true => None,
            false => self.moves.better_since.or(Some(now)),
        };
    }

    /// Whether the stages are not where they should be, and it is worth while to move them now, where
    /// `n_cells` have to be computed again in chunks of `chunk` rows (none: nobody is disturbed).
    ///
    /// A better placement is expected to stay the better one for as long as it was so far: it pays
    /// when it would have saved what the move takes. So a program that runs for some seconds moves
    /// nothing, and no more time goes into moves than is lost by devices that got slow.
    pub(in crate::planner) fn is_time_to_move(
        &self,
        n_cells: Option<usize>,
        chunk: usize,
        now: Instant,
    ) -> bool {
        let Some(since) = self.moves.better_since else {
            return false;
        };
        if self.moves.rests(now) {
            return false;
        }
        let lasted = now.duration_since(since);
        n_cells.is_none_or(|n_cells| {
            lasted > PATIENCE && self.saved(lasted) >= self.cost_of_move(n_cells, chunk)
        })
    }

    /// What the better placement would have saved in that time.
    fn saved(&self, lasted: Duration) -> Duration {
        let gain = self.target.as_ref().and_then(|target| target.gain);
        // A placement that was not chosen by its figures is wanted whatever it takes.
        gain.map_or(Duration::MAX, |gain| lasted.mul_f64(gain))
    }

    /// How long everybody waits for a move: for the stages, and for all texts to be computed again.
    fn cost_of_move(&self, n_cells: usize, chunk: usize) -> Duration {
        let plan = self.target.as_ref().and_then(|target| target.plan.as_ref());
        let replay = plan.map_or(Duration::ZERO, |plan| {
            self.fleet.replay(plan, n_cells, chunk)
        });
        self.moves.loading + replay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_because_of_speed_rest_longer_each_time_and_those_of_nodes_never() {
        let begin = Instant::now();
        let mut moves = Moves::default();
        let mut now = begin;
        for minutes in [1, 2, 4, 8, 16, 32, 32] {
            moves.want(Cause::Speed);
            moves.begin(now);
            let rest = Duration::from_secs(60 * minutes);
            moves.want(Cause::Speed);
            assert!(moves.rests(now + rest - Duration::from_secs(1)));
            assert!(!moves.rests(now + rest));
            moves.want(Cause::Nodes);
            assert!(!moves.rests(now));
            now += rest;
        }
        // After as long a time without one it begins anew.
        now += 2 * LONGEST_REST;
        moves.want(Cause::Speed);
        moves.begin(now);
        moves.want(Cause::Speed);
        assert!(!moves.rests(now + SHORTEST_REST));
    }
}
