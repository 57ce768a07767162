//! The public side of a head, for any program that speaks zenoh.
//!
//! ```text
//! get jupiter/<cluster>/generate, payload: request     -> one reply per event, in order
//! put jupiter/<cluster>/prompt/<id>, payload: request  -> put completion/<id> per event, in order
//! ```
//!
//! Requests and events are JSON ([`request`]); on `prompt/<id>` a plain string is a request too.
//! Every request ends with exactly one `done` or `error` event. Prompts with the same id are
//! answered one after the other.

mod request;

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use jupiter_actors::request::RequestError;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use zenoh::bytes::ZBytes;
use zenoh::pubsub::Subscriber;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{Query, Queryable};
use zenoh::{Session, Wait};

use self::request::{MAX_REQUEST_BYTES, error_event, item_event, parse};
use crate::client::Client;
use crate::error::{Error, Result, zenoh_error};
use crate::keys::Keys;

/// Most public requests at the same time; each holds a thread of tokio's blocking pool while a
/// slow client takes an event. More are refused.
const MAX_REQUESTS: usize = 64;

/// Most requests that arrived and are not looked at yet. A flood beyond it is dropped.
const MAX_ARRIVALS: usize = 256;

/// Answers public requests. Dropping it stops all of them.
pub(crate) struct Service {
    task: JoinHandle<()>,
    entrance: Mutex<Option<(Queryable<()>, Subscriber<()>)>>,
}

/// A request as it arrived.
struct Arrival {
    payload: Option<Vec<u8>>,
    reply_to: ReplyTo,
}

/// Where the events of a request go.
#[derive(Clone)]
enum ReplyTo {
    Query(Arc<Query>),
    /// The id of `prompt/<id>`.
    Topic(String),
}

/// What answering takes.
struct Desk {
    session: Session,
    keys: Keys,
    client: Client,
}

impl Service {
    pub(crate) async fn start(session: &Session, keys: &Keys, client: Client) -> Result<Self> {
        let (arrivals, receiver) = mpsc::channel(MAX_ARRIVALS);
        let accept = {
            let arrivals = arrivals.clone();
            move |query: Query| {
                let payload = query
                    .payload()
                    .map_or_else(|| Some(Vec::new()), bounded_copy);
                let reply_to = ReplyTo::Query(Arc::new(query));
                arrive(&arrivals, Arrival { payload, reply_to });
            }
        };
        let queryable = session.declare_queryable(keys.generate()).callback(accept);
        let queryable = queryable.await.map_err(zenoh_error)?;
        let accept = {
            let keys = keys.clone();
            move |sample: zenoh::sample::Sample| {
                if let Some(id) = keys.parse_prompt(sample.key_expr().as_str()) {
                    let reply_to = ReplyTo::Topic(id.to_owned());
                    arrive(
                        &arrivals,
                        Arrival {
                            payload: bounded_copy(sample.payload()),
                            reply_to,
                        },
                    );
                }
            }
        };
        let subscriber = session.declare_subscriber(keys.prompts()).callback(accept);
        let subscriber = subscriber.await.map_err(zenoh_error)?;
        let desk = Arc::new(Desk {
            session: session.clone(),
            keys: keys.clone(),
            client,
        });
        let task = tokio::spawn(serve(desk, receiver));
        Ok(Self {
            task,
            entrance: Mutex::new(Some((queryable, subscriber))),
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
    // The end of the newest request of each id, for which the next one waits.
    let mut turns: HashMap<String, oneshot::Receiver<()>> = HashMap::new();
    while let Some(arrival) = arrivals.recv().await {
        while requests.try_join_next().is_some() {}
        turns.retain(|_, end| end.try_recv() == Err(TryRecvError::Empty));
        let desk = desk.clone();
        if requests.len() >= MAX_REQUESTS {
            let busy = RequestError::Busy {
                waiting: requests.len(),
            };
            // Beside the others: a client that does not read must not hold up who comes next.
            tokio::spawn(async move {
                desk.send(&arrival.reply_to, error_event(&busy.to_string()))
                    .await;
            });
            continue;
        }
        let (end, ended) = oneshot::channel();
        let earlier = match &arrival.reply_to {
            ReplyTo::Query(_) => None,
            ReplyTo::Topic(id) => turns.insert(id.clone(), ended),
        };
        requests.spawn(async move {
            if let Some(earlier) = earlier {
                // Nothing is ever sent: it answers when the earlier request drops its end.
                let _ = earlier.await;
            }
            let _end = end;
            if let Err(message) = desk.answer(&arrival).await {
                desk.send(&arrival.reply_to, error_event(&message)).await;
            }
        });
    }
    // The entrance is closed.
    while requests.join_next().await.is_some() {}
}

impl Desk {
    /// Answers a request; the error is what the client is told.
    async fn answer(&self, arrival: &Arrival) -> std::result::Result<(), String> {
        let too_long = || format!("the request has more than {MAX_REQUEST_BYTES} bytes");
        let payload = arrival.payload.as_deref().ok_or_else(too_long)?;
        let plain = matches!(arrival.reply_to, ReplyTo::Topic(_));
        let (prompt, options) = parse(payload, plain, self.client.default_options())?;
        let text = |error: Error| error.to_string();
        let mut stream = self.client.generate(prompt, options).await.map_err(text)?;
        while let Some(item) = stream.next().await {
            let event = item_event(&item.map_err(text)?);
            if !self.send(&arrival.reply_to, event).await {
                // Nobody takes it: dropping the stream stops the answer.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends an event, and waits while the client is slow: on a thread that may block.
    async fn send(&self, reply_to: &ReplyTo, event: Vec<u8>) -> bool {
        let session = self.session.clone();
        let (reply_to, keys) = (reply_to.clone(), self.keys.clone());
        let send = move || match reply_to {
            ReplyTo::Query(query) => query.reply(keys.generate(), event).wait(),
            ReplyTo::Topic(id) => session
                .put(keys.completion(&id), event)
                .congestion_control(CongestionControl::Block)
                .priority(Priority::InteractiveLow)
                .express(true)
                .wait(),
        };
        match tokio::task::spawn_blocking(send).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "an event was not taken");
                false
            }
            Err(_) => false,
        }
    }
}
