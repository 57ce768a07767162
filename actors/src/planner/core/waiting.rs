//! Who may wait, and how long: no more than fits the time and the memory, and nobody longer than its
//! answer is of use.

use std::time::{Duration, Instant};

use super::super::cluster::State;
use super::super::live::Live;
use super::super::pace::Demand;
use super::super::queue::Turn;
use super::super::sequence::Sequence;
use super::PlannerCore;
use crate::RequestId;
use crate::request::{Deadline, DeadlineKind, RequestError};

/// Most requests that wait, of all clients and of each: a robot that asks faster than it is answered
/// learns it early, and does not take the place of others.
const MAX_WAITING: usize = 1024;
pub(super) const MAX_WAITING_EACH: usize = 256;

/// Most tokens of the prompts that wait: 16 MiB.
const MAX_WAITING_TOKENS: usize = 4 << 20;

/// Longest that a request may be expected to wait behind others: whoever has more patience than that asks
/// again, and is told when.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// When to come again where nothing was measured, and at the soonest and the latest.
const RETRY: Duration = Duration::from_secs(1);
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(600);

/// Of the requests that wait with a deadline, so many are compared with what is expected at a time: those
/// whose deadlines come first. Each is compared with all that is before it.
const MAX_FORESEEN: usize = 64;

/// Requests are given up only when they would be late even if all went twice as fast as is expected:
/// prompts may be in the cache, answers may be short.
const LUCK: f64 = 0.5;

/// When a request that waits is expected to get on, in seconds from now.
#[derive(Clone, Copy, Debug)]
struct Expected {
    n_ahead: usize,
    begin: f64,
    first_token: f64,
    answer: f64,
}

impl PlannerCore {
    /// Why a request cannot even wait.
    pub(super) fn refuse_to_wait(&self, request: &Sequence, is_part: bool) -> Option<RequestError> {
        if request
            .deadline
            .is_some_and(|deadline| deadline.within.is_zero())
        {
            return Some(RequestError::DeadlineInThePast { within_ms: 0 });
        }
        let expected = self.expect(request, self.queue.next_turn(request, is_part));
        let (n_all, n_own) = (self.queue.len(), self.queue.n_of(request.client));
        let is_full = n_all >= MAX_WAITING
            || self.queue.n_tokens() + request.tokens.len() > MAX_WAITING_TOKENS;
        if is_full || n_own >= MAX_WAITING_EACH {
            let waiting = if is_full { n_all } else { n_own };
            // Each that is admitted makes room for one.
            let after = expected.map(|e| e.begin / (e.n_ahead + 1) as f64);
            return Some(busy(waiting, after));
        }
        let expected = expected?;
        let n_ahead = expected.n_ahead;
        let too_long = expected.begin - MAX_WAIT.as_secs_f64();
        if n_ahead > 0 && too_long > 0.0 {
            return Some(busy(n_ahead, Some(too_long)));
        }
        out_of_reach(request, &expected, Duration::ZERO)
    }

    /// Gives up what cannot be of use any more: what waits by what is expected, what runs when its
    /// deadline is over.
    pub(super) fn give_up_late(&mut self, now: Instant) {
        let running = self.live.values().map(|live| &live.sequence);
        let late = running.filter_map(|running| Some((running.id, missed(running, now)?)));
        let late: Vec<_> = late.collect();
        for (id, error) in late {
            self.fail(id, &error);
        }
        let waiting = self.queue.requests();
        let waiting = waiting.filter_map(|waiting| Some((open_deadline(waiting)?, waiting)));
        let mut waiting: Vec<_> = waiting.map(|(d, w)| (w.asked + d.within, w)).collect();
        waiting.sort_by_key(|&(until, _)| until);
        let foreseen = waiting.into_iter().take(MAX_FORESEEN);
        let late = foreseen.filter_map(|(_, waiting)| {
            let late = missed(waiting, now).or_else(|| {
                let expected = self.expect(waiting, waiting.turn)?;
                out_of_reach(waiting, &expected, now.duration_since(waiting.asked))
            });
            Some((waiting.id, late?))
        });
        let late: Vec<(RequestId, RequestError)> = late.collect();
        for (id, error) in late {
            self.fail_waiting(&error, |waiting| waiting.id == id);
            self.kv.forget(id);
        }
    }

