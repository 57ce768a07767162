//! A head: takes requests, plans, and computes stages itself unless told not to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jupiter_actors::Inbox;
use jupiter_actors::planner::{
    ClusterPhase, ClusterStatus, PlannerConfig, PlannerMessage, StepTrace,
};
use jupiter_models::cache_root;
use ractor::RpcReplyPort;
use tokio::sync::mpsc;
use zenoh::Session;

use super::loaded::load_model;
use super::{Node, Progress, trials};
use crate::client::Client;
use crate::client::outliner::{Evidence, OutlineSetup};
use crate::client::planner_client::PlannerClient;
use crate::config::{Config, PipelineConfig, Split};
use crate::error::{ClusterError, Error, Result};
use crate::gateway::zenoh::Service;
use crate::membership::head::{GivesWay, HeadMembership, arrive, tell_planner};
use crate::membership::survey::Survey;
use crate::net::keys::Keys;
use crate::net::session::{self, REACH_PATIENCE};
use crate::planner;
use crate::ros2::{ModelName, Ros2};
use crate::task::AbortOnDrop;

/// How long the Planner may take to say how it is going.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a starting pipeline is asked whether it runs.
const READY_POLL: Duration = Duration::from_millis(20);

/// A running head, alone in this process or with workers elsewhere. Dropping it ends everything
/// in the background; [`Runtime::shutdown`] waits for the end.
pub struct Runtime {
    // In the order in which they end.
    service: Option<Arc<Service>>,
    ros2: Option<Ros2>,
    membership: Option<HeadMembership>,
    gives_way: GivesWay,
    tasks: Vec<AbortOnDrop>,
    node: Option<Node>,
    inbox: Inbox,
    client: Client,
    config: Config,
    endpoints: Vec<String>,
    session: Session,
}

impl Runtime {
    /// Asks this cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens, with the ports that were chosen.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Where robots of ROS 2 reach it, if it is their router; empty if not, or not yet.
    pub async fn ros2_endpoints(&self) -> Vec<String> {
        match &self.ros2 {
            Some(ros2) => ros2.endpoints().await,
            None => Vec::new(),
        }
    }

    /// How the cluster is doing.
    ///
    /// # Errors
    /// When the Planner does not answer.
    pub async fn status(&self) -> Result<ClusterStatus> {
        self.ask(PlannerMessage::Status).await
    }

    /// What became of the steps since the last call, at most some thousands of the last ones;
    /// those of the future are kept for the next call if `keep` says so. Until the first call none
    /// are kept.
    ///
    /// # Errors
    /// When the Planner does not answer.
    pub async fn trace(&self, keep: bool) -> Result<Vec<StepTrace>> {
        self.ask(|reply| PlannerMessage::Trace { keep, reply })
            .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(RpcReplyPort<T>) -> PlannerMessage,
    ) -> Result<T> {
        planner::ask(&self.inbox, question, STATUS_TIMEOUT).await
    }

