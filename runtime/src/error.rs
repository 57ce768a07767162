//! What can go wrong; each message is one line that says how to mend it.

use jupiter_actors::planning::PlanError;
use jupiter_actors::request::RequestError;
use jupiter_models::ModelError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the runtime could not start, or an answer could not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The model, its slices or the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The request was refused or could not go on.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Another program listens there.
    #[error(
        "endpoint {endpoint} is in use by another program: stop it, or listen elsewhere (--listen)"
    )]
    EndpointInUse {
        /// The endpoint as it was asked for.
        endpoint: String,
    },
    /// zenoh refused.
    #[error("zenoh: {0}")]
    Zenoh(String),
    /// The cluster refused this node, or cannot work as it is.
    #[error("{0}")]
    Cluster(String),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The terminal or pipe of a conversation.
    #[error("terminal: {0}")]
    Terminal(#[source] std::io::Error),
    /// The runtime was shut down.
    #[error("the runtime has stopped")]
    Stopped,
}

/// The first line of an error of zenoh, whose texts name source files and nest.
pub(crate) fn zenoh_error(error: zenoh::Error) -> Error {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at /").next().unwrap_or(line);
    Error::Zenoh(line.trim().to_owned())
}
