//! On whose account requests go, and how many each may have: one that floods has no more than its share
//! of the service, and of the Planner's turns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// The requests of all clients that are answered or wait.
#[derive(Clone, Default)]
pub(super) struct Accounts {
    open: Arc<Mutex<HashMap<ClientId, usize>>>,
}

/// A request of a client, as long as it lives.
pub(super) struct Entry {
    accounts: Accounts,
    client: ClientId,
}

impl Accounts {
    /// One more request of a client; the number of those that it has, where that is `n_max`.
    pub(super) fn enter(&self, client: ClientId, n_max: usize) -> Result<Entry, usize> {
        let mut open = self.lock();
        let n_open = open.entry(client).or_default();
        if *n_open >= n_max {
            return Err(*n_open);
        }
        *n_open += 1;
        let accounts = self.clone();
        Ok(Entry { accounts, client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientId, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.accounts.lock();
        if let Some(n_open) = open.get_mut(&self.client) {
            *n_open -= 1;
            if *n_open == 0 {
                open.remove(&self.client);
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
        assert_eq!(accounts.enter(one, 2).err(), Some(2));
        drop(accounts.enter(other, 2).ok().unwrap());
        drop(entries);
        assert!(accounts.lock().is_empty());
    }
}
