//! The goals of an action server: what became of each, and who waits for that. A table without clocks
//! or a network; codes are those of action_msgs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Most goals that are worked on at the same time; more are refused.
pub(super) const MAX_GOALS: usize = 64;

/// How long a result is kept for a client that asks late, and how many of them at most.
const KEEP_RESULT: Duration = Duration::from_secs(300);
const MAX_RESULTS: usize = 64;

/// Most clients that wait for one result.
const MAX_WAITING: usize = 16;

/// A goal as its client names it.
pub(super) type GoalId = [u8; 16];

/// Where a goal is (`action_msgs/msg/GoalStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Unknown = 0,
    Executing = 2,
    Canceling = 3,
    Succeeded = 4,
    Canceled = 5,
    Aborted = 6,
}

/// What became of a request to cancel (`action_msgs/srv/CancelGoal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CancelCode {
    Accepted = 0,
    UnknownGoal = 2,
    GoalEnded = 3,
}

/// Goals, and `W` that waits for a result.
pub(super) struct Goals<W> {
    goals: BTreeMap<GoalId, Goal<W>>,
}

struct Goal<W> {
    stamp_ns: i64,
    status: Status,
    cancel: watch::Sender<bool>,
    waiting: Vec<W>,
    ended: Option<(Instant, Value)>,
}

impl<W> Goals<W> {
    pub(super) fn new() -> Self {
        Self {
            goals: BTreeMap::new(),
        }
    }

    /// Takes a goal; the receiver hears when it is to be cancelled. Nothing where there are too many, or
    /// one with this id is there.
    pub(super) fn accept(
        &mut self,
        id: GoalId,
        stamp_ns: i64,
        now: Instant,
    ) -> Option<watch::Receiver<bool>> {
        self.forget(now);
        let n_running = self
            .goals
            .values()
            .filter(|goal| goal.ended.is_none())
            .count();
        if n_running >= MAX_GOALS || self.goals.contains_key(&id) {
            return None;
        }
        let (cancel, canceled) = watch::channel(false);
        let goal = Goal {
            stamp_ns,
            status: Status::Executing,
            cancel,
            waiting: Vec::new(),
            ended: None,
        };
        self.goals.insert(id, goal);
        Some(canceled)
    }

    /// Asks goals to end: the one of this id and, with a stamp, all that were accepted until then; with
    /// neither, all.
    pub(super) fn cancel(&mut self, id: GoalId, stamp_ns: i64) -> (CancelCode, Vec<Value>) {
        let is_named = id != [0; 16];
        if is_named && !self.goals.contains_key(&id) {
            return (CancelCode::UnknownGoal, Vec::new());
        }
        let mut canceling = Vec::new();
        for (own, goal) in &mut self.goals {
            let is_meant = match (is_named, stamp_ns) {
                (true, _) if *own == id => true,
                (false, 0) => true,
                (_, 0) => false,
                (_, until) => goal.stamp_ns <= until,
            };
            if is_meant && goal.ended.is_none() {
                goal.status = Status::Canceling;
                goal.cancel.send_replace(true);
                canceling.push(info(own, goal.stamp_ns));
            }
        }
        match canceling.is_empty() && is_named {
            true => (CancelCode::GoalEnded, canceling),
            false => (CancelCode::Accepted, canceling),
        }
    }

    /// The result, or its waiter is kept until there is one.
    pub(super) fn result(&mut self, id: GoalId, waiter: W) -> Option<(W, Status, Value)> {
        match self.goals.get_mut(&id) {
            Some(goal) => match &goal.ended {
                Some((_, result)) => Some((waiter, goal.status, result.clone())),
                None if goal.waiting.len() < MAX_WAITING => {
                    goal.waiting.push(waiter);
                    None
                }
                None => Some((waiter, Status::Unknown, Value::Null)),
            },
            None => Some((waiter, Status::Unknown, Value::Null)),
        }
    }

    /// Ends a goal; gives those that wait for that.
    pub(super) fn end(
        &mut self,
        id: GoalId,
        status: Status,
        result: Value,
        now: Instant,
    ) -> Vec<W> {
        let Some(goal) = self.goals.get_mut(&id) else {
            return Vec::new();
        };
        (goal.status, goal.ended) = (status, Some((now, result)));
        let waiting = std::mem::take(&mut goal.waiting);
        self.forget(now);
        waiting
    }

    /// All goals that are known (`action_msgs/msg/GoalStatusArray`).
    pub(super) fn statuses(&self) -> Value {
        let list = self.goals.iter().map(|(id, goal)| {
            json!({ "goal_info": info(id, goal.stamp_ns), "status": goal.status as i8 })
        });
        json!({ "status_list": list.collect::<Vec<_>>() })
    }

