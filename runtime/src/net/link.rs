//! Frames between actors, carried by zenoh.
//!
//! ```text
//! actor --send--> SendQueue --thread "to stage 1"--> publisher ~~> subscriber --> deliver --> actor
//! ```
//!
//! Publishing with back-pressure blocks its thread, and actors must not wait: so each address has a
//! bounded queue and a thread of its own. A full queue is the sender's to handle. Where no frame is
//! before it, a small one goes past the queue, since waking another thread takes longer than sending
//! it: to this process, or from an engine's thread, which may wait. That zenoh took a frame does not
//! mean that it arrived: receivers notice gaps by step ids.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jupiter_actors::{Address, Link, LinkError, NodeId, PlanEpoch};
use zenoh::bytes::ZBytes;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority, Reliability};
use zenoh::{Session, Wait};

use crate::error::{Result, zenoh_error};
use crate::net::emulation::{EmulatedLink, LinkLimits};
use crate::net::entrance;
use crate::net::keys::HeadKeys;
use crate::net::send_queue::{Frame, Next, Push, SendQueue};

/// Most frames that wait for one address: well above the credits of a pipeline (twice its stages plus
/// two, with cancelled steps), so that only a receiver that is stuck fills it.
pub const QUEUE_FRAMES: usize = 128;

/// How long a frame waits for someone who subscribes to its address. A new stage's subscription
/// crosses the network in milliseconds; a worker that learns of another through gossip needs up to
/// a few seconds to connect to it.
const RECEIVER_PATIENCE: Duration = Duration::from_secs(5);

/// Takes the frames that arrive. Called from zenoh's threads; must not wait.
pub type Deliver = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// A [`Link`] over a zenoh session.
pub struct ZenohLink {
    session: Session,
    keys: HeadKeys,
    emulated: Arc<EmulatedLink>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    deliver: Option<Deliver>,
    /// What ends on this node, however slow its emulated link is.
    node: Option<NodeId>,
    is_head: bool,
    /// Keep the entrance of this node open.
    own: Vec<Subscriber<()>>,
    /// Keep the entrances of its stages open.
    hosted: HashMap<(PlanEpoch, u32), Subscriber<()>>,
    lanes: HashMap<Address, Arc<Lane>>,
    /// The newest epoch that anything was sent to.
    newest: PlanEpoch,
    closed: bool,
}

/// The way to one address.
#[derive(Default)]
struct Lane {
    queue: Arc<SendQueue>,
    /// As long as the thread lives.
    publisher: Mutex<Option<Publisher<'static>>>,
}

impl ZenohLink {
    /// A link that sends; [`ZenohLink::attach`] makes it receive.
    pub fn new(session: Session, keys: HeadKeys) -> Self {
        let emulated = Arc::new(EmulatedLink::new(LinkLimits::default()));
        Self::through(emulated, session, keys)
    }

    /// The same, where what leaves this node goes through an emulated link.
    pub(crate) fn through(emulated: Arc<EmulatedLink>, session: Session, keys: HeadKeys) -> Self {
        Self {
            session,
            keys,
            emulated,
            inner: Mutex::default(),
        }
    }

    /// Hands the frames for `node`, and for the Planner when this is the head, to `deliver`.
    ///
    /// # Errors
    /// When zenoh refuses the subscriptions.
    pub fn attach(&self, node: &NodeId, is_head: bool, deliver: Deliver) -> Result<()> {
        let mut keys = vec![self.keys.node(node)];
        if is_head {
            keys.extend([self.keys.planner(), self.keys.accept_all()]);
        }
        let own = keys
            .into_iter()
            .map(|key| subscribe(&self.session, key, deliver.clone()));
        let own = own.collect::<Result<Vec<_>>>()?;
        let mut inner = self.lock();
        inner.own = own;
        inner.node = Some(node.clone());
        inner.is_head = is_head;
        inner.deliver = Some(deliver);
        Ok(())
    }

