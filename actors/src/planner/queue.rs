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
        request.turn = Turn {
            is_ordinary: !is_first,
            ..self.next_turn(&request)
        };
        self.n_arrived += 1;
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

    /// The turn of a request that comes now, among those of its client.
    pub(super) fn next_turn(&self, request: &Sequence) -> Turn {
        Turn {
            is_ordinary: true,
            due: Some(due(request, request.asked)),
            arrived: self.n_arrived,
            branch: 0,
        }
    }

    /// What runs before a request of `client` with this turn, if nothing more urgent comes: of the other
    /// clients, one request more than of itself; and branches of what runs.
    pub(super) fn ahead(&self, client: ClientId, turn: Turn) -> Vec<&Sequence> {
        let own = self.clients.get(&client);
        let n_own = own.map_or(0, |own| own.requests.range(..turn).count());
        let mut ahead = Vec::new();
        for (id, other) in &self.clients {
            let n_most = if *id == client { n_own } else { n_own + 1 };
            let earlier = other.requests.range(..turn).take(n_most);
            ahead.extend(earlier.map(|(_, request)| request));
        }
        let is_ahead = |branch: &&Sequence| branch.turn < turn;
        ahead.extend(self.branches.values().flatten().filter(is_ahead));
        ahead
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

    /// All requests that wait, without their branches.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Sequence> {
        requests(&self.clients)
    }

    /// Tokens of all that waits.
    pub(super) fn n_tokens(&self) -> usize {
        let branches = self.branches.values().flatten();
        let all = self.requests().chain(branches);
        all.map(|sequence| sequence.tokens.len()).sum()
    }

    /// Requests of a client that wait.
    pub(super) fn n_of(&self, client: ClientId) -> usize {
        self.clients
            .get(&client)
            .map_or(0, |client| client.requests.len())
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
mod tests;
