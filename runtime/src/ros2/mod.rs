//! A node of ROS 2, for robots whose nodes speak rmw_zenoh, or a DDS behind
//! zenoh-bridge-ros2dds: no ROS here.
//!
//! ```text
//! topics      prompt -> tokens, answer (std_msgs/String), messages of other types; model, status, latched
//! services    reset (std_srvs/Trigger), ask (jupiter_msgs/Ask), those of parameters
//! actions     generate (jupiter_msgs/Generate), generate_response (llama_msgs/GenerateResponse, where given)
//! ```
//!
//! - `types`: interface files, their hashes, and bytes of messages as JSON
//! - `wire`: keys, tokens and attachments as rmw_zenoh writes them
//! - `bridge`: as a bridge to DDS does
//! - `session`: the zenoh session, apart from the cluster's
//! - `latch`, `node`: a node's publishers, subscriptions and services
//! - `graph`: who else is there
//! - `goals`, `action`: an action server
//! - `pieces`: an answer in pieces that subscribers keep up with
//! - `typed`: prompts that become messages
//! - `wording`, `llama_ros`: goals and results of the actions, as they say it
//! - `desk`, `topics`, `condition`, `parameters`: what is offered

mod action;
mod bridge;
mod condition;
mod desk;
mod goals;
mod graph;
mod latch;
mod llama_ros;
mod node;
mod parameters;
mod pieces;
mod session;
mod topics;
mod typed;
mod types;
mod wire;
mod wording;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jupiter_actors::Inbox;
use serde_json::json;
use tokio::sync::watch;
use zenoh::Session;

use self::desk::Desk;
use self::graph::Graph;
use self::node::{Dialect, Node, Publisher};
use self::parameters::Parameter;
use self::topics::{STRING, Topics};
use self::typed::{AnswerTypes, Plan, TypedTopics};
use self::types::{TypeError, Types};
use self::wire::Qos;
use crate::client::Client;
use crate::config::{ModelConfig, Ros2Config};
use crate::error::{Error, Result, Ros2Error};
use crate::net;
use crate::task::AbortOnDrop;

/// How often a router that is not there is looked for.
const RETRY: Duration = Duration::from_secs(2);

/// A node of ROS 2; dropping it takes it out of the graph.
pub(crate) struct Ros2 {
    task: AbortOnDrop,
    session: OwnSession,
}

/// The session, while there is one.
type OwnSession = Arc<Mutex<Option<Session>>>;

/// What the node lives by.
struct Serving {
    graph: Arc<Graph>,
    /// What is worked on ends when it is dropped.
    _alive: watch::Sender<()>,
    _topics: Topics,
    _model: Publisher,
    _status: AbortOnDrop,
    _node: Node,
}

/// What is told of the model.
pub(crate) struct ModelName(String);

impl ModelName {
    /// The file's name without its ending.
    pub(crate) fn of(model: &ModelConfig) -> Self {
        let stem = model.path.as_deref().and_then(Path::file_stem);
        Self(stem.map_or("default".to_owned(), |stem| {
            stem.to_string_lossy().into_owned()
        }))
    }
}

impl Ros2 {
    /// Starts the node. Where no router answers, that is said once, and looked for until one does.
    ///
    /// # Errors
    /// A domain that is none, another node of this name, an endpoint in use, topics for messages that
    /// cannot be.
    pub(crate) async fn start(
        config: Ros2Config,
        client: Client,
        inbox: Inbox,
        model: ModelName,
    ) -> Result<Self> {
        let domain = config.domain_here()?;
        let types = types(&config.interfaces);
        let types = types.map_err(|error| Ros2Error::Interface(error.to_string()))?;
        let types = Arc::new(types);
        let typed = Plan::new(&types, &config.topics, client.is_default_model())?;
        let start = Start {
            config,
            domain,
            types,
            typed: typed.map(Arc::new),
            client,
            inbox,
            model,
        };
        let own = OwnSession::default();
        let mut first = match start.attempt().await {
            Ok((session, serving)) => {
                *lock(&own) = Some(session);
                Some(serving)
            }
            Err(Error::Ros2(why @ Ros2Error::NoRouter { .. })) => {
                tracing::warn!("{why}; looking for one");
                None
            }
            Err(error) => return Err(error),
        };
        let session = own.clone();
        let task = tokio::spawn(async move {
            let mut said = String::new();
            loop {
                let serving = match first.take() {
                    Some(serving) => serving,
                    None => start.until_there(&session, said).await,
                };
                serving.graph.clashed().await;
                said = start.two_nodes().to_string();
                tracing::error!("{said}");
                drop(serving);
                let closed = lock(&session).take();
                if let Some(session) = closed {
                    net::session::close(session).await;
                }
            }
        });
        Ok(Self {
            task: AbortOnDrop(task),
            session: own,
        })
    }

