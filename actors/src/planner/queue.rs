//! Who is next: the one order of all sequences, by which they are admitted and by which their chunks
//! go. For now it is the order in which they were asked for.

use std::collections::{BTreeMap, VecDeque};

use super::sequence::Sequence;
use crate::RequestId;

/// A sequence's place in the order of all; the least is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Whether it comes in the order of arrivals, not before all: what follows an answer that holds its
    /// cells for it does.
    is_ordinary: bool,
    /// Counts the requests.
    arrived: u64,
    /// 0 for a request, then its branches.
    branch: u32,
}

/// What waits for a slot and cells.
#[derive(Default)]
pub(super) struct Queue {
    requests: BTreeMap<Turn, Sequence>,
    /// Branches of requests that wait or run.
    branches: BTreeMap<RequestId, VecDeque<Sequence>>,
    n_arrived: u64,
}

impl Queue {
    /// A request comes with its branches, if it has any.
    pub(super) fn push(&mut self, mut request: Sequence, branches: Vec<Sequence>, is_first: bool) {
        self.n_arrived += 1;
        let turn = Turn {
            is_ordinary: !is_first,
            arrived: self.n_arrived,
            branch: 0,
        };
        let placed = branches.into_iter().zip(1..).map(|(mut sequence, branch)| {
            sequence.turn = Turn { branch, ..turn };
            sequence
        });
        let branches: VecDeque<Sequence> = placed.collect();
        if !branches.is_empty() {
            self.branches.insert(request.id, branches);
        }
        request.turn = turn;
        self.requests.insert(turn, request);
    }

