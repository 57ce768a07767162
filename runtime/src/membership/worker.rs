//! A worker's side of the membership.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jupiter_actors::NodeId;
use jupiter_actors::codec::PROTOCOL_VERSION;
use tokio::sync::mpsc;
use zenoh::Session;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;

use super::{ASK_TIMEOUT, Answer, Profile, protocol_mismatch};
use crate::error::{Error, Result, zenoh_error};
use crate::keys::Keys;

/// How long a name may be taken before a worker gives up: a process of that name that was killed
/// keeps it until its lease ends.
const NAME_PATIENCE: Duration = Duration::from_secs(6);

/// Pause before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The heads that a worker sees.
pub(crate) struct Heads {
    events: mpsc::UnboundedReceiver<Event>,
    /// By their instance, which is another one after a restart.
    present: BTreeMap<String, Head>,
    _subscriber: Subscriber<()>,
}

/// A head of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub protocol: u32,
    pub node: NodeId,
    pub instance: String,
}

enum Event {
    Up(Head),
    Down(Head),
}

impl Heads {
    /// Looks for heads, those that are there already included.
    pub(crate) async fn watch(session: &Session, keys: &Keys) -> Result<Self> {
        // Unbounded, as callbacks must not wait; heads come and go rarely.
        let (sender, events) = mpsc::unbounded_channel();
        let subscriber = {
            let keys = keys.clone();
            let liveliness = session.liveliness();
            liveliness
                .declare_subscriber(keys.head_tokens())
                .history(true)
                .callback(move |sample| {
                    let parsed = keys.parse_head_token(sample.key_expr().as_str());
                    let Some((protocol, node, instance)) = parsed else {
                        return;
                    };
                    let head = Head {
                        protocol,
                        node,
                        instance,
                    };
                    let event = match sample.kind() {
                        SampleKind::Put => Event::Up(head),
                        SampleKind::Delete => Event::Down(head),
                    };
                    // After the end nobody listens.
                    let _ = sender.send(event);
                })
        };
        let _subscriber = subscriber.await.map_err(zenoh_error)?;
        Ok(Self {
            events,
            present: BTreeMap::new(),
            _subscriber,
        })
    }

    /// Waits for a head of our protocol. Cancel safe.
    ///
    /// # Errors
    /// When there is one of another protocol.
    pub(crate) async fn wait(&mut self) -> Result<Head> {
        loop {
            if let Some(head) = self.present.values().next() {
                if head.protocol != u32::from(PROTOCOL_VERSION) {
                    let who = format!("the head, node {},", head.node);
                    return Err(Error::Cluster(protocol_mismatch(&who, head.protocol)));
                }
                return Ok(head.clone());
            }
            self.update().await?;
        }
    }

    /// Waits until `head` is gone. Cancel safe.
    pub(crate) async fn wait_until_gone(&mut self, head: &Head) -> Result<()> {
        while self.present.contains_key(&head.instance) {
            self.update().await?;
            if self.present.values().any(|other| other.node != head.node) {
                tracing::warn!(
                    "a second head is in this cluster: stop it, or give it another --cluster; this \
                     worker stays with {}",
                    head.node
                );
            }
        }
        Ok(())
    }

    async fn update(&mut self) -> Result<()> {
        match self.events.recv().await.ok_or(Error::Stopped)? {
            Event::Up(head) => _ = self.present.insert(head.instance.clone(), head),
            Event::Down(head) => _ = self.present.remove(&head.instance),
        }
        Ok(())
    }
}

/// Asks the head to admit this node, until it does.
///
/// # Errors
/// When the head refuses for good.
pub(crate) async fn join(session: &Session, keys: &Keys, profile: &Profile) -> Result<()> {
    let start = Instant::now();
    let payload = serde_json::to_vec(profile).map_err(|e| Error::Cluster(e.to_string()))?;
    loop {
        match ask(session, keys, &payload).await? {
            Some(Answer::Accepted) => return Ok(()),
            Some(Answer::Refused { why, retry }) if !retry || start.elapsed() > NAME_PATIENCE => {
                return Err(Error::Cluster(why));
            }
            Some(Answer::Refused { why, .. }) => tracing::info!("not admitted yet: {why}"),
            None => tracing::debug!("the head does not answer yet"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Asks once; none when there is no readable answer.
async fn ask(session: &Session, keys: &Keys, payload: &[u8]) -> Result<Option<Answer>> {
    let replies = session
        .get(keys.join())
        .payload(payload)
        .timeout(ASK_TIMEOUT);
    let replies = replies.await.map_err(zenoh_error)?;
    while let Ok(reply) = replies.recv_async().await {
        if let Ok(sample) = reply.result() {
            let answer = serde_json::from_slice(&sample.payload().to_bytes());
            if let Ok(answer) = answer {
                return Ok(Some(answer));
            }
        }
    }
    Ok(None)
}
