//! A worker: holds the stages that a head gives it.

use std::sync::Arc;
use std::time::Duration;

use jupiter_models::text::Vocabulary;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zenoh::Session;
use zenoh::liveliness::LivelinessToken;

use super::drafts::Drafts;
use super::factory::ModelFactory;
use super::{Node, Progress};
use crate::config::Config;
use crate::error::{ConfigError, Error, Result, zenoh_error};
use crate::membership::JoinRequest;
use crate::membership::heads::Head;
use crate::membership::worker::{Choice, join};
use crate::net::emulation::LinkLimits;
use crate::net::keys::Keys;
use crate::net::own_address::listen_towards;
use crate::net::session;

/// How long a worker looks for its head before it says so: a head that is there is found at once.
const HEAD_HINT: Duration = Duration::from_secs(5);

/// A running worker. It waits for a head, serves it, and waits again when that is gone. Dropping
/// it ends everything in the background; [`Worker::shutdown`] waits for the end.
pub struct Worker {
    task: JoinHandle<Result<()>>,
    stop: watch::Sender<bool>,
    endpoints: Vec<String>,
    session: Session,
}

impl Worker {
    /// Starts a worker; needs a multi-thread tokio runtime. The head may come later, and so may the
    /// network: unless it is told where to listen, this waits for a route to some endpoint.
    ///
    /// # Errors
    /// In one line: what cannot be used or started.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_with(config, None).await
    }

    /// As [`Worker::start`]; `progress` learns how far slices and loads are.
    ///
    /// # Errors
    /// The same.
    pub async fn start_with(config: Config, progress: Option<Arc<dyn Progress>>) -> Result<Self> {
        let mut endpoints = config.network.endpoints.clone();
        if endpoints.connect.is_empty() && endpoints.listen.is_empty() {
            return Err(ConfigError::NoHead.into());
        }
        let keys = Keys::new(&config.network.cluster)?;
        let node = config.network.node.clone();
        let limits = config.emulation.link;
        let load = move || load_model(&config, progress);
        let loaded = tokio::task::spawn_blocking(load)
            .await
            .map_err(|_| Error::Stopped)??;
        let (factory, model) = loaded;
        if endpoints.listen.is_empty() {
            endpoints.listen = listen_towards(&endpoints.connect).await;
        }
        let session = session::open(&endpoints).await?;
        let endpoints = session::locators(&session).await;
        let request = JoinRequest::of_this_process(node, session.zid().to_string(), model);
        let (stop, stopping) = watch::channel(false);
        let serving = Serving {
            session: session.clone(),
            keys,
            request,
            factory: Arc::new(factory),
            limits,
            node: None,
        };
        let task = tokio::spawn(serving.run(stopping));
        Ok(Self {
            task,
            stop,
            endpoints,
            session,
        })
    }

    /// Where it listens, with the ports that were chosen.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Waits until the worker cannot go on; for ever while it works. Cancel safe.
    ///
    /// # Errors
    /// When it cannot serve the head that it found: another protocol version, another model file,
    /// its name is taken.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.task).await.map_err(|_| Error::Stopped)?
    }

    /// Works until `stop` is ready, and ends then.
    ///
    /// # Errors
    /// As [`Worker::ended`].
    pub async fn run_until<T>(mut self, stop: impl Future<Output = T>) -> Result<()> {
        let ended = tokio::select! {
            ended = self.ended() => ended,
            _ = stop => Ok(()),
        };
        self.shutdown().await;
        ended
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(mut self) {
        // Nobody listens when the task has ended already.
        let _ = self.stop.send(true);
        if !self.task.is_finished() {
            // An error is told by `run_until`.
            let _ = (&mut self.task).await;
        }
        session::close(self.session.clone()).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The work for one head after the other.
struct Serving {
    session: Session,
    keys: Keys,
    request: JoinRequest,
    factory: Arc<ModelFactory>,
    limits: LinkLimits,
    /// What serves the present head.
    node: Option<Node>,
}

impl Serving {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) -> Result<()> {
        let ended = tokio::select! {
            ended = self.serve() => ended,
            // A sender that is gone means the same.
            _ = stopping.wait_for(|stop| *stop) => Ok(()),
        };
        self.end_node().await;
        ended
    }

    /// Serves one head after the other; ends only with an error.
    async fn serve(&mut self) -> Result<()> {
        let mut heads = Choice::watch(&self.session, &self.keys).await?;
        let token = self
            .keys
            .node_token(&self.request.node, &self.request.instance);
        let token = self.session.liveliness().declare_token(token).await;
        let _token: LivelinessToken = token.map_err(zenoh_error)?;
        loop {
            let head = self.find(&mut heads).await?;
            // What an earlier head asked for is forgotten: a new one counts its plans anew.
            let (session, factory) = (&self.session, self.factory.clone());
            let keys = self.keys.of(&head.instance);
            let (name, limits) = (&self.request.node, self.limits);
            let node = Node::start(session, &keys, name, factory, limits, None).await?;
            self.node = Some(node);
            tokio::select! {
                joined = join(&self.session, &keys, &self.request) => match joined {
                    Ok(()) => {
                        tracing::info!(head = %head.node, node = %self.request.node, "joined");
                        heads.wait_until_gone(&head).await?;
                    }
                    Err(error) if heads.set_aside(&head) => {
                        tracing::warn!("{error}; trying the other head");
                        self.end_node().await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
                gone = heads.wait_until_gone(&head) => gone?,
            }
            self.end_node().await;
            tracing::warn!(
                "the head, node {}, is gone: waiting for it to return",
                head.node
            );
        }
    }

    /// Waits for a head, and says once that there is none.
    async fn find(&self, heads: &mut Choice) -> Result<Head> {
        if let Ok(found) = tokio::time::timeout(HEAD_HINT, heads.wait()).await {
            return found;
        }
        tracing::warn!(
            "no head of this cluster is in reach: waiting for one; are --connect and --cluster right?"
        );
        heads.wait().await
    }

    async fn end_node(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
    }
}

/// Blocks while it reads and hashes the file.
fn load_model(
    config: &Config,
    progress: Option<Arc<dyn Progress>>,
) -> Result<(ModelFactory, String)> {
    let (model, info) = config.open_model()?;
    let id = model.content_hash()?;
    let vocabulary = Arc::new(Vocabulary::load(model.path())?);
    // llama.cpp reads the vocabulary by the path.
    model.check_current()?;
    let drafts = Drafts::load(config, &info);
    let factory = ModelFactory::new(model, id.clone(), vocabulary, config, drafts, progress);
    Ok((factory, id))
}
