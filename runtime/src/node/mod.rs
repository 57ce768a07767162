//! One node, put together: link, inbox, Supervisor, and how stages are made from the model file.
//!
//! - [`head`]: a head ([`Runtime`](crate::Runtime)), which [`builder`] describes; `loaded`: what it
//!   reads first; [`plan`]: what its Planner is told
//! - [`worker`]: a node that serves one; [`surveyor`]: a head that only measures
//! - `factory`: stages, draft models and measurements from the files of this machine; `drafts`: those
//!   that guess

pub(crate) mod builder;
mod drafts;
mod factory;
pub(crate) mod head;
mod loaded;
pub(crate) mod plan;
pub(crate) mod surveyor;
mod trials;
pub(crate) mod worker;

use std::sync::Arc;

use jupiter_actors::planner::PlannerConfig;
use jupiter_actors::supervisor::{NodeHandle, SupervisorArgs, start_node};
use jupiter_actors::{Inbox, NodeId};
use jupiter_models::LayerRange;
use jupiter_models::engine::EngineParams;
use zenoh::Session;

use self::factory::ModelFactory;
use crate::error::{ClusterError, Result};
use crate::membership::measure::Respondent;
use crate::net::emulation::{EmulatedLink, LinkLimits};
use crate::net::keys::HeadKeys;
use crate::net::link::ZenohLink;

/// Learns how far slices and loads are. Called from the stages' threads.
pub trait Progress: Send + Sync {
    /// The slice of `layers` is being written: `done` of `total` bytes.
    fn slicing(&self, layers: LayerRange, done: u64, total: u64);

    /// The engine of `layers` is being loaded: `share` of it, 0 to 1.
    fn loading(&self, layers: LayerRange, share: f32);
}

/// The cores that this process may use.
pub(crate) fn n_cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// A running node. Dropping it ends its actors too, in the background.
pub(crate) struct Node {
    inbox: Inbox,
    link: Arc<ZenohLink>,
    _respondent: Respondent,
    handle: Option<NodeHandle>,
    tokio: tokio::runtime::Handle,
}

impl Node {
    /// Starts the actors of a node; with `planner` it is the head.
    pub(crate) async fn start(
        session: &Session,
        keys: &HeadKeys,
        node: &NodeId,
        factory: Arc<ModelFactory>,
        limits: LinkLimits,
        planner: Option<PlannerConfig>,
    ) -> Result<Self> {
        let emulated = Arc::new(EmulatedLink::new(limits));
        let link = ZenohLink::through(emulated.clone(), session.clone(), keys.clone());
        let link = Arc::new(link);
        let measured = factory.clone();
        let measure = move |node: &NodeId, params: &EngineParams| measured.measure(node, params);
        let respondent = Respondent::start(session, keys, node, Arc::new(measure), emulated)?;
        let inbox = Inbox::new(node.clone(), link.clone());
        let entrance = inbox.clone();
        let is_head = planner.is_some();
        link.attach(
            node,
            is_head,
            Arc::new(move |frame: &[u8]| entrance.deliver(frame)),
        )?;
        let args = SupervisorArgs {
            node: node.clone(),
            link: link.clone(),
            inbox: inbox.clone(),
            factory,
            planner,
        };
        let tokio = tokio::runtime::Handle::current();
        match start_node(args).await {
            Ok(handle) => Ok(Self {
                inbox,
                link,
                _respondent: respondent,
                handle: Some(handle),
                tokio,
            }),
            Err(error) => {
                link.close();
                let (node, why) = (node.clone(), error.to_string());
                Err(ClusterError::NotStarted { node, why }.into())
            }
        }
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Ends all actors and waits for them.
    pub(crate) async fn stop(mut self) {
        self.link.close();
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.link.close();
        if let Some(handle) = self.handle.take() {
            self.tokio.spawn(handle.stop());
        }
    }
}
