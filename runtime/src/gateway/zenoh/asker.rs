//! Who asked: where the events of an answer go, and whether anybody still waits for them.
//!
//! What is known of a querier depends on its way:
//!
//! | the querier | its answer ends |
//! |---|---|
//! | is connected to this session, and its connection ends | at once |
//! | has let its query time out, wherever it is | with the next event |
//! | holds a liveliness token, wherever it is, and that is gone | at once |
//! | publishes, and nobody subscribes to its completions | at once |
//! | is gone behind a router, and holds no token | when its query times out |
//!
//! So that there is a next event soon, and the client knows that the head is there, an event
//! without text is sent where nothing else is to be said.

use std::sync::Arc;
use std::time::Duration;

use jupiter_actors::request::ClientId;
use tokio::sync::watch;
use zenoh::Wait;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::Query;

use super::accounts::Name;
use super::presence::{PATIENCE, Presence, until_gone};
use super::reply::{Route, reply};
use super::{Desk, Source};
use crate::client::stream::StreamItem;
use crate::error::{Result, zenoh_error};
use crate::gateway::request::{Refusal, item_event, refusal_event};
use crate::net::keys::check_name;

/// Longest silence within an answer, or before it: so soon a query that has timed out is noticed,
/// and many times more often than clients lose patience.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// The parameter of a query that names the client's liveliness token.
const CLIENT_PARAMETER: &str = "client";

/// One who asked.
pub(super) enum Asker {
    Query {
        query: Arc<Query>,
        /// The key of replies.
        key: String,
        presence: Arc<Presence>,
        /// Sessions that had been connected when the query came.
        n_sessions: u64,
        /// Beginning of the id of the session that replies go to, once one went.
        route: watch::Sender<Option<String>>,
    },
    Topic {
        /// The last part of its key.
        id: String,
        completions: Arc<Publisher<'static>>,
        /// Whether anyone subscribes.
        is_heard: watch::Receiver<bool>,
    },
}

impl Asker {
    /// # Errors
    /// When zenoh refuses to publish.
    pub(super) async fn new(desk: &Desk, source: Source) -> Result<Self> {
        match source {
            Source::Query { query, n_sessions } => Ok(Self::Query {
                query: Arc::new(query),
                key: desk.keys.generate(),
                presence: desk.presence.clone(),
                n_sessions,
                route: watch::Sender::new(None),
            }),
            Source::Topic(id) => {
                let completions = desk
                    .session
                    .declare_publisher(desk.keys.completion(&id))
                    .congestion_control(CongestionControl::Block)
                    .priority(Priority::InteractiveLow)
                    .express(true);
                let completions = completions.await.map_err(zenoh_error)?;
                let (heard, is_heard) = watch::channel(false);
                let listener = completions.matching_listener();
                let listener = listener.callback(move |status| _ = heard.send(status.matching()));
                listener.background().await.map_err(zenoh_error)?;
                Ok(Self::Topic {
                    id,
                    completions: Arc::new(completions),
                    is_heard,
                })
            }
        }
    }

    /// On whose account it goes. The session of a query without a name is known only when an event went
    /// there: where others ask too, one that says nothing goes first. None when nobody takes it.
    pub(super) async fn account(&self, is_alone: bool) -> Option<ClientId> {
        let (query, route) = match self {
            Self::Topic { id, .. } => return Some(Name::Topic(id).id()),
            Self::Query { query, route, .. } => (query, route),
        };
        if let Some(name) = client_name(query) {
            return Some(Name::Client(name).id());
        }
        if let Some(source) = query.source_info() {
            let session = source.source_id().zid().to_string();
            return Some(Name::Source(&session).id());
        }
        if is_alone {
            return Some(Name::Unknown.id());
        }
        if !self.send_sign_of_life().await {
            return None;
        }
        let session = route.borrow().clone();
        let name = session.as_deref().map_or(Name::Unknown, Name::Session);
        Some(name.id())
    }

    /// Waits until nobody waits for the answer any more. What is told then, in case that somebody
    /// does.
    pub(super) async fn gone(&self) -> Option<String> {
        let Self::Query {
            query, presence, ..
        } = self
        else {
            self.disconnected().await;
            return None;
        };
        let Some(name) = client_name(query) else {
            self.disconnected().await;
            return None;
        };
        if let Err(error) = check_name(CLIENT_PARAMETER, name) {
            return Some(error.to_string());
        }
        tokio::select! {
            () = self.disconnected() => None,
            was_there = presence.client_gone(name) => (!was_there).then(|| format!(
                "there is no liveliness token of the client {name}: declare it before you ask, on \
                 jupiter/<cluster>/client/{name}"
            )),
        }
    }

    /// Waits until zenoh knows that events do not arrive any more.
    async fn disconnected(&self) {
        match self {
            Self::Query {
                presence,
                n_sessions,
                route,
                ..
            } => {
                let mut route = route.subscribe();
                let known = async { route.wait_for(Option::is_some).await.ok()?.clone() };
                if let Some(zid) = known.await {
                    presence.session_gone(&zid, *n_sessions).await;
                }
            }
            Self::Topic { is_heard, .. } => {
                until_gone(is_heard.clone(), |is_heard| *is_heard, PATIENCE).await;
            }
        }
    }

    /// Sends an event, and waits while the client is slow: on a thread that may block. False when
    /// nobody takes it.
    pub(super) async fn send(&self, event: Vec<u8>) -> bool {
        let sent = match self {
            Self::Query { query, key, .. } => {
                let (query, key) = (query.clone(), key.clone());
                tokio::task::spawn_blocking(move || reply(&query, key, event)).await
            }
            Self::Topic { completions, .. } => {
                let completions = completions.clone();
                let put = move || completions.put(event).wait().map(|()| Route::Unknown);
                tokio::task::spawn_blocking(put).await
            }
        };
        match sent {
            Ok(Ok(Route::Nowhere)) => false,
            Ok(Ok(Route::To(zid))) => {
                self.note(zid);
                true
            }
            Ok(Ok(Route::Unknown)) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "an event was not taken");
                false
            }
            Err(_) => false,
        }
    }

    /// Remembers which session replies go to.
    fn note(&self, zid: String) {
        if let Self::Query { route, .. } = self {
            route.send_if_modified(|route| {
                let is_new = route.is_none();
                *route = Some(zid);
                is_new
            });
        }
    }

    /// Sends that there is no answer, or no more of it.
    pub(super) async fn refuse(&self, refusal: impl Into<Refusal>) {
        self.send(refusal_event(&refusal.into())).await;
    }

    /// Sends an event that says nothing but that the head is there.
    pub(super) async fn send_sign_of_life(&self) -> bool {
        let nothing = StreamItem::Token {
            id: None,
            text: String::new(),
        };
        self.send(item_event(&nothing)).await
    }
}

/// The name that a client gives itself.
fn client_name(query: &Query) -> Option<&str> {
    let name = query.parameters().get(CLIENT_PARAMETER);
    name.filter(|name| !name.is_empty())
}
