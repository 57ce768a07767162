//! The head's side of the membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jupiter_actors::codec::PROTOCOL_VERSION;
use jupiter_actors::planner::{NodeProfile, PlannerMessage};
use jupiter_actors::{Inbox, NodeId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use zenoh::Session;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::query::{Query, Queryable};
use zenoh::sample::SampleKind;

use super::meeting::{Meeting, Own};
use super::roster::{Change, Roster};
use super::survey::Survey;
use super::{ASK_TIMEOUT, Answer, JoinRequest};
use crate::error::{ClusterError, Error, Result, zenoh_error};
use crate::net::entrance;
use crate::net::keys::Keys;
use crate::planner;
use crate::task::AbortOnDrop;

/// Longest request to join that is read: a node's name and a hash are a few hundred bytes.
const MAX_REQUEST_BYTES: usize = 16 << 10;

/// Keeps a head known in its cluster, and tells what becomes of the nodes. Dropping it ends both.
pub(crate) struct HeadMembership {
    task: JoinHandle<()>,
    gives_way: GivesWay,
}

/// Tells when a head gives way to another.
#[derive(Clone)]
pub(crate) struct GivesWay(watch::Receiver<Option<String>>);

impl GivesWay {
    /// One that never does, as nobody sees it.
    pub(crate) fn never() -> Self {
        Self(watch::channel(None).1)
    }

    /// To whom and why, if it does.
    pub(crate) fn now(&self) -> Option<Error> {
        let why = self.0.borrow().clone()?;
        Some(ClusterError::GaveWay(why).into())
    }

    /// Waits for it. Cancel safe.
    pub(crate) async fn wait(&mut self) -> Error {
        if let Ok(why) = self.0.wait_for(Option::is_some).await {
            return ClusterError::GaveWay(why.clone().unwrap_or_default()).into();
        }
        // The membership has ended with its head.
        std::future::pending().await
    }
}

/// What makes a head known; it is withdrawn when this is dropped.
struct Declared {
    _token: LivelinessToken,
    _tokens: Subscriber<()>,
    _join: Queryable<()>,
}

/// What becomes of nodes.
#[derive(Debug)]
pub(crate) enum News {
    /// It can take stages; with what was measured of it, where that was asked for and possible.
    Up(NodeId, Option<Box<NodeProfile>>),
    /// It is gone.
    Down(NodeId),
}

/// Where news go. Unbounded, as they are as rare as machines that come and go.
pub(crate) type NewsSender = mpsc::UnboundedSender<News>;

enum Event {
    TokenUp(NodeId, String),
    TokenDown(NodeId, String),
    Join(Query),
}

impl HeadMembership {
    /// Announces the head; `planner` is where its Planner is, if it has one.
    ///
    /// # Errors
    /// When the cluster has a head already.
    pub(crate) async fn start(
        session: &Session,
        keys: &Keys,
        node: &NodeId,
        model: String,
        planner: Option<Inbox>,
        news: NewsSender,
        survey: Option<Arc<Survey>>,
    ) -> Result<Self> {
        refuse_second_head(session, keys).await?;
        // Unbounded, as callbacks must not wait; events are as rare as machines that come and go.
        let (events, receiver) = mpsc::unbounded_channel();
        let (join, tokens) = listen(session, keys, events).await?;
        let n_workers = Arc::new(AtomicUsize::new(0));
        let own = Own {
            node: node.clone(),
            n_workers: n_workers.clone(),
            planner,
        };
        let meeting = Meeting::start(session, keys, own).await?;
        let instance = session.zid().to_string();
        let token = keys.head_token(u32::from(PROTOCOL_VERSION), node, &instance);
        let token = session.liveliness().declare_token(token);
        let token = token.await.map_err(zenoh_error)?;
        let declared = Declared {
            _token: token,
            _tokens: tokens,
            _join: join,
        };
        let roster = Roster::new(node.clone(), model);
        let keeping = keep_roster(roster, receiver, news, survey, n_workers);
        let (tell, gives_way) = watch::channel(None);
        let task = tokio::spawn(async move {
            let _declared = declared;
            tokio::select! {
                () = keeping => {}
                Ok(why) = meeting.lost() => {
                    // Nobody may be left to hear it.
                    let _ = tell.send(Some(why));
                }
            }
        });
        let gives_way = GivesWay(gives_way);
        Ok(Self { task, gives_way })
    }
}

impl HeadMembership {
    pub(crate) fn gives_way(&self) -> GivesWay {
        self.gives_way.clone()
    }
}

impl Drop for HeadMembership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hears who asks to join, and whose tokens come and go.
async fn listen(
    session: &Session,
    keys: &Keys,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(Queryable<()>, Subscriber<()>)> {
    let join = {
        let (events, key) = (events.clone(), keys.of(&session.zid().to_string()).join());
        entrance::queryable(session, key, move |query| {
            // After the end nobody needs an answer.
            let _ = events.send(Event::Join(query));
        })?
    };
    let keys = keys.clone();
    let tokens = session
        .liveliness()
        .declare_subscriber(keys.node_tokens())
        .history(true)
        .callback(move |sample| {
            let Some((node, instance)) = keys.parse_node_token(sample.key_expr().as_str()) else {
                return;
            };
            let event = match sample.kind() {
                SampleKind::Put => Event::TokenUp(node, instance),
                SampleKind::Delete => Event::TokenDown(node, instance),
            };
            let _ = events.send(event);
        });
    Ok((join, tokens.await.map_err(zenoh_error)?))
}

/// Two heads would give the same nodes different stages.
async fn refuse_second_head(session: &Session, keys: &Keys) -> Result<()> {
    let heads = session
        .liveliness()
        .get(keys.head_tokens())
        .timeout(ASK_TIMEOUT);
    let heads = heads.await.map_err(zenoh_error)?;
    while let Ok(reply) = heads.recv_async().await {
        let Ok(sample) = reply.result() else { continue };
        if let Some((_, other, _)) = keys.parse_head_token(sample.key_expr().as_str()) {
            return Err(ClusterError::HasHead { head: other }.into());
        }
    }
    Ok(())
}

async fn keep_roster(
    mut roster: Roster,
    mut events: mpsc::UnboundedReceiver<Event>,
    news: NewsSender,
    survey: Option<Arc<Survey>>,
    n_workers: Arc<AtomicUsize>,
) {
    // Nodes on their way: one that is gone again must not arrive.
    let mut arriving: BTreeMap<NodeId, AbortOnDrop> = BTreeMap::new();
    while let Some(event) = events.recv().await {
        let change = match event {
            Event::TokenUp(node, instance) => roster.token_up(node, &instance),
            Event::TokenDown(node, instance) => roster.token_down(node, &instance),
            Event::Join(query) => answer(&mut roster, &query).await,
        };
        n_workers.store(roster.n_up(), Ordering::Relaxed);
        match change {
            Some(Change::Up(node)) => {
                tracing::info!(%node, "node joined");
                let arrival = arrive(news.clone(), survey.clone(), node.clone());
                arriving.insert(node, AbortOnDrop(tokio::spawn(arrival)));
            }
            Some(Change::Down(node)) => {
                tracing::warn!("node {node} is gone");
                arriving.remove(&node);
                if let Some(survey) = &survey {
                    survey.forget(&node).await;
                }
                // Nobody listens when the head ends.
                let _ = news.send(News::Down(node));
            }
            None => {}
        }
    }
}

/// Measures a node where plans need that, and tells of it.
pub(crate) async fn arrive(news: NewsSender, survey: Option<Arc<Survey>>, node: NodeId) {
    let profile = match survey {
        None => None,
        Some(survey) => match survey.measure(&node).await {
            Ok(profile) => Some(Box::new(profile)),
            Err(error) => {
                tracing::warn!("node {node} is not planned for: {error}");
                None
            }
        },
    };
    // Nobody listens when the head ends.
    let _ = news.send(News::Up(node, profile));
}

/// Tells the Planner what is new.
pub(crate) async fn tell_planner(mut news: mpsc::UnboundedReceiver<News>, inbox: Inbox) {
    while let Some(news) = news.recv().await {
        let told = match news {
            News::Up(node, profile) => {
                if let Some(profile) = profile
                    && tell(&inbox, || PlannerMessage::Measured(profile.clone()))
                        .await
                        .is_err()
                {
                    return;
                }
                tell(&inbox, || PlannerMessage::NodeUp(node.clone())).await
            }
            News::Down(node) => tell(&inbox, || PlannerMessage::NodeDown(node.clone())).await,
        };
        if told.is_err() {
            return;
        }
    }
}

/// Answers a node that asks to be admitted.
async fn answer(roster: &mut Roster, query: &Query) -> Option<Change> {
    let payload = query
        .payload()
        .map(|payload| payload.to_bytes())
        .unwrap_or_default();
    let request = match serde_json::from_slice::<JoinRequest>(&payload) {
        Ok(request) if payload.len() <= MAX_REQUEST_BYTES => request,
        _ => {
            tracing::warn!("a node of another version of jupiter asked to join: update it");
            let why = "the head does not understand this node: install the same version of \
                       jupiter on all nodes";
            reply(
                query,
                &Answer::Refused {
                    why: why.to_owned(),
                    retry: false,
                },
            )
            .await;
            return None;
        }
    };
    let (answer, change) = roster.join(&request);
    if let Answer::Refused { why, .. } = &answer {
        tracing::warn!("refused: {why}");
    }
    reply(query, &answer).await;
    change
}

async fn reply(query: &Query, answer: &Answer) {
    let Ok(json) = serde_json::to_vec(answer) else {
        return;
    };
    if let Err(error) = query.reply(query.key_expr(), json).await {
        // Who asked asks again.
        tracing::debug!(%error, "could not answer a node");
    }
}

/// Tells the Planner; while it is being started again, waits for it.
///
/// # Errors
/// [`Error::Stopped`] when it does not come back.
async fn tell(inbox: &Inbox, message: impl Fn() -> PlannerMessage) -> Result<()> {
    loop {
        // A Planner that fails in this moment is waited for again.
        if planner::living(inbox).await?.cast(message()).is_ok() {
            return Ok(());
        }
    }
}
