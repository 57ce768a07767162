//! Who is next: the one order of all sequences, by which they are admitted and by which their chunks
//! go.
//!
//! ```text
//! of a client's requests   the one that is due first: asked + AGEING * priority + what its deadline
//!                          leaves, at most AGEING
//! of the clients           the one whose first request is due first, where it counts as asked when the
//!                          client's last one was admitted
//! ```
//! So clients take turns, whatever each of them has waiting. And everybody's turn comes: who has waited
//! for `AGEING` is behind nobody who is one level more urgent and comes now. A request of the lowest
//! priority is behind none that comes eight times `AGEING` after it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::sequence::Sequence;
use crate::RequestId;
use crate::request::ClientId;

/// What a level of priority is worth: so long may one that is a level more urgent come later. Long
/// against the times for which people and robots wait, so that an urgent question passes all others.
const AGEING: Duration = Duration::from_secs(10);

/// A sequence's place in the order of all; the least is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Whether it comes in the order of the queue, not before all: what follows an answer that holds its
    /// cells for it does.
    is_ordinary: bool,
    /// By urgency, age and deadline; none before it has come.
    due: Option<Instant>,
    /// Counts the requests.
    arrived: u64,
    /// 0 for a request, then its branches.
    branch: u32,
}

/// What waits for a slot and cells.
#[derive(Default)]
pub(super) struct Queue {
    /// Those with requests that wait.
    clients: BTreeMap<ClientId, Client>,
    /// Branches of requests that wait or run.
    branches: BTreeMap<RequestId, VecDeque<Sequence>>,
    n_arrived: u64,
}

/// The requests of a client that wait.
#[derive(Default)]
struct Client {
    requests: BTreeMap<Turn, Sequence>,
    /// When the last one was admitted.
    served: Option<Instant>,
}

impl Client {
    /// The turn of its first request among those of other clients.
    fn turn(&self) -> Option<Turn> {
        let (&turn, first) = self.requests.first_key_value()?;
        if first.n_preempted > 0 {
            return Some(turn);
        }
        let from = self.served.map_or(first.asked, |at| at.max(first.asked));
        let due = Some(due(first, from));
        Some(Turn { due, ..turn })
    }
}

impl Queue {
    /// A request comes with its branches, if it has any.
    pub(super) fn push(&mut self, mut request: Sequence, branches: Vec<Sequence>, is_first: bool) {
        self.n_arrived += 1;
        request.turn = Turn {
            is_ordinary: !is_first,
            due: Some(due(&request, request.asked)),
            arrived: self.n_arrived,
            branch: 0,
        };
        if !branches.is_empty() {
            self.branches.insert(request.id, branches.into());
            self.place_branches(&request);
        }
        let client = self.clients.entry(request.client).or_default();
        client.requests.insert(request.turn, request);
    }

    /// A sequence that was preempted waits again, in the place that it had.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        let Some(of) = sequence.branch_of() else {
            let client = self.clients.entry(sequence.client).or_default();
            client.requests.insert(sequence.turn, sequence);
            return;
        };
        let branches = self.branches.entry(of).or_default();
        let at = branches.partition_point(|branch| branch.turn < sequence.turn);
        branches.insert(at, sequence);
    }

    /// A sequence that waits.
    pub(super) fn get(&self, id: RequestId) -> Option<&Sequence> {
        let branches = self.branches.values().flatten();
        let mut all = requests(&self.clients).chain(branches);
        all.find(|sequence| sequence.id == id)
    }

    /// The request that is next.
    pub(super) fn first(&self) -> Option<&Sequence> {
        let (_, client) = self.next()?;
        let (_, first) = self.clients.get(&client)?.requests.first_key_value()?;
        Some(first)
    }

    /// Leaves out first requests that nobody waits for any more.
    pub(super) fn drop_closed(&mut self) {
        while self.first().is_some_and(|first| first.sink.is_closed()) {
            let closed = self.pop(None);
            closed.and_then(|closed| self.branches.remove(&closed.id));
        }
    }

    /// Takes out the request that is next, for it to run.
    pub(super) fn pop_first(&mut self, now: Instant) -> Option<Sequence> {
        self.pop(Some(now))
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
        let waiting = &self.clients;
        self.branches.retain(|of, branches| {
            branches.retain(|branch| !branch.sink.is_closed());
            let waits = || requests(waiting).any(|request| request.id == *of);
            !branches.is_empty() && (live(*of) || waits())
        });
    }

    /// Takes out a request with its branches, or a branch.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.take(|request| request.id == id);
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
        for client in self.clients.values_mut() {
            let out = client.requests.extract_if(.., |_, request| which(request));
            for (_, request) in out {
                let id = request.id;
                taken.push(request);
                taken.extend(self.branches.remove(&id).unwrap_or_default());
            }
        }
        self.clients.retain(|_, client| !client.requests.is_empty());
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
        self.clients
            .values()
            .map(|client| client.requests.len())
            .sum()
    }

    /// The client whose turn it is, and which turn that is.
    fn next(&self) -> Option<(Turn, ClientId)> {
        let clients = self.clients.iter();
        let turns = clients.filter_map(|(&id, client)| Some((client.turn()?, id)));
        turns.min()
    }

    /// Takes out the request that is next, which runs from `now` on if it is to run.
    fn pop(&mut self, now: Option<Instant>) -> Option<Sequence> {
        let (turn, id) = self.next()?;
        let client = self.clients.get_mut(&id)?;
        let (_, mut first) = client.requests.pop_first()?;
        if first.n_preempted == 0 {
            client.served = now.or(client.served);
        }
        if client.requests.is_empty() {
            self.clients.remove(&id);
        }
        first.turn = turn;
        self.place_branches(&first);
        Some(first)
    }

    /// Its branches are right behind a request.
    fn place_branches(&mut self, request: &Sequence) {
        let branches = self.branches.get_mut(&request.id).into_iter().flatten();
        for (sequence, branch) in branches.zip(1..) {
            sequence.turn = Turn {
                branch,
                ..request.turn
            };
        }
    }
}

