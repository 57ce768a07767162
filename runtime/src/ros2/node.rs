//! A node of ROS 2 as rmw_zenoh writes it, or a bridge to DDS: publishers, subscriptions and services, each with its token.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::query::{Query, Queryable};
use zenoh::{Session, Wait};

use super::bridge;
use super::latch::Latch;
use super::types::Types;
use super::wire::{self, Attachment, EntityKind, Gid, Qos};
use crate::config::Ros2Name;
use crate::error::{Result, Ros2Error, zenoh_error};
use crate::net::entrance;

/// Longest message taken from a robot: a request of the zenoh topics, and what CDR writes around it.
const MAX_MESSAGE_BYTES: usize = (1 << 20) + (64 << 10);

/// A node; dropping it takes everything of it out of the graph.
pub(super) struct Node {
    session: Session,
    types: Arc<Types>,
    name: Ros2Name,
    dialect: Dialect,
    zid: String,
    next_id: AtomicU32,
    offered: Vec<Offered>,
    tokens: Vec<LivelinessToken>,
    subscribers: Vec<Subscriber<()>>,
    queryables: Vec<Queryable<()>>,
}

/// Whom it talks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Nodes with rmw_zenoh in this domain, which know types by their hashes or, in Humble, do not.
    Rmw { domain: u32, has_hashes: bool },
    /// Nodes behind zenoh-bridge-ros2dds.
    Bridge,
}

/// What the node has, for comparison with what others have under the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) topic: String,
    /// As on the wire.
    pub(super) ty: String,
    pub(super) hash: String,
}

impl Node {
    pub(super) fn new(
        session: &Session,
        types: Arc<Types>,
        name: Ros2Name,
        dialect: Dialect,
    ) -> Result<Self> {
        let mut node = Self {
            session: session.clone(),
            types,
            name,
            dialect,
            zid: session.zid().to_string(),
            next_id: AtomicU32::new(0),
            offered: Vec::new(),
            tokens: Vec::new(),
            subscribers: Vec::new(),
            queryables: Vec::new(),
        };
        node.declare(EntityKind::Node, None)?;
        Ok(node)
    }

    pub(super) fn offered(&self) -> &[Offered] {
        &self.offered
    }

    /// Sends messages of type `ty` (`std_msgs/msg/String`) on `topic` (`/llm/answer`).
    pub(super) fn publisher(&mut self, topic: &str, ty: &str, qos: Qos) -> Result<Publisher> {
        let hash = self.hash(ty)?;
        let gid = self.declare(EntityKind::Publisher, Some((topic, ty, &hash, qos)))?;
        let key = self.key(topic, ty, &hash);
        let publisher = self.session.declare_publisher(key.clone()).wait();
        let publisher = publisher.map_err(zenoh_error)?;
        let latch = match qos {
            Qos::Plain => None,
            Qos::Latched => Some(Latch::new(&self.session, &publisher)?),
        };
        Ok(Publisher {
            publisher,
            types: self.types.clone(),
            ty: ty.to_owned(),
            gid,
            latch,
            n_sent: Mutex::new(0),
        })
    }

    /// Hands messages, or what is wrong with them, and who sent them to `accept`, which is called from zenoh's threads and must not
    /// wait. Who sends no attachment (zenoh-pico) is nobody.
    pub(super) fn subscribe(
        &mut self,
        topic: &str,
        ty: &'static str,
        accept: impl Fn(Result<Value, String>, Option<Gid>) + Send + Sync + 'static,
    ) -> Result<()> {
        let hash = self.hash(ty)?;
        self.declare(
            EntityKind::Subscription,
            Some((topic, ty, &hash, Qos::Plain)),
        )?;
        let key = self.key(topic, ty, &hash);
        let complaints = Complaints::of(topic);
        let types = self.types.clone();
        let subscriber = entrance::subscriber(&self.session, key, move |sample| {
            let message = read(&types, ty, sample.payload());
            if let Err(why) = &message {
                complaints.say(why);
            }
            accept(message, attachment(sample.attachment()).map(|a| a.gid));
        })?;
        self.subscribers.push(subscriber);
        Ok(())
    }

    /// Hands calls of a service of type `ty` (`std_srvs/srv/Trigger`) to `accept`, as
    /// [`Node::subscribe`].
    pub(super) fn serve(
        &mut self,
        service: &str,
        ty: &'static str,
        accept: impl Fn(Call) + Send + Sync + 'static,
    ) -> Result<()> {
        let hash = self.hash(ty)?;
        self.declare(EntityKind::Service, Some((service, ty, &hash, Qos::Plain)))?;
        let key = self.key(service, ty, &hash);
        let complaints = Complaints::of(service);
        let types = self.types.clone();
        let own = key.clone();
        let take = move |query: Query| {
            // A query with a wildcard looks around, and means nobody.
            if query.key_expr().as_str() != own {
                return;
            }
            let request = match query.payload() {
                Some(payload) => read(&types, &format!("{ty}_Request"), payload),
                None => Err("a call without a message".to_owned()),
            };
            let attachment = attachment(query.attachment());
            match request {
                Ok(request) => accept(Call {
                    request,
                    attachment,
                    reply: Reply {
                        query,
                        types: types.clone(),
                        ty,
                    },
                }),
                Err(why) => {
                    complaints.say(&why);
                    // A client of ROS waits for ever after an error; a response without anything says no.
                    let types = types.clone();
                    Reply { query, types, ty }.send(attachment, &json!({}));
                }
            }
        };
        let queryable = self.session.declare_queryable(key).complete(true);
        let queryable = queryable.callback(take).wait().map_err(zenoh_error)?;
        self.queryables.push(queryable);
        Ok(())
    }

