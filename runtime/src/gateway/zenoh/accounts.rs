//! On whose account requests go, and how many each may have: one that floods has no more than its share
//! of the service, and of the Planner's turns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jupiter_actors::request::ClientId;

/// How a client is known.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Name<'a> {
    /// By the liveliness token that it names.
    Client(&'a str),
    /// By the id of the zenoh session that it says it has.
    Source(&'a str),
    /// By the beginning of the id of the session that replies go to: its own, or a router's.
    Session(&'a str),
    /// By the id of the topic that it publishes on.
    Topic(&'a str),
    /// Not at all.
    Unknown,
}

impl Name<'_> {
    pub(super) fn id(self) -> ClientId {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        ClientId(hasher.finish())
    }
}

/// What a time between two ends counts in the mean of all before it.
const WEIGHT: f64 = 0.1;

/// The requests of all clients that are answered or wait.
#[derive(Clone, Default)]
pub(super) struct Accounts(Arc<Mutex<Book>>);

/// How many requests each client has, and how soon they end.
#[derive(Default)]
struct Book {
    open: HashMap<ClientId, usize>,
    /// Mean seconds between the ends of two requests while there are some; none before one has ended.
    between_ends: Option<f64>,
    /// When the last one ended, or the first one came after a pause.
    since: Option<Instant>,
}

/// A request of a client, as long as it lives.
pub(super) struct Entry {
    accounts: Accounts,
    client: ClientId,
}

/// Why a client may have no request more.
#[derive(Debug, PartialEq)]
pub(super) struct Full {
    /// Those that it has.
    pub(super) n_open: usize,
    /// When one of them ends by how soon requests of all clients did; none before one has ended.
    pub(super) room_after: Option<Duration>,
}

impl Accounts {
    /// One more request of a client.
    ///
    /// # Errors
    /// [`Full`] where it has `n_max` of them.
    pub(super) fn enter(&self, client: ClientId, n_max: usize) -> Result<Entry, Full> {
        self.lock().enter(client, n_max, Instant::now())?;
        let accounts = self.clone();
        Ok(Entry { accounts, client })
    }

    /// When the next request ends, whosever it is; none before one has ended.
    pub(super) fn room_after(&self) -> Option<Duration> {
        let between_ends = self.lock().between_ends;
        between_ends.map(Duration::from_secs_f64)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.accounts.lock().leave(self.client, Instant::now());
    }
}

impl Book {
    fn enter(&mut self, client: ClientId, n_max: usize, now: Instant) -> Result<(), Full> {
        let n_all: usize = self.open.values().sum();
        let n_open = self.open.get(&client).copied().unwrap_or(0);
        if n_open >= n_max {
            // Of those that end, its own are as many as they are among all.
            let share = n_all as f64 / n_open.max(1) as f64;
            let room_after = self.between_ends;
            let room_after = room_after.map(|seconds| Duration::from_secs_f64(seconds * share));
            return Err(Full { n_open, room_after });
        }
        if n_all == 0 {
            self.since = Some(now);
        }
        self.open.insert(client, n_open + 1);
        Ok(())
    }

    fn leave(&mut self, client: ClientId, now: Instant) {
        let since = self.since.replace(now).unwrap_or(now);
        let seconds = now.duration_since(since).as_secs_f64();
        let mean = self.between_ends.unwrap_or(seconds);
        self.between_ends = Some(mean + WEIGHT * (seconds - mean));
        if let Some(n_open) = self.open.get_mut(&client) {
            *n_open -= 1;
            if *n_open == 0 {
                self.open.remove(&client);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_nothing_is_kept_of_who_has_left() {
        let accounts = Accounts::default();
        let (one, other) = (Name::Client("a").id(), Name::Session("a").id());
        assert_ne!(one, other);
        let entries: Vec<Entry> = (0..2)
            .map(|_| accounts.enter(one, 2).ok().unwrap())
            .collect();
        assert_eq!(accounts.enter(one, 2).err().unwrap().n_open, 2);
        drop(accounts.enter(other, 2).ok().unwrap());
        drop(entries);
        assert!(accounts.lock().open.is_empty());
    }

    #[test]
    fn room_is_told_by_how_soon_requests_ended_while_there_were_some() {
        let (mut book, began) = (Book::default(), Instant::now());
        let at = |seconds: f64| began + Duration::from_secs_f64(seconds);
        let (one, other) = (Name::Client("a").id(), Name::Client("b").id());
        let room = |book: &mut Book, now| book.enter(one, 2, now).unwrap_err().room_after;
        book.enter(one, 2, began).unwrap();
        book.enter(one, 2, began).unwrap();
        assert_eq!(room(&mut book, began), None, "nothing has ended yet");
        book.leave(one, at(3.0));
        book.leave(one, at(6.0));
        // A pause says nothing.
        for client in [one, one, other, other] {
            book.enter(client, 2, at(1000.0)).unwrap();
        }
        // Every second one that ends is its own.
        let seconds = room(&mut book, at(1000.0)).unwrap().as_secs_f64();
        assert!((seconds - 6.0).abs() < 1e-6, "{seconds}");
        book.leave(other, at(1001.0));
        let seconds = room(&mut book, at(1001.0)).unwrap().as_secs_f64();
        assert!((seconds - 1.5 * 2.8).abs() < 1e-6, "{seconds}");
    }
}