    /// Stops sending and receiving. What still waits in queues is thrown away.
    pub fn close(&self) {
        let old = {
            let mut inner = self.lock();
            let closed = Inner {
                closed: true,
                newest: inner.newest,
                ..Inner::default()
            };
            std::mem::replace(&mut *inner, closed)
        };
        old.lanes.values().for_each(|lane| lane.queue.close());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to `to` and its thread.
    fn start_lane(&self, to: &Address) -> std::io::Result<Arc<Lane>> {
        let lane = Arc::new(Lane::default());
        let (ours, session) = (lane.clone(), self.session.clone());
        let (to, key) = (to.clone(), self.keys.address(to));
        std::thread::Builder::new()
            .name(format!("to {to}"))
            .spawn(move || publish(&session, &to, key, &ours))?;
        Ok(lane)
    }

    /// Sends a frame through its queue or, if nothing is before it and it stays in this process or the
    /// caller may wait, past it.
    fn forward(&self, to: &Address, frame: Vec<u8>, may_wait: bool) -> Result<(), LinkError> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(LinkError::Closed);
        }
        if let Some(epoch) = epoch_of(to) {
            if epoch < inner.newest {
                tracing::debug!("dropped a frame to {to}: the plan is outdated");
                return Ok(());
            }
            inner.retire_before(epoch);
        }
        let lane = match inner.lanes.get(to) {
            Some(lane) => lane.clone(),
            None => {
                let lane = self.start_lane(to).map_err(|error| {
                    tracing::error!(%error, "cannot start the thread that sends to {to}");
                    LinkError::Closed
                })?;
                inner.lanes.insert(to.clone(), lane.clone());
                lane
            }
        };
        let is_local = inner.is_local(to);
        let due = if is_local {
            None
        } else {
            self.emulated.arrival(frame.len(), Instant::now())
        };
        // What stays in this process waits for no network.
        if (may_wait || is_local) && due.is_none() && lane.queue.claim(frame.len()) {
            drop(inner);
            return lane.publish(frame, to);
        }
        let frame = Frame { bytes: frame, due };
        match lane.queue.push(frame, QUEUE_FRAMES) {
            Push::Taken => Ok(()),
            Push::Full => Err(LinkError::Full {
                to: to.clone(),
                capacity: QUEUE_FRAMES,
            }),
            // Its thread could not publish: the next frame gets a new one.
            Push::Closed => {
                inner.lanes.remove(to);
                Err(LinkError::Closed)
            }
        }
    }
}

impl Lane {
    /// Declares the publisher, and sees who receives. That comes last, and what is claimed meanwhile waits
    /// for the lock: whoever finds a receiver finds the publisher, too.
    fn open(&self, session: &Session, to: &Address, key: String) -> Result<()> {
        let mut publisher = self.publisher();
        let publisher = publisher.insert(declare_publisher(session, to, key)?);
        let watched = self.queue.clone();
        publisher
            .matching_listener()
            .callback(move |status| watched.set_receiver(status.matching()))
            .background()
            .wait()
            .map_err(zenoh_error)
    }

    /// Publishes the frame whose turn it is. However that ends, the next one may go.
    fn publish(&self, frame: Vec<u8>, to: &Address) -> Result<(), LinkError> {
        let publisher = self.publisher();
        let put = publisher
            .as_ref()
            .map(|publisher| publisher.put(frame).wait());
        self.queue.published();
        put.ok_or(LinkError::Closed)?.map_err(|error| {
            self.queue.close();
            tracing::warn!(%error, "cannot send to {to}");
            LinkError::Closed
        })
    }

