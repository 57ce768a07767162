//! When the stages move to where they should be. A move stops everybody for as long as the stages
//! load and all streams are computed again; what made it worth while may be over then.

use std::time::{Duration, Instant};

use super::PlannerCore;

/// How long a better placement waits for a moment without streams; then they are replayed on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shortest time between two moves because of devices' speed. It doubles with each of them, so that
/// layers do not follow a device that is slow now and then.
const SHORTEST_REST: Duration = Duration::from_secs(60);

/// Longest such time; when as long has passed since the last rest it is the shortest again.
const LONGEST_REST: Duration = Duration::from_secs(32 * 60);

/// Why stages should be elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nodes came.
    #[default]
    Nodes,
    /// A device does differently from the others.
    Speed,
}

/// Moves that were made, and the one that is wanted.
#[derive(Debug, Default)]
pub(super) struct Moves {
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
    pub(super) fn want(&mut self, cause: Cause) {
        self.cause = cause;
    }

    /// The stages move.
    pub(super) fn begin(&mut self, now: Instant) {
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
    pub(super) fn loaded(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.loading = now.duration_since(began);
        }
    }

    fn rests(&self, now: Instant) -> bool {
        let last = self.last.filter(|_| self.cause == Cause::Speed);
        last.is_some_and(|(last, rest)| now.duration_since(last) < rest)
    }
}

impl PlannerCore {
    /// Whether the stages are not where they should be, and it is worth while to move them now.
    ///
    /// A better placement is expected to stay the better one for as long as it was so far: it pays
    /// when it would have saved what the move takes. So a program that runs for some seconds moves
    /// nothing, and no more time goes into moves than is lost by devices that got slow.
    pub(super) fn is_time_to_move(&mut self, now: Instant) -> bool {
        if self.is_on_target() {
            self.moves.better_since = None;
            return false;
        }
        let since = *self.moves.better_since.get_or_insert(now);
        if self.moves.rests(now) {
            return false;
        }
        if self.live.is_empty() {
            return true;
        }
        let lasted = now.duration_since(since);
        lasted > PATIENCE && self.saved(lasted) >= self.cost_of_move()
    }

    /// What the better placement would have saved in that time.
    fn saved(&self, lasted: Duration) -> Duration {
        let gain = self.target.as_ref().and_then(|target| target.gain);
        // A placement that was not chosen by its figures is wanted whatever it takes.
        gain.map_or(Duration::MAX, |gain| lasted.mul_f64(gain))
    }

    /// How long everybody waits for a move: for the stages, and for all texts to be computed again.
    fn cost_of_move(&self) -> Duration {
        let plan = self.target.as_ref().and_then(|target| target.plan.as_ref());
        let replay = plan.map_or(Duration::ZERO, |plan| {
            let n_tokens = self.n_live_cells();
            self.fleet.replay(plan, n_tokens, self.pacing.largest())
        });
        self.moves.loading + replay
    }
}