    /// Waits until the model runs, for workers as long as the configuration says. Cancel safe.
    ///
    /// # Errors
    /// When the model cannot run on the nodes there are, workers are missing, or another head goes on.
    pub async fn ready(&self) -> Result<ClusterStatus> {
        let patience = Duration::from_millis(self.config.pipeline.node_wait_ms);
        let start = Instant::now();
        loop {
            if let Some(why) = self.gives_way.now() {
                return Err(why);
            }
            let status = self.status().await?;
            match &status.phase {
                ClusterPhase::Running => return Ok(status),
                ClusterPhase::Failed(why) => {
                    return Err(ClusterError::CannotRun(why.clone()).into());
                }
                ClusterPhase::Waiting if start.elapsed() > patience => {
                    let endpoint = self.endpoints.first().map_or("HEAD", String::as_str);
                    let missing = ClusterError::TooFewNodes {
                        n_came: status.nodes.len(),
                        n_needed: self.n_nodes(),
                        waited: patience,
                        endpoint: endpoint.to_owned(),
                    };
                    return Err(missing.into());
                }
                // Loading ends by itself: the Planner gives up on stages that take too long.
                ClusterPhase::Waiting | ClusterPhase::Loading => {}
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Waits until another head of the cluster goes on instead of this one, and says which and why:
    /// two may start at the same time, or the network between them may come later. This one takes no
    /// requests from then on, and its workers go to the other: shut it down. Cancel safe.
    pub async fn gives_way(&self) -> Error {
        self.gives_way.clone().wait().await
    }

    /// Tries out now how the model writes point by point, for `--outline auto`, unless the cache folder
    /// knows it, and keeps what is found there. By itself a runtime does so when nobody asks.
    ///
    /// # Errors
    /// When a request fails.
    pub async fn try_outlines(&self) -> Result<()> {
        trials::now(&self.client).await
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(mut self) {
        self.client.stop();
        if let Some(ros2) = self.ros2.take() {
            ros2.stop().await;
        }
        self.membership = None;
        self.tasks.clear();
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
        // Last, so that the requests that end with the node hear of it.
        self.service = None;
        session::close(self.session.clone()).await;
    }

    fn n_nodes(&self) -> u32 {
        self.config.pipeline.n_workers + u32::from(self.config.pipeline.host_stages)
    }

    /// As [`RuntimeBuilder::start`](super::builder::RuntimeBuilder::start), with a whole configuration; `progress`
    /// learns how far slices and loads are.
    ///
    /// # Errors
    /// As there.
    pub async fn start_with(config: Config, progress: Option<Arc<dyn Progress>>) -> Result<Self> {
        let network = config.network.clone();
        let is_embedded =
            network.endpoints.listen.is_empty() && network.endpoints.connect.is_empty();
        let loaded = {
            let config = config.clone();
            let load = move || load_model(&config, is_embedded, progress);
            tokio::task::spawn_blocking(load)
                .await
                .map_err(|_| Error::Stopped)??
        };
        let keys = Keys::new(&network.cluster)?;
        let session = session::open(&network.endpoints).await?;
        let endpoints = session::locators(&session).await;
        let planner = Some(loaded.planner.clone());
        let factory = Arc::new(loaded.factory);
        let node = {
            let limits = config.emulation.link;
            let keys = keys.of(&session.zid().to_string());
            Node::start(&session, &keys, &network.node, factory, limits, planner).await?
        };
        let inbox = node.inbox().clone();
        let planner = PlannerClient::new(inbox.clone(), loaded.vocabulary, loaded.format);
        let outline = OutlineSetup {
            config: config.outline.clone(),
            prompts: config.outline.prompts_for(&config.model)?,
            is_default_model: config.model.is_default(),
            is_spread: config.pipeline.n_workers > 0,
            evidence: evidence(&config, loaded.hash.as_deref(), &loaded.planner),
        };
        let client = Client::new(planner, outline, loaded.planner.engine.n_ctx);
        let mut runtime = Self {
            service: None,
            ros2: None,
            membership: None,
            gives_way: GivesWay::never(),
            tasks: Vec::new(),
            node: Some(node),
            inbox,
            client,
            config,
            endpoints,
            session,
        };
        match runtime.begin(&keys, loaded.planner, is_embedded).await {
            Ok(()) => Ok(runtime),
            Err(error) => {
                runtime.shutdown().await;
                Err(error)
            }
        }
    }

    /// Makes itself known to other nodes and clients, and its own node to the Planner; waits until
    /// the model runs, unless that takes workers.
    async fn begin(&mut self, keys: &Keys, plan: PlannerConfig, is_embedded: bool) -> Result<()> {
        let node = &self.config.network.node.clone();
        let (news, unheard) = mpsc::unbounded_channel();
        let telling = tell_planner(unheard, self.inbox.clone());
        self.tasks.push(AbortOnDrop(tokio::spawn(telling)));
        let survey = self.config.pipeline.measures().then(|| {
            let keys = keys.of(&self.session.zid().to_string());
            let survey = Survey::new(&self.session, &keys, node, plan.engine);
            Arc::new(survey)
        });
        if !is_embedded {
            let (news, survey) = (news.clone(), survey.clone());
            let (session, planner) = (&self.session, Some(self.inbox.clone()));
            let membership =
                HeadMembership::start(session, keys, node, plan.model, planner, news, survey);
            let membership = membership.await?;
            let (client, inbox) = (self.client.clone(), self.inbox.clone());
            let service = Service::start(session, keys, client, inbox).await?;
            let service = Arc::new(service);
            self.gives_way = membership.gives_way();
            self.tasks.push(AbortOnDrop(tokio::spawn({
                let (mut gives_way, service) = (membership.gives_way(), service.clone());
                async move {
                    gives_way.wait().await;
                    service.close_entrance();
                }
            })));
            (self.membership, self.service) = (Some(membership), Some(service));
            self.say_if_unreached();
        }
        if let Some(config) = self.config.ros2.clone() {
            let model = ModelName::of(&self.config.model);
            let (client, inbox) = (self.client(), self.inbox.clone());
            self.ros2 = Some(Ros2::start(config, client, inbox, model).await?);
        }
        if self.config.pipeline.host_stages {
            let arrival = arrive(news, survey, node.clone());
            self.tasks.push(AbortOnDrop(tokio::spawn(arrival)));
        }
        if self.client.wants_trials() {
            let trials = trials::when_idle(self.client.clone(), self.inbox.clone());
            self.tasks.push(AbortOnDrop(tokio::spawn(trials)));
        }
        if self.config.pipeline.n_workers == 0 {
            self.ready().await?;
        }
        Ok(())
    }
}

/// What is known of how the model of this hash writes point by point, on as many stages.
fn evidence(config: &Config, hash: Option<&str>, plan: &PlannerConfig) -> Evidence {
    let PipelineConfig {
        n_workers, split, ..
    } = &config.pipeline;
    let n_stages = match split {
        Split::Stages(n) => *n as usize,
        Split::Layers(layers) => layers.len(),
        Split::PerNode | Split::Planned | Split::File(_) => 1,
    };
    let stages = format!("{n_workers}-{n_stages}-{}", plan.engine.n_threads);
    Evidence::of(&cache_root(), hash, &stages)
}

impl Runtime {
    /// Says so once when nobody answers where this head connects to: it goes on trying.
    fn say_if_unreached(&mut self) {
        let connect = self.config.network.endpoints.connect.join(", ");
        if connect.is_empty() {
            return;
        }
        let session = self.session.clone();
        self.tasks.push(AbortOnDrop(tokio::spawn(async move {
            if !session::is_reached(&session, REACH_PATIENCE).await {
                tracing::warn!("nobody answers at {connect} yet: waiting for it");
            }
        })));
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.client.stop();
    }
}
