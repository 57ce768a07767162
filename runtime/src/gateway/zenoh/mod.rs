//! The public side of a head, for any program that speaks zenoh.
//!
//! ```text
//! get jupiter/<cluster>/generate, payload: request     -> one reply per event, in order
//! put jupiter/<cluster>/prompt/<id>, payload: request  -> put completion/<id> per event, in order
//! get jupiter/<cluster>/status                         -> how it is going
//! ```
//!
//! Requests and events are JSON ([`request`](super::request)); on `prompt/<id>` a plain string is a request too.
//! Every request ends with exactly one `done` or `error` event. Prompts with the same id are
//! answered one after the other. A request that nobody waits for any more ([`asker`]) is given up,
//! whether it is being answered or not.

mod accounts;
mod asker;
mod presence;
mod reply;
mod reporter;

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use jupiter_actors::Inbox;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use zenoh::Session;
use zenoh::bytes::ZBytes;
use zenoh::pubsub::Subscriber;
use zenoh::query::{Query, Queryable};

use self::accounts::Accounts;
use self::asker::{Asker, SILENCE};
use self::presence::Presence;
use self::reporter::Reporter;
use crate::client::Client;
use crate::error::Result;
use crate::gateway::request::{MAX_REQUEST_BYTES, Refusal, TOO_LONG, busy, item_event, parse};
use crate::net::entrance;
use crate::net::keys::Keys;

/// Most public requests at the same time, being answered or waiting; each holds a thread of tokio's
/// blocking pool, which has 512, while a slow client takes an event. More are refused.
const MAX_REQUESTS: usize = 256;

/// Most of them of one client: others always find room.
const MAX_REQUESTS_EACH: usize = MAX_REQUESTS / 2;

/// Most refusals that are being told. A flood beyond it is dropped.
const MAX_REFUSALS: usize = 128;

/// Most requests that arrived and are not looked at yet. A flood beyond it is dropped.
const MAX_ARRIVALS: usize = 256;

/// Answers public requests. Dropping it stops all of them.
pub(crate) struct Service {
    task: JoinHandle<()>,
    entrance: Mutex<Option<(Queryable<()>, Subscriber<()>)>>,
    _reporter: Reporter,
}

/// A request as it arrived.
struct Arrival {
    payload: Option<Vec<u8>>,
    source: Source,
}

/// Where a request came from.
enum Source {
    /// A query, and how many sessions had been connected when it came.
    Query { query: Query, n_sessions: u64 },
    /// The id of `prompt/<id>`.
    Topic(String),
}

/// What answering takes.
struct Desk {
    session: Session,
    keys: Keys,
    client: Client,
    presence: Arc<Presence>,
    accounts: Accounts,
}

impl Service {
    pub(crate) async fn start(
        session: &Session,
        keys: &Keys,
        client: Client,
        inbox: Inbox,
    ) -> Result<Self> {
        let presence = Presence::watch(session, keys).await?;
        let (arrivals, receiver) = mpsc::channel(MAX_ARRIVALS);
        let accept = {
            let (arrivals, presence) = (arrivals.clone(), presence.clone());
            move |query: Query| {
                let payload = query
                    .payload()
                    .map_or_else(|| Some(Vec::new()), bounded_copy);
                let n_sessions = presence.n_sessions();
                let source = Source::Query { query, n_sessions };
                arrive(&arrivals, Arrival { payload, source });
            }
        };
        let queryable = entrance::queryable(session, keys.generate(), accept)?;
        let accept = {
            let keys = keys.clone();
            move |sample: zenoh::sample::Sample| {
                if let Some(id) = keys.parse_prompt(sample.key_expr().as_str()) {
                    let payload = bounded_copy(sample.payload());
                    let source = Source::Topic(id.to_owned());
                    arrive(&arrivals, Arrival { payload, source });
                }
            }
        };
        let subscriber = entrance::subscriber(session, keys.prompts(), accept)?;
        let desk = Arc::new(Desk {
            session: session.clone(),
            keys: keys.clone(),
            client,
            presence,
            accounts: Accounts::default(),
        });
        let task = tokio::spawn(serve(desk, receiver));
        Ok(Self {
            task,
            entrance: Mutex::new(Some((queryable, subscriber))),
            _reporter: Reporter::start(session, keys, inbox)?,
        })
    }