    /// When a request with this turn gets on; none where nothing is known. As many run at once as do now,
    /// where others wait already, and of these one ends after the other.
    fn expect(&self, request: &Sequence, turn: Turn) -> Option<Expected> {
        if self.cluster.state != State::Running || !self.lengths.are_known() {
            return None;
        }
        let n_live = self.n_answers();
        let n_slots = match self.queue.len() {
            0 => self.config.n_parallel as usize,
            _ => n_live.max(1),
        };
        let n_free = n_slots.saturating_sub(n_live);
        let ahead = self.queue.ahead(request.client, turn);
        let n_ahead = ahead.iter().filter(|ahead| !ahead.turn.is_part()).count();
        let ahead = ahead.into_iter().map(|ahead| self.demand(ahead));
        let running = self.live.values().map(|live| self.demand_of_live(live));
        let before = running.chain(ahead).fold(Demand::default(), sum);
        let begin = match n_ahead < n_free {
            true => 0.0,
            false => {
                let share = (n_ahead + 1 - n_free) as f64 / (n_ahead + n_live).max(1) as f64;
                self.pace.seconds(before)? * share
            }
        };
        // Prompts are computed in the order of the queue.
        let rows = match n_ahead < n_free {
            true => before.rows,
            false => 0,
        };
        let own = self.demand(request);
        let n_streams = n_slots.min(n_live + 1);
        let first = Demand {
            rows: rows + own.rows,
            tokens: n_streams,
        };
        let rest = Demand {
            rows: 0,
            tokens: n_streams * own.tokens.saturating_sub(1),
        };
        let first_token = begin + self.pace.seconds(first)?;
        Some(Expected {
            n_ahead,
            begin,
            first_token,
            answer: first_token + self.pace.seconds(rest)?,
        })
    }

    /// Of what goes on with an answer, others of it have most of the prompt.
    fn demand(&self, sequence: &Sequence) -> Demand {
        let is_part = sequence.answer != sequence.id;
        let found = is_part.then(|| self.find(sequence, |_| true)).flatten();
        Demand {
            rows: sequence.tokens.len() - found.map_or(0, |found| found.n_shared()),
            tokens: self.n_expected(sequence),
        }
    }

    /// With all of its answer: of those that run as much is done as they have done, whoever ends first, and
    /// in a time in which as many tokens are made as an answer has, one ends.
    fn demand_of_live(&self, live: &Live) -> Demand {
        let sequence = &live.sequence;
        let n_max = sequence.n_answer() + sequence.n_left();
        Demand {
            rows: live.n_own().min(live.n_uncomputed()),
            tokens: self.lengths.expected(0, n_max),
        }
    }
}

fn sum(all: Demand, more: Demand) -> Demand {
    Demand {
        rows: all.rows + more.rows,
        tokens: all.tokens + more.tokens,
    }
}

fn busy(waiting: usize, after: Option<f64>) -> RequestError {
    let after = after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let after = after.unwrap_or(RETRY).clamp(MIN_RETRY, MAX_RETRY);
    RequestError::Busy {
        waiting,
        retry_after_ms: after.as_millis() as u64,
    }
}

/// A deadline that is not met yet.
fn open_deadline(sequence: &Sequence) -> Option<Deadline> {
    let is_met = |kind| kind == DeadlineKind::FirstToken && sequence.first_token.is_some();
    sequence.deadline.filter(|deadline| !is_met(deadline.kind))
}

/// Whether its deadline is over.
fn missed(sequence: &Sequence, now: Instant) -> Option<RequestError> {
    let Deadline { kind, within } = open_deadline(sequence)?;
    let is_over = now.duration_since(sequence.asked) >= within;
    is_over.then_some(RequestError::DeadlineMissed { kind, within })
}

/// Whether a request that was asked so long ago will be late even with luck: an answer may end with its
/// first token.
fn out_of_reach(waiting: &Sequence, expected: &Expected, age: Duration) -> Option<RequestError> {
    let Deadline { kind, within } = open_deadline(waiting)?;
    let seconds = match kind {
        DeadlineKind::FirstToken => expected.first_token,
        DeadlineKind::Answer => expected.answer,
    };
    let is_out = age.as_secs_f64() + LUCK * expected.first_token > within.as_secs_f64();
    is_out.then_some(RequestError::DeadlineOutOfReach {
        kind,
        within,
        expected_ms: ((age.as_secs_f64() + seconds) * 1e3) as u64,
    })
}