    /// A sequence that was preempted waits again, in the place that it had.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        let Some(of) = sequence.branch_of() else {
            self.requests.insert(sequence.turn, sequence);
            return;
        };
        let branches = self.branches.entry(of).or_default();
        let at = branches.partition_point(|branch| branch.turn < sequence.turn);
        branches.insert(at, sequence);
    }

    /// A sequence that waits.
    pub(super) fn get(&self, id: RequestId) -> Option<&Sequence> {
        let branches = self.branches.values().flatten();
        let mut all = self.requests.values().chain(branches);
        all.find(|sequence| sequence.id == id)
    }

    /// The request that is next.
    pub(super) fn first(&self) -> Option<&Sequence> {
        self.requests.first_key_value().map(|(_, first)| first)
    }

    /// Leaves out first requests that nobody waits for any more.
    pub(super) fn drop_closed(&mut self) {
        while self.first().is_some_and(|first| first.sink.is_closed()) {
            let closed = self.pop_first();
            closed.and_then(|closed| self.branches.remove(&closed.id));
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<Sequence> {
        self.requests.pop_first().map(|(_, first)| first)
    }

    /// The next branch of a request.
    pub(super) fn pop_branch(&mut self, of: RequestId) -> Option<Sequence> {
        self.branches.get_mut(&of)?.pop_front()
    }

    pub(super) fn first_branch(&self, of: RequestId) -> Option<&Sequence> {
        self.branches.get(&of)?.front()
    }

    /// Leaves out branches that nobody waits for any more, and those of requests that are neither here nor
    /// `live`.
    pub(super) fn tidy(&mut self, live: impl Fn(RequestId) -> bool) {
        let waiting = &self.requests;
        self.branches.retain(|of, branches| {
            branches.retain(|branch| !branch.sink.is_closed());
            let waits = || waiting.values().any(|request| request.id == *of);
            !branches.is_empty() && (live(*of) || waits())
        });
    }

    /// Takes out a request with its branches, or a branch.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.requests.retain(|_, request| request.id != id);
        self.branches.remove(&id);
        for branches in self.branches.values_mut() {
            branches.retain(|branch| branch.id != id);
        }
    }

    /// Takes out all branches of a request.
    pub(super) fn take_branches(&mut self, of: RequestId) -> VecDeque<Sequence> {
        self.branches.remove(&of).unwrap_or_default()
    }

    /// Takes out the requests of which `which` is true, with their branches.
    pub(super) fn take(&mut self, which: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let mut taken = Vec::new();
        for (_, request) in self.requests.extract_if(.., |_, request| which(request)) {
            let id = request.id;
            taken.push(request);
            taken.extend(self.branches.remove(&id).unwrap_or_default());
        }
        taken
    }

    pub(super) fn has(&self, id: RequestId) -> bool {
        self.get(id).is_some()
    }

    #[cfg(test)]
    pub(super) fn n_branches(&self, of: RequestId) -> usize {
        self.branches.get(&of).map_or(0, VecDeque::len)
    }

    /// Requests that wait; those of several branches count once.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::core::tests::config;
    use super::*;
    use crate::request::{Branch, EventSink, ForkRequest, GenerateRequest, StreamEvent};

    type Events = UnboundedReceiver<StreamEvent>;

    fn sink(all: &mut Vec<Events>) -> EventSink {
        let (sink, events) = unbounded_channel();
        all.push(events);
        sink
    }

    fn request(id: u64, all: &mut Vec<Events>) -> Sequence {
        let request = GenerateRequest::new(RequestId(id), vec![1, 2, 3]);
        Sequence::whole(request, sink(all), &config(), Instant::now())
    }

    fn forked(id: u64, all: &mut Vec<Events>) -> (Sequence, Vec<Sequence>) {
        let branches = (1..3).map(|i| Branch {
            request: GenerateRequest::new(RequestId(id + i), vec![1, 2, 3]),
            sink: sink(all),
        });
        let request = ForkRequest {
            id: RequestId(id),
            n_shared: 2,
            cache_prompt: true,
            follows: None,
            branches: branches.collect(),
        };
        Sequence::forked(request, sink(all), &config(), Instant::now())
    }

    #[test]
    fn requests_come_in_the_order_of_their_arrival_but_for_who_goes_first() {
        let (mut queue, mut all) = (Queue::default(), Vec::new());
        for (id, is_first) in [(7, false), (3, false), (5, true)] {
            queue.push(request(id, &mut all), Vec::new(), is_first);
        }
        all.remove(1);
        let order: Vec<u64> = std::iter::from_fn(|| {
            queue.drop_closed();
            queue.pop_first()
        })
        .map(|sequence| sequence.id.0)
        .collect();
        assert_eq!(order, [5, 7], "nobody waits for 3");
    }

    #[test]
    fn what_comes_back_has_the_place_that_it_had() {
        let (mut queue, mut all) = (Queue::default(), Vec::new());
        for id in [7, 3] {
            queue.push(request(id, &mut all), Vec::new(), false);
        }
        let (base, branches) = forked(10, &mut all);
        queue.push(base, branches, false);
        let first = queue.pop_first().unwrap();
        let branch = queue.pop_branch(RequestId(10)).unwrap();
        queue.put_back(first);
        queue.put_back(branch);
        assert_eq!(queue.first().unwrap().id, RequestId(7));
        assert_eq!(queue.first_branch(RequestId(10)).unwrap().id, RequestId(11));
        assert!(queue.get(RequestId(11)).is_some());
    }

    #[test]
    fn branches_come_with_their_request_and_go_with_it() {
        let (mut queue, mut all) = (Queue::default(), Vec::new());
        let (base, branches) = forked(10, &mut all);
        queue.push(base, branches, false);
        queue.push(request(1, &mut all), Vec::new(), false);
        assert!(queue.has(RequestId(12)) && queue.len() == 2);
        let base = queue.pop_first().unwrap();
        queue.tidy(|id| id == RequestId(10));
        let turns = [base.turn, queue.first_branch(base.id).unwrap().turn];
        let late = queue.first().unwrap().turn;
        assert!(turns.is_sorted() && turns[1] < late);
        queue.remove(RequestId(11));
        assert_eq!(queue.pop_branch(base.id).unwrap().id, RequestId(12));
        let (base, branches) = forked(20, &mut all);
        queue.push(base, branches, false);
        assert_eq!(queue.take(|sequence| sequence.is_base()).len(), 3);
        // Its request is lost.
        queue
            .branches
            .insert(RequestId(30), forked(30, &mut all).1.into());
        queue.tidy(|_| false);
        assert!(!queue.has(RequestId(31)));
    }
}