    /// Takes no more requests; those that were taken are answered.
    pub(crate) fn close_entrance(&self) {
        let mut entrance = self.entrance.lock().unwrap_or_else(PoisonError::into_inner);
        *entrance = None;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The payload, unless it is longer than a request may be.
fn bounded_copy(payload: &ZBytes) -> Option<Vec<u8>> {
    if payload.len() > MAX_REQUEST_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(payload.len());
    payload.reader().read_to_end(&mut bytes).ok().map(|_| bytes)
}

fn arrive(arrivals: &mpsc::Sender<Arrival>, arrival: Arrival) {
    if arrivals.try_send(arrival).is_err() {
        tracing::warn!("dropped a request: {MAX_ARRIVALS} have arrived and are not looked at yet");
    }
}

/// Gives each arrival a task of its own.
async fn serve(desk: Arc<Desk>, mut arrivals: mpsc::Receiver<Arrival>) {
    let mut requests = JoinSet::new();
    let mut refusals = JoinSet::new();
    // The end of the newest request of each id, for which the next one waits.
    let mut turns: HashMap<String, Turn> = HashMap::new();
    while let Some(arrival) = arrivals.recv().await {
        while requests.try_join_next().is_some() {}
        while refusals.try_join_next().is_some() {}
        turns.retain(|_, turn| !turn.has_come());
        let desk = desk.clone();
        if requests.len() >= MAX_REQUESTS {
            if refusals.len() >= MAX_REFUSALS {
                tracing::warn!(
                    "dropped a request: {MAX_REFUSALS} clients are told to wait already"
                );
                continue;
            }
            let busy = busy(requests.len(), desk.accounts.room_after());
            let source = arrival.source;
            // Beside the others: a client that does not read must not hold up who comes next.
            refusals.spawn(async move {
                if let Some(asker) = desk.asker(source).await {
                    asker.refuse(busy).await;
                }
            });
            continue;
        }
        let (end, ended) = watch::channel(());
        let turn = match &arrival.source {
            Source::Query { .. } => None,
            Source::Topic(id) => turns.insert(id.clone(), Turn(ended)),
        };
        let is_alone = requests.is_empty();
        requests.spawn(async move {
            desk.attend(arrival, turn.clone(), is_alone).await;
            // A request that was given up before its turn does not let others overtake.
            if let Some(mut turn) = turn.filter(|turn| !turn.has_come()) {
                tokio::spawn(async move {
                    turn.wait().await;
                    drop(end);
                });
            }
        });
    }
    // The entrance is closed.
    while requests.join_next().await.is_some() {}
}

/// The turn of a prompt, which comes when the earlier one of its id ends.
#[derive(Clone)]
struct Turn(watch::Receiver<()>);

impl Turn {
    fn has_come(&self) -> bool {
        self.0.has_changed().is_err()
    }

    async fn wait(&mut self) {
        // Nothing is ever sent: it answers when the earlier request drops its end.
        let _ = self.0.changed().await;
    }
}

impl Desk {
    async fn asker(&self, source: Source) -> Option<Asker> {
        match Asker::new(self, source).await {
            Ok(asker) => Some(asker),
            Err(error) => {
                tracing::warn!("cannot answer a request: {error}");
                None
            }
        }
    }

    /// Answers a request when its turn comes, unless nobody waits for it any more.
    async fn attend(&self, arrival: Arrival, turn: Option<Turn>, is_alone: bool) {
        let Some(asker) = self.asker(arrival.source).await else {
            return;
        };
        let answered = async {
            if let Some(mut turn) = turn {
                turn.wait().await;
            }
            let payload = arrival.payload.as_deref();
            let answered = self.answer(&asker, payload, is_alone).await;
            answered.map_err(Refusal::from)
        };
        // Dropping the answer stops it.
        let ended = tokio::select! {
            ended = answered => ended,
            told = asker.gone() => {
                tracing::info!("gave up a request: nobody waits for its answer any more");
                told.map_or(Ok(()), |told| Err(told.into()))
            }
        };
        if let Err(refusal) = ended {
            asker.refuse(refusal).await;
        }
    }

    /// Answers a request; the error is what the client is told.
    async fn answer(&self, asker: &Asker, payload: Option<&[u8]>, is_alone: bool) -> Result<()> {
        let payload = payload.ok_or(TOO_LONG)?;
        let plain = matches!(asker, Asker::Topic { .. });
        let (prompt, mut options) = parse(payload, plain, self.client.default_options())?;
        let Some(account) = asker.account(is_alone).await else {
            return Ok(());
        };
        let entered = self.accounts.enter(account, MAX_REQUESTS_EACH);
        let _entry = entered.map_err(|full| busy(full.n_open, full.room_after))?;
        options.client = account;
        let mut stream = self.client.generate(prompt, options).await?;
        loop {
            let is_taken = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(item)) => asker.send(item_event(&item?)).await,
                Ok(None) => return Ok(()),
                Err(_) => asker.send_sign_of_life().await,
            };
            if !is_taken {
                tracing::info!("gave up a request: its query has timed out");
                return Ok(());
            }
        }
    }
}