fn requests(clients: &BTreeMap<ClientId, Client>) -> impl Iterator<Item = &Sequence> {
    clients.values().flat_map(|client| client.requests.values())
}

/// When a request that counts as asked at `from` is due.
fn due(request: &Sequence, from: Instant) -> Instant {
    let within = request.deadline.map_or(AGEING, |deadline| deadline.within);
    from + AGEING * u32::from(request.priority.level()) + within.min(AGEING)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::core::tests::config;
    use super::*;
    use crate::request::{
        Branch, Deadline, DeadlineKind, EventSink, ForkRequest, GenerateRequest, Priority,
        StreamEvent,
    };

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

    /// One of `client`, with a priority and a deadline in seconds; it has no reader.
    fn of(client: u64, id: u64, priority: u8, deadline: Option<u64>, asked: Instant) -> Sequence {
        let deadline = deadline.map(|seconds| Deadline {
            kind: DeadlineKind::Answer,
            within: Duration::from_secs(seconds),
        });
        let request = GenerateRequest {
            priority: Priority::new(priority).unwrap(),
            client: ClientId(client),
            deadline,
            ..GenerateRequest::new(RequestId(id), vec![1, 2, 3])
        };
        Sequence::whole(request, unbounded_channel().0, &config(), asked)
    }

    /// The order in which all that waits is admitted, one a second.
    fn order(queue: &mut Queue, mut now: Instant) -> Vec<u64> {
        let next = || {
            now += Duration::from_secs(1);
            queue.pop_first(now).map(|sequence| sequence.id.0)
        };
        std::iter::from_fn(next).collect()
    }

    fn forked(id: u64, all: &mut Vec<Events>) -> (Sequence, Vec<Sequence>) {
        let branches = (1..3).map(|i| Branch {
            request: GenerateRequest::new(RequestId(id + i), vec![1, 2, 3]),
            sink: sink(all),
        });
        let request = ForkRequest::new(RequestId(id), 2, branches.collect());
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
            queue.pop_first(Instant::now())
        })
        .map(|sequence| sequence.id.0)
        .collect();
        assert_eq!(order, [5, 7], "nobody waits for 3");
    }

    #[test]
    fn the_urgent_come_first_then_those_with_a_deadline_then_the_earliest() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (id, priority, deadline) in [
            (1, 4, None),
            (2, 4, Some(8)),
            (3, 7, Some(1)),
            (4, 4, Some(2)),
            (5, 0, None),
            (6, 4, Some(100)),
            (7, 5, Some(1)),
        ] {
            queue.push(of(0, id, priority, deadline, now), Vec::new(), false);
        }
        assert_eq!(order(&mut queue, now), [5, 4, 2, 1, 6, 7, 3]);
    }

    #[test]
    fn who_has_waited_comes_before_the_urgent() {
        let (mut queue, began) = (Queue::default(), Instant::now());
        queue.push(of(0, 100, 7, None, began), Vec::new(), false);
        // An urgent request of another client comes each second, and one request is admitted.
        let mut now = began;
        for id in 1.. {
            now += Duration::from_secs(1);
            queue.push(of(id, id, 0, Some(1), now), Vec::new(), false);
            if queue.pop_first(now).unwrap().id.0 == 100 {
                break;
            }
        }
        let waited = now - began;
        assert!(waited <= 8 * AGEING, "{waited:?}");
        assert!(waited > 7 * AGEING, "{waited:?}");
    }

    #[test]
    fn clients_take_turns_whatever_each_has_waiting() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for id in 0..6 {
            queue.push(of(1, id, 4, None, now), Vec::new(), false);
        }
        queue.pop_first(now + Duration::from_secs(1));
        let late = now + Duration::from_secs(5);
        for id in [10, 11] {
            queue.push(of(2, id, 4, None, late), Vec::new(), false);
        }
        queue.push(of(3, 20, 4, None, late), Vec::new(), false);
        // The first client's next one has been its next for longer than the others are there.
        assert_eq!(order(&mut queue, late), [1, 10, 20, 2, 11, 3, 4, 5]);
        assert!(queue.clients.is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn an_urgent_question_passes_those_of_its_client_and_of_others() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for client in 1..4 {
            queue.push(of(client, client, 4, None, now), Vec::new(), false);
        }
        let late = now + Duration::from_secs(39);
        queue.push(of(1, 10, 0, None, late), Vec::new(), false);
        assert_eq!(order(&mut queue, late)[0], 10);
    }

    #[test]
    fn branches_come_with_their_request_and_go_with_it() {
        let (mut queue, mut all) = (Queue::default(), Vec::new());
        let (base, branches) = forked(10, &mut all);
        queue.push(base, branches, false);
        queue.push(request(1, &mut all), Vec::new(), false);
        assert!(queue.has(RequestId(12)) && queue.len() == 2);
        let base = queue.pop_first(Instant::now()).unwrap();
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
