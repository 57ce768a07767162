//! The heads that a node sees, by their liveliness tokens.

use std::collections::BTreeMap;

use jupiter_actors::NodeId;
use jupiter_actors::codec::PROTOCOL_VERSION;
use tokio::sync::mpsc;
use zenoh::Session;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;

use crate::error::{Error, Result, zenoh_error};
use crate::net::keys::Keys;

/// The heads of a cluster; kept up by [`Heads::update`].
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

impl Head {
    /// Whether it speaks our version of the protocol.
    pub(crate) fn is_understood(&self) -> bool {
        self.protocol == u32::from(PROTOCOL_VERSION)
    }
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

    /// Those that are there, as far as [`Heads::update`] was told.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Head> {
        self.present.values()
    }

    pub(crate) fn is_present(&self, instance: &str) -> bool {
        self.present.contains_key(instance)
    }

    /// Waits until one comes or goes. Cancel safe.
    pub(crate) async fn update(&mut self) -> Result<()> {
        match self.events.recv().await.ok_or(Error::Stopped)? {
            Event::Up(head) => _ = self.present.insert(head.instance.clone(), head),
            Event::Down(head) => _ = self.present.remove(&head.instance),
        }
        Ok(())
    }
}