    /// Forgets results that are old, or too many.
    fn forget(&mut self, now: Instant) {
        let ended = |goal: &Goal<W>| goal.ended.as_ref().map(|(at, _)| *at);
        self.goals
            .retain(|_, goal| ended(goal).is_none_or(|at| now.duration_since(at) < KEEP_RESULT));
        let mut by_end: Vec<_> = (self.goals.iter())
            .filter_map(|(id, goal)| Some((ended(goal)?, *id)))
            .collect();
        by_end.sort_unstable();
        let n_over = by_end.len().saturating_sub(MAX_RESULTS);
        for (_, id) in &by_end[..n_over] {
            self.goals.remove(id);
        }
    }
}

/// A time as `builtin_interfaces/msg/Time`.
pub(super) fn time(stamp_ns: i64) -> Value {
    let second = 1_000_000_000;
    json!({ "sec": stamp_ns.div_euclid(second), "nanosec": stamp_ns.rem_euclid(second) })
}

/// `action_msgs/msg/GoalInfo`.
fn info(id: &GoalId, stamp_ns: i64) -> Value {
    json!({ "goal_id": { "uuid": id }, "stamp": time(stamp_ns) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: GoalId = [1; 16];
    const B: GoalId = [2; 16];
    const NONE: GoalId = [0; 16];

    fn with_two() -> (Goals<u8>, watch::Receiver<bool>, watch::Receiver<bool>) {
        let (mut goals, now) = (Goals::new(), Instant::now());
        let a = goals.accept(A, 10, now).unwrap();
        let b = goals.accept(B, 20, now).unwrap();
        (goals, a, b)
    }

    #[test]
    fn a_result_is_there_for_who_waits_and_who_comes_late() {
        let (mut goals, ..) = with_two();
        let now = Instant::now();
        assert_eq!(goals.result(A, 1), None);
        assert_eq!(goals.end(A, Status::Succeeded, json!("x"), now), [1]);
        let late = goals.result(A, 2);
        assert_eq!(late, Some((2, Status::Succeeded, json!("x"))));
        assert_eq!(goals.statuses()["status_list"][0]["status"], 4);
        let unknown = goals.result([9; 16], 3);
        assert_eq!(unknown, Some((3, Status::Unknown, Value::Null)));
        assert!(goals.accept(A, 30, now).is_none(), "its id is known");
        let later = now + KEEP_RESULT;
        assert!(goals.accept(A, 30, later).is_some());
    }

    #[test]
    fn cancelling_means_one_all_or_those_until_a_time() {
        let (mut goals, a, b) = with_two();
        let (code, canceling) = goals.cancel(A, 0);
        assert_eq!((code, canceling.len()), (CancelCode::Accepted, 1));
        assert_eq!((*a.borrow(), *b.borrow()), (true, false));
        goals.end(A, Status::Canceled, Value::Null, Instant::now());
        assert_eq!(goals.cancel(A, 0).0, CancelCode::GoalEnded);
        assert_eq!(goals.cancel([9; 16], 0).0, CancelCode::UnknownGoal);
        let (code, canceling) = goals.cancel(NONE, 15);
        assert_eq!((code, canceling.len()), (CancelCode::Accepted, 0));
        assert_eq!(goals.cancel(NONE, 20).1.len(), 1);
        assert_eq!(goals.cancel(NONE, 0).1.len(), 1);
        assert!(*b.borrow());
    }

    #[test]
    fn goals_results_and_waiters_are_bounded() {
        let (mut goals, now) = (Goals::new(), Instant::now());
        let id = |i: usize| {
            let mut id = [7; 16];
            id[..8].copy_from_slice(&i.to_le_bytes());
            id
        };
        for i in 0..MAX_GOALS {
            assert!(goals.accept(id(i), 1, now).is_some());
        }
        assert!(goals.accept(A, 1, now).is_none());
        for _ in 0..MAX_WAITING {
            assert_eq!(goals.result(id(0), ()), None);
        }
        assert_eq!(
            goals.result(id(0), ()),
            Some(((), Status::Unknown, Value::Null))
        );
        for i in 0..1000 {
            let at = now + Duration::from_millis(i as u64);
            goals.accept(id(i), 1, at);
            goals.end(id(i), Status::Succeeded, Value::Null, at);
        }
        assert_eq!(goals.goals.len(), MAX_RESULTS);
        assert!(
            goals.result(id(999), ()).unwrap().1 == Status::Succeeded,
            "the newest are kept"
        );
    }
}
