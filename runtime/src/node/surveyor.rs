//! A head that measures and plans, and runs no model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jupiter_actors::NodeId;
use jupiter_actors::planner::{NodeProfile, PlannerConfig};
use jupiter_actors::planning::profile::{Cluster, DeviceProfile, LinkProfile};
use tokio::sync::mpsc;
use zenoh::Session;

use super::Node;
use super::loaded::load_model;
use crate::config::Config;
use crate::error::{ClusterError, Error, Result};
use crate::membership::head::{HeadMembership, News, arrive};
use crate::membership::survey::Survey;
use crate::net::keys::Keys;
use crate::net::session::{self, REACH_PATIENCE};
use crate::task::AbortOnDrop;

/// How long no node may join before those that are there count as all.
const QUIET: Duration = Duration::from_secs(3);
/// How often is looked whether a measurement has ended.
const POLL: Duration = Duration::from_millis(50);

/// Measures the nodes that join.
pub struct Surveyor {
    // In the order in which they end.
    membership: HeadMembership,
    _own: Option<AbortOnDrop>,
    node: Node,
    news: mpsc::UnboundedReceiver<News>,
    survey: Arc<Survey>,
    planner: PlannerConfig,
    known: BTreeMap<NodeId, Option<DeviceProfile>>,
    links: BTreeMap<(NodeId, NodeId), LinkProfile>,
    endpoints: Vec<String>,
    session: Session,
}

impl Surveyor {
    /// Starts it; needs a multi-thread tokio runtime.
    ///
    /// # Errors
    /// In one line: what cannot be used or started, or that the cluster has a head already.
    pub async fn start(config: Config) -> Result<Self> {
        let loaded = {
            let config = config.clone();
            let load = move || load_model(&config, false, None);
            tokio::task::spawn_blocking(load)
                .await
                .map_err(|_| Error::Stopped)??
        };
        let network = &config.network;
        let keys = Keys::new(&network.cluster)?;
        let session = session::open(&network.endpoints).await?;
        let connect = &network.endpoints.connect;
        if !connect.is_empty() && !session::is_reached(&session, REACH_PATIENCE).await {
            session::close(session).await;
            let connect = connect.join(", ");
            return Err(ClusterError::Unreached { connect }.into());
        }
        let endpoints = session::locators(&session).await;
        let (own, limits) = (&network.node, config.emulation.link);
        let factory = Arc::new(loaded.factory);
        let head_keys = keys.of(&session.zid().to_string());
        let node = Node::start(&session, &head_keys, own, factory, limits, None).await?;
        let planner = loaded.planner;
        let survey = Survey::new(&session, &head_keys, own, planner.engine.clone());
        let survey = Arc::new(survey);
        let (sender, news) = mpsc::unbounded_channel();
        let model = planner.model.clone();
        let membership = HeadMembership::start(
            &session,
            &keys,
            own,
            model,
            None,
            sender.clone(),
            Some(survey.clone()),
        );
        let membership = membership.await?;
        let own = config.pipeline.host_stages.then(|| {
            let arrival = arrive(sender, Some(survey.clone()), own.clone());
            AbortOnDrop(tokio::spawn(arrival))
        });
        Ok(Self {
            membership,
            _own: own,
            node,
            news,
            survey,
            planner,
            known: BTreeMap::new(),
            links: BTreeMap::new(),
            endpoints,
            session,
        })
    }

    /// Where it listens, with the ports that were chosen.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// How the model would be run: what a head of the same configuration tells its Planner.
    pub fn planner(&self) -> &PlannerConfig {
        &self.planner
    }

    /// Waits for `n_nodes` nodes, this one included if it computes; without a number until no more
    /// join for a while. `on_node` learns of each, and whether it could be measured.
    ///
    /// # Errors
    /// When fewer nodes come in `patience`, or a head begins to serve the cluster meanwhile.
    pub async fn wait(
        &mut self,
        n_nodes: Option<usize>,
        patience: Duration,
        on_node: &mut (dyn FnMut(&NodeId, bool) + Send),
    ) -> Result<()> {
        let begin = Instant::now();
        let mut last = Instant::now();
        loop {
            match tokio::time::timeout(POLL, self.news.recv()).await {
                Ok(Some(News::Up(node, profile))) => {
                    last = Instant::now();
                    on_node(&node, profile.is_some());
                    self.learn(node, profile.map(|profile| *profile));
                }
                Ok(Some(News::Down(node))) => {
                    self.known.remove(&node);
                }
                Ok(None) => return Err(Error::Stopped),
                Err(_) => {}
            }
            if let Some(why) = self.membership.gives_way().now() {
                return Err(why);
            }
            if self.survey.is_busy() {
                last = Instant::now();
            }
            match n_nodes {
                Some(n) if self.known.len() >= n => return Ok(()),
                None if !self.known.is_empty() && last.elapsed() > QUIET => return Ok(()),
                _ if begin.elapsed() > patience => {
                    let endpoint = self.endpoints.first().map_or("HEAD", String::as_str);
                    let missing = ClusterError::TooFewMeasured {
                        n_came: self.known.len(),
                        n_needed: n_nodes.unwrap_or(1),
                        waited: patience,
                        endpoint: endpoint.to_owned(),
                    };
                    return Err(missing.into());
                }
                _ => {}
            }
        }
    }

    fn learn(&mut self, node: NodeId, profile: Option<NodeProfile>) {
        let (device, links) = profile.map_or((None, Vec::new()), |profile| {
            (profile.device, profile.links)
        });
        self.known.insert(node, device);
        for link in links {
            self.links
                .insert((link.from.clone(), link.to.clone()), link);
        }
    }

    /// What was measured of the nodes that are there.
    ///
    /// # Errors
    /// When there is none, or a measurement cannot be.
    pub fn cluster(&self) -> Result<Cluster> {
        let devices = self.known.values().flatten().cloned().collect();
        let links: Vec<LinkProfile> = self.links.values().cloned().collect();
        let head = Some(self.planner.head.clone());
        let model = self.planner.model_profile.clone();
        Ok(Cluster::new(model, devices, &links, head)?)
    }

    /// The links that were measured.
    pub fn links(&self) -> impl Iterator<Item = &LinkProfile> {
        self.links.values()
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(self) {
        drop(self.membership);
        self.node.stop().await;
        session::close(self.session).await;
    }
}
