//! The head's measuring of nodes and of the links between them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jupiter_actors::NodeId;
use jupiter_actors::planner::NodeProfile;
use jupiter_actors::planning::profile::{DeviceProfile, LinkProfile};
use jupiter_models::engine::EngineParams;
use tokio::sync::Mutex;
use zenoh::Session;

use super::measure::{Answer, Question};
use super::unwritable;
use crate::error::{ClusterError, Result, zenoh_error};
use crate::net::keys::HeadKeys;

/// How long a node may take to measure itself: its 20 s, the slices that it has to write first,
/// and other nodes of the same machine that measure before it.
const COMPUTE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long measuring a link may take: its bursts at a few megabits a second.
const LINK_TIMEOUT: Duration = Duration::from_secs(60);

/// Measures the nodes of a cluster, each when it joins.
pub(crate) struct Survey {
    session: Session,
    keys: HeadKeys,
    head: NodeId,
    params: EngineParams,
    /// Nodes that are being measured.
    n_busy: AtomicUsize,
    /// Nodes whose links are measured: those of the next one are measured to all of them.
    linked: Mutex<BTreeSet<NodeId>>,
}

impl Survey {
    /// For engines of `params` and the head `head`, which answers questions itself.
    pub(crate) fn new(
        session: &Session,
        keys: &HeadKeys,
        head: &NodeId,
        params: EngineParams,
    ) -> Self {
        Self {
            session: session.clone(),
            keys: keys.clone(),
            head: head.clone(),
            params,
            n_busy: AtomicUsize::new(0),
            linked: Mutex::new(BTreeSet::from([head.clone()])),
        }
    }

    /// Measures a node that has joined, and its links to the head and to all that were measured
    /// before. Not cancelled half-way: other nodes wait for their turn.
    ///
    /// # Errors
    /// Why the node cannot be planned for.
    pub(crate) async fn measure(&self, node: &NodeId) -> Result<NodeProfile> {
        let _busy = Busy::new(&self.n_busy);
        let device = self.compute(node).await?;
        let mut links = Vec::new();
        if *node == self.head {
            // The others measure their ways to the head.
            let device = Some(device);
            return Ok(NodeProfile { device, links });
        }
        let mut linked = self.linked.lock().await;
        for other in linked.iter().filter(|other| *other != node) {
            links.push(self.link(node, other).await?);
            links.push(self.link(other, node).await?);
        }
        linked.insert(node.clone());
        Ok(NodeProfile {
            device: Some(device),
            links,
        })
    }

    /// Whether a node is being measured.
    pub(crate) fn is_busy(&self) -> bool {
        self.n_busy.load(Ordering::Relaxed) > 0
    }

    /// Forgets a node that is gone.
    pub(crate) async fn forget(&self, node: &NodeId) {
        if *node != self.head {
            self.linked.lock().await.remove(node);
        }
    }

    async fn compute(&self, node: &NodeId) -> Result<DeviceProfile> {
        let question = Question::Compute(Box::new(self.params.clone()));
        match self.ask(node, &question, COMPUTE_TIMEOUT).await? {
            Answer::Compute(device) => Ok(*device),
            answer => Err(unexpected(node, answer).into()),
        }
    }

    async fn link(&self, from: &NodeId, to: &NodeId) -> Result<LinkProfile> {
        let question = Question::Link(to.clone());
        match self.ask(from, &question, LINK_TIMEOUT).await? {
            Answer::Link(link) => Ok(link),
            answer => Err(unexpected(from, answer).into()),
        }
    }

    async fn ask(&self, node: &NodeId, question: &Question, timeout: Duration) -> Result<Answer> {
        let payload = serde_json::to_vec(question).map_err(unwritable)?;
        let replies = self
            .session
            .get(self.keys.measure(node))
            .payload(payload)
            .timeout(timeout)
            .await
            .map_err(zenoh_error)?;
        while let Ok(reply) = replies.recv_async().await {
            if let Ok(sample) = reply.result()
                && let Ok(answer) = serde_json::from_slice(&sample.payload().to_bytes())
            {
                return Ok(answer);
            }
        }
        let (node, waited) = (node.clone(), timeout);
        Err(ClusterError::Silent { node, waited }.into())
    }
}

/// Counts what is under way, however it ends.
struct Busy<'a>(&'a AtomicUsize);

impl<'a> Busy<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn unexpected(node: &NodeId, answer: Answer) -> ClusterError {
    let node = node.clone();
    match answer {
        Answer::Failed(why) => ClusterError::NotMeasured { node, why },
        Answer::Compute(_) | Answer::Link(_) => ClusterError::OtherAnswer { node },
    }
}