    fn publisher(&self) -> MutexGuard<'_, Option<Publisher<'static>>> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link for ZenohLink {
    fn send(&self, to: &Address, frame: Vec<u8>) -> Result<(), LinkError> {
        self.forward(to, frame, false)
    }

    fn send_from_own_thread(&self, to: &Address, frame: Vec<u8>) -> Result<(), LinkError> {
        self.forward(to, frame, true)
    }

    fn host(&self, epoch: PlanEpoch, stages: &[u32]) {
        let mut inner = self.lock();
        let Some(deliver) = inner.deliver.clone() else {
            return;
        };
        // Undeclared after the lock is free: that waits for callbacks under way.
        let mut old = std::mem::take(&mut inner.hosted);
        for &stage in stages {
            let subscriber = match old.remove(&(epoch, stage)) {
                Some(subscriber) => Ok(subscriber),
                None => subscribe(
                    &self.session,
                    self.keys.stage(epoch, stage),
                    deliver.clone(),
                ),
            };
            match subscriber {
                Ok(subscriber) => _ = inner.hosted.insert((epoch, stage), subscriber),
                Err(error) => tracing::error!(%error, stage, "cannot subscribe"),
            }
        }
        drop(inner);
    }
}

impl Drop for ZenohLink {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Whether `to` is on this node.
    fn is_local(&self, to: &Address) -> bool {
        match to {
            Address::Stage { epoch, stage } => self.hosted.contains_key(&(*epoch, *stage)),
            Address::Node(node) => self.node.as_ref() == Some(node),
            Address::Accept { .. } | Address::Head => self.is_head,
        }
    }

    /// Ends the lanes of epochs older than `epoch`, which has just appeared.
    fn retire_before(&mut self, epoch: PlanEpoch) {
        if epoch <= self.newest {
            return;
        }
        self.newest = epoch;
        self.lanes.retain(|address, lane| {
            let current = epoch_of(address).is_none_or(|other| other >= epoch);
            if !current {
                lane.queue.close();
            }
            current
        });
    }
}

/// The plan that `address` belongs to, if it ends with a plan.
fn epoch_of(address: &Address) -> Option<PlanEpoch> {
    match address {
        Address::Stage { epoch, .. } | Address::Accept { epoch } => Some(*epoch),
        Address::Node(_) | Address::Head => None,
    }
}

fn subscribe(session: &Session, key: String, deliver: Deliver) -> Result<Subscriber<()>> {
    entrance::subscriber(session, key, move |sample| {
        deliver_contiguous(sample.payload(), &deliver);
    })
}

/// Large messages arrive in many slices: only those are copied together.
fn deliver_contiguous(payload: &ZBytes, deliver: &Deliver) {
    let mut slices = payload.slices();
    if let (Some(only), None) = (slices.next(), slices.next()) {
        return deliver(only);
    }
    let mut frame = Vec::with_capacity(payload.len());
    match payload.reader().read_to_end(&mut frame) {
        Ok(_) => deliver(&frame),
        Err(error) => tracing::warn!(%error, "cannot read a message"),
    }
}

/// The life of a sender thread.
fn publish(session: &Session, to: &Address, key: String, lane: &Lane) {
    if let Err(error) = lane.open(session, to, key) {
        lane.queue.close();
        return tracing::error!(%error, "cannot send to {to}");
    }
    loop {
        match lane.queue.next(RECEIVER_PATIENCE) {
            Next::Closed => break,
            Next::NoReceiver(n_frames) => tracing::warn!(
                "dropped {n_frames} frames to {to}: nobody received them for {} s; \
                 is its node reachable from this one?",
                RECEIVER_PATIENCE.as_secs()
            ),
            Next::Frame(frame) => {
                if let Some(due) = frame.due {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                if lane.publish(frame.bytes, to).is_err() {
                    break;
                }
            }
        }
    }
    drop(lane.publisher().take());
}

fn declare_publisher(session: &Session, to: &Address, key: String) -> Result<Publisher<'static>> {
    // Activations have a priority of their own, so that commands and reports overtake them.
    let priority = match to {
        Address::Stage { .. } => Priority::Data,
        Address::Accept { .. } | Address::Node(_) | Address::Head => Priority::InteractiveHigh,
    };
    session
        .declare_publisher(key)
        .congestion_control(CongestionControl::Block)
        .reliability(Reliability::Reliable)
        .priority(priority)
        // No message waits for another to share a batch with.
        .express(true)
        .wait()
        .map_err(zenoh_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_cannot_be_published_holds_up_none_behind_it() {
        let lane = Lane::default();
        lane.queue.set_receiver(true);
        assert!(lane.queue.claim(1));
        let published = lane.publish(vec![0], &Address::Head);
        assert!(matches!(published, Err(LinkError::Closed)));
        assert!(lane.queue.claim(1));
    }
}
