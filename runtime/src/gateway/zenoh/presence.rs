//! Who is there: the sessions that are connected to ours, and the clients with a liveliness token.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zenoh::Session;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;
use zenoh::session::{TransportEvent, TransportEventsListener};

use crate::error::{Result, zenoh_error};
use crate::net::keys::Keys;

/// How long one may be out of sight.
pub(super) const PATIENCE: Patience = Patience {
    arrival: Duration::from_secs(5),
    absence: Duration::from_millis(300),
};

/// How long one may be out of sight who waits for an answer.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// At first: declarations of another session cross the network, by way of routers, when the
    /// question does.
    arrival: Duration,
    /// Later: who subscribes anew does so within milliseconds.
    absence: Duration,
}

/// Watches who is there, as long as it lives.
pub(super) struct Presence {
    sessions: watch::Receiver<Sessions>,
    clients: watch::Receiver<BTreeSet<String>>,
    _events: TransportEventsListener<()>,
    _tokens: Subscriber<()>,
}

impl Presence {
    /// Begins to watch.
    ///
    /// # Errors
    /// When zenoh refuses the listeners.
    pub(super) async fn watch(session: &Session, keys: &Keys) -> Result<Arc<Self>> {
        let (opened, sessions) = watch::channel(Sessions::default());
        let note = move |event: TransportEvent| {
            let zid = event.transport().zid().to_string();
            opened.send_modify(|sessions| match event.kind() {
                SampleKind::Put => sessions.open(zid),
                SampleKind::Delete => sessions.close(&zid),
            });
        };
        let info = session.info();
        let events = info.transport_events_listener().history(true);
        let events = events.callback(note).await.map_err(zenoh_error)?;
        let (seen, clients) = watch::channel(BTreeSet::new());
        let note = {
            let keys = keys.clone();
            move |sample: zenoh::sample::Sample| {
                let Some(name) = keys.parse_client(sample.key_expr().as_str()) else {
                    return;
                };
                seen.send_modify(|clients: &mut BTreeSet<String>| match sample.kind() {
                    SampleKind::Put => _ = clients.insert(name.to_owned()),
                    SampleKind::Delete => _ = clients.remove(name),
                });
            }
        };
        let liveliness = session.liveliness();
        let tokens = liveliness.declare_subscriber(keys.clients()).history(true);
        let tokens = tokens.callback(note).await.map_err(zenoh_error)?;
        Ok(Arc::new(Self {
            sessions,
            clients,
            _events: events,
            _tokens: tokens,
        }))
    }

    /// Sessions that were connected so far: what arrives now comes by way of one of these.
    pub(super) fn n_sessions(&self) -> u64 {
        self.sessions.borrow().n_opened
    }

    /// Waits until none of the first `n_sessions` sessions is connected whose id begins with `zid`.
    pub(super) async fn session_gone(&self, zid: &str, n_sessions: u64) {
        let mut sessions = self.sessions.clone();
        let gone = |sessions: &Sessions| !sessions.is_open(zid, n_sessions);
        if sessions.wait_for(gone).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the token of the client `name` is gone. False when there was none.
    pub(super) async fn client_gone(&self, name: &str) -> bool {
        until_gone(
            self.clients.clone(),
            |clients| clients.contains(name),
            PATIENCE,
        )
        .await
    }
}

/// Waits until one is gone who `is_there`, or has not come. False when they were never seen.
pub(super) async fn until_gone<T>(
    mut seen: watch::Receiver<T>,
    is_there: impl Fn(&T) -> bool,
    patience: Patience,
) -> bool {
    let mut longest = patience.arrival;
    let mut was_there = false;
    loop {
        let arrival = async { seen.wait_for(&is_there).await.is_ok() };
        match tokio::time::timeout(longest, arrival).await {
            Err(_) => return was_there,
            Ok(is_watched) => was_there = is_watched,
        }
        let left = seen.wait_for(|seen| !is_there(seen)).await.is_ok();
        if !was_there || !left {
            // Nobody watches any more: the service ends.
            std::future::pending().await
        }
        longest = patience.absence;
    }
}

/// The sessions that are connected to ours.
#[derive(Default)]
struct Sessions {
    n_opened: u64,
    open: BTreeMap<String, Connection>,
}

struct Connection {
    /// Which connection of all it was.
    serial: u64,
    /// An old one may be closed after a new one was opened.
    n_open: usize,
}

impl Sessions {
    fn open(&mut self, zid: String) {
        let serial = self.n_opened;
        self.n_opened += 1;
        let connection = self.open.entry(zid);
        let connection = connection.or_insert(Connection { serial, n_open: 0 });
        connection.n_open += 1;
    }

    fn close(&mut self, zid: &str) {
        if let Some(connection) = self.open.get_mut(zid) {
            connection.n_open -= 1;
            if connection.n_open == 0 {
                self.open.remove(zid);
            }
        }
    }

    fn is_open(&self, zid: &str, n_sessions: u64) -> bool {
        let is_it = |(other, connection): (&String, &Connection)| {
            other.starts_with(zid) && connection.serial < n_sessions
        };
        self.open.iter().any(is_it)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_that_comes_back_is_another_one() {
        let mut sessions = Sessions::default();
        sessions.open("abc1".into());
        sessions.open("def2".into());
        let before = sessions.n_opened;
        assert!(sessions.is_open("abc", before) && sessions.is_open("def", before));
        sessions.close("abc1");
        assert!(!sessions.is_open("abc", before));
        sessions.open("abc1".into());
        assert!(!sessions.is_open("abc", before));
        assert!(sessions.is_open("abc", sessions.n_opened));
        // A new connection before the end of the old one is the same.
        sessions.open("def2".into());
        sessions.close("def2");
        assert!(sessions.is_open("def", before));
        sessions.close("unknown");
    }

    #[tokio::test]
    async fn a_short_absence_is_forgiven_and_one_who_never_comes_is_not_waited_for() {
        let patience = |arrival, absence| Patience {
            arrival: Duration::from_secs(arrival),
            absence: Duration::from_secs(absence),
        };
        let (there, seen) = watch::channel(false);
        let watch = |patience| Box::pin(until_gone(seen.clone(), |there| *there, patience));
        assert!(!watch(patience(0, 60)).await);
        let mut patient = watch(patience(60, 60));
        let mut impatient = watch(patience(60, 0));
        for is_there in [false, true] {
            there.send(is_there).unwrap();
            assert!(futures::poll!(&mut patient).is_pending());
            assert!(futures::poll!(&mut impatient).is_pending());
        }
        for is_there in [false, true, false] {
            there.send(is_there).unwrap();
            assert!(futures::poll!(&mut patient).is_pending());
        }
        assert!(impatient.await);
    }
}