    /// Where it listens.
    pub(crate) async fn endpoints(&self) -> Vec<String> {
        let session = lock(&self.session).clone();
        match session {
            Some(session) => net::session::locators(&session).await,
            None => Vec::new(),
        }
    }

    /// Takes the node out of the graph and closes its session.
    pub(crate) async fn stop(self) {
        let mut task = self.task;
        task.0.abort();
        // What moves is told to stand still before the session closes.
        let _ = (&mut task.0).await;
        let session = lock(&self.session).take();
        if let Some(session) = session {
            net::session::close(session).await;
        }
    }
}

fn lock(session: &OwnSession) -> MutexGuard<'_, Option<Session>> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The types that are built in, and those of these folders.
fn types(folders: &[PathBuf]) -> Result<Types, TypeError> {
    let mut types = Types::embedded()?;
    for folder in folders {
        types.add_folder(folder)?;
    }
    types.check()?;
    Ok(types)
}

/// All that starting takes.
struct Start {
    config: Ros2Config,
    domain: u32,
    types: Arc<Types>,
    typed: Option<Arc<Plan>>,
    client: Client,
    inbox: Inbox,
    model: ModelName,
}

impl Start {
    async fn attempt(&self) -> Result<(Session, Serving)> {
        let session = session::open(&self.config).await?;
        let looked = match self.config.is_bridged {
            // A bridge does not say which nodes are behind it.
            true => Ok(false),
            false => session::look(&session, &self.config, self.domain).await,
        };
        let served = looked.and_then(|is_alone| self.serve(&session, is_alone));
        match served {
            Ok(serving) => Ok((session, serving)),
            Err(error) => {
                net::session::close(session).await;
                Err(error)
            }
        }
    }

    /// Tries again until it is there. What else goes wrong is said when it changes.
    async fn until_there(&self, own: &OwnSession, mut said: String) -> Serving {
        loop {
            tokio::time::sleep(RETRY).await;
            match self.attempt().await {
                Ok((session, serving)) => {
                    *lock(own) = Some(session);
                    return serving;
                }
                Err(Error::Ros2(Ros2Error::NoRouter { .. })) => {}
                Err(error) => {
                    let line = error.to_string();
                    if line != said {
                        tracing::error!("{line}");
                        said = line;
                    }
                }
            }
        }
    }

    fn serve(&self, session: &Session, is_alone: bool) -> Result<Serving> {
        let name = &self.config.name;
        let dialect = match self.config.is_bridged {
            true => Dialect::Bridge,
            false => Dialect::Rmw {
                domain: self.domain,
                has_hashes: self.config.has_hashes(),
            },
        };
        let mut node = Node::new(session, self.types.clone(), name.clone(), dialect)?;
        let offered = |name| self.config.offered(name);
        let model = node.publisher(&offered("model"), STRING, Qos::Latched)?;
        model.publish(&json!({ "data": self.model.0 }));
        let status = node.publisher(&offered("status"), STRING, Qos::Latched)?;
        let status = condition::tell(status, self.inbox.clone());
        parameters::serve(&mut node, &name.full(), self.parameters())?;
        let own_name = (!self.config.is_bridged).then(|| name.full());
        let graph = Graph::watch(session, self.domain, own_name, is_alone)?;
        let answers = AnswerTypes {
            types: self.types.clone(),
            topics: self.config.topics.clone(),
            is_default_model: self.client.is_default_model(),
        };
        let (alive, ended) = watch::channel(());
        let desk = Desk::new(self.client.clone(), answers, graph.clone(), ended);
        desk.serve(&mut node, &self.config)?;
        let typed = self.typed.clone();
        let typed = typed.map(|plan| TypedTopics::serve(&mut node, plan));
        let topics = Topics::serve(&mut node, &self.config, desk, typed.transpose()?)?;
        graph.compare_with(node.offered());
        Ok(Serving {
            graph,
            _alive: alive,
            _topics: topics,
            _model: model,
            _status: status,
            _node: node,
        })
    }

    fn two_nodes(&self) -> Ros2Error {
        Ros2Error::TwoNodes {
            name: self.config.name.full(),
            domain: self.domain,
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter {
                name: "model",
                description: "The model that answers",
                value: self.model.0.clone().into(),
            },
            Parameter {
                name: "ctx_size",
                description: "Tokens that all conversations together may hold",
                value: self.client.n_ctx().into(),
            },
        ]
    }
}
