//! Who is next: the one order of all sequences, by which they are admitted and by which their chunks
//! go.
//!
//! ```text
//! of a client's requests   the one that is due first: asked + AGEING * priority + what its deadline
//!                          leaves, at most AGEING
//! of the clients           the one whose first request is due first, where it counts as asked when the
//!                          client's last one was admitted
//! ```
//! What goes on with an answer that has begun comes before all of them, in the order in which it was
//! asked. So clients take turns, whatever each of them has waiting. And everybody's turn comes: who has waited
//! for `AGEING` is behind nobody who is one level more urgent and comes now. A request of the lowest
//! priority is behind none that comes eight times `AGEING` after it.

use std::collections::BTreeMap;
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
    /// Whether it comes in the order of the queue, not before all: what goes on with an answer that has
    /// begun does.
    is_ordinary: bool,
    /// By urgency, age and deadline; none before it has come.
    due: Option<Instant>,
    /// Counts the requests.
    arrived: u64,
}

impl Turn {
    /// Whether it goes on with an answer that has begun.
    pub(super) fn is_part(&self) -> bool {
        !self.is_ordinary
    }
}

/// What waits for a slot and cells.
#[derive(Default)]
pub(super) struct Queue {
    /// Those with requests that wait.
    clients: BTreeMap<ClientId, Client>,
    /// What goes on with answers that have begun.
    parts: BTreeMap<Turn, Sequence>,
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
    /// A request comes; `is_part`: it goes on with an answer that has begun.
    pub(super) fn push(&mut self, mut request: Sequence, is_part: bool) {
        request.turn = self.next_turn(&request, is_part);
        self.n_arrived += 1;
        self.put_back(request);
    }

    /// A sequence that was preempted waits again, in the place that it had.
    pub(super) fn put_back(&mut self, sequence: Sequence) {
        let requests = match sequence.turn.is_ordinary {
            true => &mut self.clients.entry(sequence.client).or_default().requests,
            false => &mut self.parts,
        };
        requests.insert(sequence.turn, sequence);
    }

    /// A sequence that waits.
    pub(super) fn get(&self, id: RequestId) -> Option<&Sequence> {
        self.requests().find(|sequence| sequence.id == id)
    }

    /// The turn of a request that comes now, among those of its client, or of parts.
    pub(super) fn next_turn(&self, request: &Sequence, is_part: bool) -> Turn {
        Turn {
            is_ordinary: !is_part,
            due: Some(due(request, request.asked)),
            arrived: self.n_arrived,
        }
    }

    /// What runs before a request of `client` with this turn, if nothing more urgent comes: of the other
    /// clients, one request more than of itself; and parts of answers that have begun.
    pub(super) fn ahead(&self, client: ClientId, turn: Turn) -> Vec<&Sequence> {
        let own = self.clients.get(&client);
        let n_own = own.map_or(0, |own| own.requests.range(..turn).count());
        let mut ahead: Vec<&Sequence> = self.parts.range(..turn).map(|(_, part)| part).collect();
        for (id, other) in &self.clients {
            let n_most = if *id == client { n_own } else { n_own + 1 };
            let earlier = other.requests.range(..turn).take(n_most);
            ahead.extend(earlier.map(|(_, request)| request));
        }
        ahead
    }

    /// The request that is next.
    pub(super) fn first(&self) -> Option<&Sequence> {
        let (_, client) = self.next()?;
        let (_, first) = self.clients.get(&client)?.requests.first_key_value()?;
        Some(first)
    }

    /// The part of an answer that is next.
    pub(super) fn first_part(&self) -> Option<&Sequence> {
        self.parts.first_key_value().map(|(_, part)| part)
    }

    /// Leaves out parts and first requests that nobody waits for any more.
    pub(super) fn drop_closed(&mut self) {
        self.parts.retain(|_, part| !part.sink.is_closed());
        while self.first().is_some_and(|first| first.sink.is_closed()) {
            self.pop(None);
        }
    }

    /// Takes out the request that is next, for it to run.
    pub(super) fn pop_first(&mut self, now: Instant) -> Option<Sequence> {
        self.pop(Some(now))
    }

    /// The same of parts.
    pub(super) fn pop_part(&mut self) -> Option<Sequence> {
        self.parts.pop_first().map(|(_, part)| part)
    }

    /// Takes out a request.
    pub(super) fn remove(&mut self, id: RequestId) {
        self.take(|request| request.id == id);
    }

    /// Takes out the requests of which `which` is true.
    pub(super) fn take(&mut self, which: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let parts = self.parts.extract_if(.., |_, part| which(part));
        let mut taken: Vec<Sequence> = parts.map(|(_, part)| part).collect();
        for client in self.clients.values_mut() {
            let out = client.requests.extract_if(.., |_, request| which(request));
            taken.extend(out.map(|(_, request)| request));
        }
        self.clients.retain(|_, client| !client.requests.is_empty());
        taken
    }

    pub(super) fn has(&self, id: RequestId) -> bool {
        self.get(id).is_some()
    }

    /// All requests that wait.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Sequence> {
        let clients = self.clients.values();
        let ordinary = clients.flat_map(|client| client.requests.values());
        self.parts.values().chain(ordinary)
    }

    /// Tokens of all that waits.
    pub(super) fn n_tokens(&self) -> usize {
        self.requests().map(|sequence| sequence.tokens.len()).sum()
    }

    /// Requests of a client that wait in the order of the queue.
    pub(super) fn n_of(&self, client: ClientId) -> usize {
        self.clients
            .get(&client)
            .map_or(0, |client| client.requests.len())
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        let clients = self.clients.values();
        let n_ordinary: usize = clients.map(|client| client.requests.len()).sum();
        n_ordinary + self.parts.len()
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
        Some(first)
    }
}

/// When a request that counts as asked at `from` is due.
fn due(request: &Sequence, from: Instant) -> Instant {
    let within = request.deadline.map_or(AGEING, |deadline| deadline.within);
    from + AGEING * u32::from(request.priority.level()) + within.min(AGEING)
}

#[cfg(test)]
mod tests;