    fn declare(
        &mut self,
        kind: EntityKind,
        endpoint: Option<(&str, &str, &str, Qos)>,
    ) -> Result<Option<Gid>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let name = (self.name.namespace.as_str(), self.name.node.as_str());
        let token = match self.dialect {
            Dialect::Rmw { domain, .. } => {
                let place = (domain, self.zid.as_str());
                Some(wire::token(place, (0, id), kind, name, endpoint))
            }
            Dialect::Bridge => bridge::token(&self.zid, kind, endpoint),
        };
        // Only rmw_zenoh knows endpoints by such a name.
        let gid = match self.dialect {
            Dialect::Rmw { .. } => token.as_deref().map(wire::gid),
            Dialect::Bridge => None,
        };
        if let Some(token) = token {
            let declared = self.session.liveliness().declare_token(token).wait();
            self.tokens.push(declared.map_err(zenoh_error)?);
        }
        if let Some((topic, ty, hash, _)) = endpoint {
            self.offered.push(Offered {
                topic: topic.to_owned(),
                ty: wire::dds_type(ty),
                hash: hash.to_owned(),
            });
        }
        Ok(gid)
    }

    fn key(&self, topic: &str, ty: &str, hash: &str) -> String {
        match self.dialect {
            Dialect::Rmw { domain, .. } => wire::key(domain, topic, ty, hash),
            Dialect::Bridge => bridge::key(topic),
        }
    }

    fn hash(&self, ty: &str) -> Result<String> {
        if matches!(
            self.dialect,
            Dialect::Rmw {
                has_hashes: false,
                ..
            }
        ) {
            return Ok(wire::NO_HASH.to_owned());
        }
        let hash = self.types.hash(ty);
        hash.map_err(|error| Ros2Error::Interface(error.to_string()).into())
    }
}

/// Reads a message; the error is one line.
fn read(types: &Types, ty: &str, payload: &zenoh::bytes::ZBytes) -> Result<Value, String> {
    if payload.len() > MAX_MESSAGE_BYTES {
        return Err(format!("more than {MAX_MESSAGE_BYTES} bytes"));
    }
    let message = types.decode(ty, &payload.to_bytes());
    message.map_err(|error| error.to_string())
}

fn attachment(bytes: Option<&zenoh::bytes::ZBytes>) -> Option<Attachment> {
    bytes.and_then(|bytes| Attachment::parse(&bytes.to_bytes()))
}

/// Says what is wrong with messages, each thing once; whoever sends such ones often would fill the log.
struct Complaints {
    topic: String,
    said: Mutex<HashSet<String>>,
}

/// Most things that are said of a topic's messages.
const MAX_COMPLAINTS: usize = 16;

impl Complaints {
    fn of(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            said: Mutex::default(),
        }
    }

    fn say(&self, why: &str) {
        // Where in a message it is wrong is no other thing.
        let kind = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MAX_COMPLAINTS && said.insert(kind) {
            tracing::warn!(
                "a message on {} is left alone (more such are not told): {why}",
                self.topic
            );
        }
    }
}

/// Sends messages of one topic. A subscriber that does not read loses some: nobody waits for it.
pub(super) struct Publisher {
    publisher: zenoh::pubsub::Publisher<'static>,
    types: Arc<Types>,
    ty: String,
    /// Nothing where messages have no attachment.
    gid: Option<Gid>,
    latch: Option<Latch>,
    n_sent: Mutex<i64>,
}

impl Publisher {
    pub(super) fn publish(&self, message: &Value) {
        let payload = match self.types.encode(&self.ty, message) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!("{} is not published: {error}", self.ty);
                return;
            }
        };
        // Held while it is sent, so that numbers are in order.
        let mut n_sent = self.n_sent.lock().unwrap_or_else(PoisonError::into_inner);
        *n_sent += 1;
        let attachment = (self.gid).map(|gid| Attachment::now(*n_sent, gid).to_bytes());
        let sent = match &self.latch {
            Some(latch) => latch.put(&self.publisher, payload, attachment),
            None => self.publisher.put(payload).attachment(attachment).wait(),
        };
        if let Err(error) = sent {
            tracing::debug!("{}: {error}", self.publisher.key_expr());
        }
    }
}

/// A call of a service.
pub(super) struct Call {
    pub(super) request: Value,
    /// Nothing of clients that send none (zenoh-pico).
    pub(super) attachment: Option<Attachment>,
    pub(super) reply: Reply,
}

/// The way to who called. A client of ROS waits until it hears something.
pub(super) struct Reply {
    query: Query,
    types: Arc<Types>,
    ty: &'static str,
}

impl Call {
    /// The client that calls.
    pub(super) fn client(&self) -> Option<Gid> {
        self.attachment.map(|attachment| attachment.gid)
    }

    /// Answers now.
    pub(super) fn answer(self, response: &Value) {
        let attachment = self.attachment;
        self.reply.send(attachment, response);
    }
}

impl Reply {
    /// Sends the response, with the number and the gid of the request. Waits while the client is slow.
    pub(super) fn send(self, request: Option<Attachment>, response: &Value) {
        let ty = format!("{}_Response", self.ty);
        // A client of ROS waits until it hears something.
        let payload = self.types.encode(&ty, response).or_else(|error| {
            tracing::error!("{ty} says nothing: {error}");
            self.types.encode(&ty, &json!({}))
        });
        let Ok(payload) = payload else {
            return;
        };
        let attachment = request.map(|request| {
            let now = Attachment::now(request.sequence, request.gid);
            now.to_bytes()
        });
        let key = self.query.key_expr().clone();
        let reply = self.query.reply(key, payload).attachment(attachment);
        if let Err(error) = reply.wait() {
            tracing::debug!("{}: {error}", self.query.key_expr());
        }
    }
}
