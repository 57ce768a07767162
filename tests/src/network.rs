//! An in-memory network with faults from a seed.
//!
//! Whether a frame is dropped, repeated, delayed or damaged depends only on the seed, on the kind
//! of address and on how many frames went there before, so a run can be had again from its seed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jupiter_actors::{Address, Inbox, Link, LinkError, NodeId, PlanEpoch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often frames meet a fault, each as a probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultRates {
    /// The frame never arrives.
    pub drop: f64,
    /// The frame arrives twice.
    pub repeat: f64,
    /// The frame arrives some milliseconds later, behind others.
    pub delay: f64,
    /// Bytes of the frame are changed, or its end is missing.
    pub damage: f64,
}

/// Nodes and the frames between them.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Mutex<Shared>>,
    runtime: tokio::runtime::Handle,
}

struct Shared {
    seed: u64,
    rates: FaultRates,
    /// Faults that may still happen.
    n_left: u32,
    counts: HashMap<String, u64>,
    inboxes: HashMap<NodeId, Inbox>,
    hosts: HashMap<u32, NodeId>,
    head: Option<NodeId>,
}

impl Network {
    /// A network without nodes, on the current tokio runtime. At most `n_faults` faults happen.
    pub fn new(seed: u64, rates: FaultRates, n_faults: u32) -> Self {
        let shared = Shared {
            seed,
            rates,
            n_left: n_faults,
            counts: HashMap::new(),
            inboxes: HashMap::new(),
            hosts: HashMap::new(),
            head: None,
        };
        let runtime = tokio::runtime::Handle::current();
        Self {
            shared: Arc::new(Mutex::new(shared)),
            runtime,
        }
    }

    /// A link and an inbox for a node; the first one is the head.
    pub fn join(&self, node: &NodeId) -> (Arc<dyn Link>, Inbox) {
        let link = Arc::new(NodeLink {
            node: node.clone(),
            network: self.clone(),
        });
        let inbox = Inbox::new(node.clone(), link.clone());
        let mut shared = self.lock();
        shared.inboxes.insert(node.clone(), inbox.clone());
        shared.head.get_or_insert_with(|| node.clone());
        (link, inbox)
    }

    /// Cuts a node off without a word.
    pub fn cut(&self, node: &NodeId) {
        self.lock().inboxes.remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct NodeLink {
    node: NodeId,
    network: Network,
}

impl Link for NodeLink {
    fn send(&self, to: &Address, frame: Vec<u8>) -> Result<(), LinkError> {
        let mut shared = self.network.lock();
        if !shared.inboxes.contains_key(&self.node) {
            return Ok(());
        }
        let Some(inbox) = shared.receiver(to) else {
            return Ok(());
        };
        let fate = shared.fate(to, frame.len());
        drop(shared);
        match fate {
            Fate::Arrives => inbox.deliver(&frame),
            Fate::Dropped => {}
            Fate::Repeated => {
                inbox.deliver(&frame);
                inbox.deliver(&frame);
            }
            Fate::Delayed(delay) => {
                self.network.runtime.spawn(async move {
                    tokio::time::sleep(delay).await;
                    inbox.deliver(&frame);
                });
            }
            Fate::Damaged { at, flip } => {
                let mut frame = frame;
                match flip {
                    Some(flip) => frame[at] ^= flip,
                    None => frame.truncate(at),
                }
                inbox.deliver(&frame);
            }
        }
        Ok(())
    }

    fn host(&self, _epoch: PlanEpoch, stages: &[u32]) {
        let mut shared = self.network.lock();
        shared.hosts.retain(|_, node| *node != self.node);
        for &stage in stages {
            shared.hosts.insert(stage, self.node.clone());
        }
    }
}

enum Fate {
    Arrives,
    Dropped,
    Repeated,
    Delayed(Duration),
    Damaged { at: usize, flip: Option<u8> },
}

impl Shared {
    fn receiver(&self, to: &Address) -> Option<Inbox> {
        let node = match to {
            Address::Stage { stage, .. } => self.hosts.get(stage)?,
            Address::Node(node) => node,
            Address::Accept { .. } | Address::Head => self.head.as_ref()?,
        };
        self.inboxes.get(node).cloned()
    }

    fn fate(&mut self, to: &Address, n_bytes: usize) -> Fate {
        // Without the epoch: how many epochs there are depends on timing.
        let place = match to {
            Address::Stage { stage, .. } => format!("stage {stage}"),
            Address::Accept { .. } => "accept".into(),
            Address::Node(node) => format!("node {node}"),
            Address::Head => "head".into(),
        };
        let count = self.counts.entry(place.clone()).or_default();
        *count += 1;
        if self.n_left == 0 {
            return Fate::Arrives;
        }
        let mixed = place.bytes().fold(self.seed ^ *count << 40, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = ChaCha8Rng::seed_from_u64(mixed);
        let rates = self.rates;
        let mut draw: f64 = rng.random();
        let mut within = |rate: f64| {
            draw -= rate;
            draw < 0.0
        };
        let fate = if within(rates.drop) {
            Fate::Dropped
        } else if within(rates.repeat) {
            Fate::Repeated
        } else if within(rates.delay) {
            Fate::Delayed(Duration::from_millis(rng.random_range(1..8)))
        } else if within(rates.damage) {
            let flip = rng.random_bool(0.7).then(|| rng.random_range(1..=255));
            // The head of the frame: damage to tensor values cannot be told from data, and is
            // the transport's business (TCP has checksums).
            Fate::Damaged {
                at: rng.random_range(0..n_bytes.min(8)),
                flip,
            }
        } else {
            return Fate::Arrives;
        };
        self.n_left -= 1;
        fate
    }
}
