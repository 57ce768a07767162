//! What can go wrong; each message is one line that says how to mend it.

mod cluster;
mod config;
mod hub;
mod request;
mod ros2;

use jupiter_actors::planning::PlanError;
use jupiter_actors::request::RequestError;
use jupiter_models::{ModelError, Token};

pub use self::cluster::ClusterError;
pub use self::config::ConfigError;
pub use self::hub::HubError;
pub use self::request::BadRequest;
pub use self::ros2::Ros2Error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the runtime could not start, or an answer could not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model cannot be had from the hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model, its slices or the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The request was refused or could not go on.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Another program's request cannot be read.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// A prompt of tokens holds one that the model does not have.
    #[error("token {token} is not of the vocabulary: ids go from 0 to {last}")]
    UnknownToken {
        /// The token.
        token: Token,
        /// The last one that there is.
        last: u32,
    },
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
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no node of ROS 2.
    #[error(transparent)]
    Ros2(#[from] Ros2Error),
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

/// What kind of failure an error is, for whoever maps errors to codes or counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What is asked for or configured cannot be done as it is said; to repeat it changes nothing
    /// (HTTP 400).
    Invalid,
    /// Too much is asked at once: later it may be answered (HTTP 429).
    Busy,
    /// The answer would come, or came, after its deadline (HTTP 504).
    Late,
    /// The cluster is not there, or not whole (HTTP 503).
    Unavailable,
    /// The machine or the program failed (HTTP 500).
    Internal,
}

impl Error {
    /// When to ask again, in milliseconds, where too much is asked at once.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Request(RequestError::Busy { retry_after_ms, .. }) => Some(*retry_after_ms),
            _ => None,
        }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_)
            | Self::BadRequest(_)
            | Self::UnknownToken { .. }
            | Self::EndpointInUse { .. } => ErrorKind::Invalid,
            Self::Request(error) => match error {
                RequestError::EmptyPrompt
                | RequestError::PromptTooLong { .. }
                | RequestError::NothingToGenerate
                | RequestError::IdTaken { .. }
                | RequestError::NoSuchPriority { .. }
                | RequestError::DeadlineInThePast { .. }
                | RequestError::Unverifiable { .. } => ErrorKind::Invalid,
                RequestError::Busy { .. } => ErrorKind::Busy,
                RequestError::DeadlineOutOfReach { .. } | RequestError::DeadlineMissed { .. } => {
                    ErrorKind::Late
                }
                RequestError::CannotLoad { .. }
                | RequestError::TooFewNodes { .. }
                | RequestError::GaveUp { .. }
                | RequestError::PlannerFailed => ErrorKind::Unavailable,
            },
            Self::Model(error) => match error {
                ModelError::Io { .. }
                | ModelError::NoSpace { .. }
                | ModelError::CacheFolder { .. }
                | ModelError::DefaultModelCache { .. }
                | ModelError::DefaultModelAltered { .. }
                | ModelError::BadStep { .. }
                | ModelError::Llama { .. }
                | ModelError::OutOfMemory { .. } => ErrorKind::Internal,
                ModelError::BadGguf { .. }
                | ModelError::OtherKind { .. }
                | ModelError::UnsupportedArchitecture { .. }
                | ModelError::Unsplittable { .. }
                | ModelError::BadSplit { .. }
                | ModelError::BadInput { .. } => ErrorKind::Invalid,
            },
            Self::Hub(error) => match error {
                HubError::Network { .. } | HubError::Answer { .. } | HubError::Busy { .. } => {
                    ErrorKind::Unavailable
                }
                HubError::Full { .. } | HubError::Cache { .. } | HubError::Altered { .. } => {
                    ErrorKind::Internal
                }
                _ => ErrorKind::Invalid,
            },
            Self::Ros2(Ros2Error::NoRouter { .. }) => ErrorKind::Unavailable,
            Self::Ros2(_) => ErrorKind::Invalid,
            Self::Cluster(_) | Self::Zenoh(_) | Self::Plan(_) | Self::Stopped => {
                ErrorKind::Unavailable
            }
            Self::Terminal(_) => ErrorKind::Internal,
        }
    }
}

/// An error of zenoh in one line.
pub(crate) fn zenoh_error(error: zenoh::Error) -> Error {
    Error::Zenoh(one_line(&error))
}

/// The first line of an error of zenoh, whose texts name source files and nest; the last one too, where it is a
/// parser's, which says there what is wrong.
pub(crate) fn one_line(error: &zenoh::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let first = first.split(" at /").next().unwrap_or(first).trim();
    match lines.next_back().and_then(|last| last.strip_prefix("= ")) {
        Some(why) => format!("{first}: {why}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jupiter_actors::NodeId;
    use jupiter_actors::request::DeadlineKind;

    use super::*;

    #[test]
    fn kinds_say_whether_asking_again_can_help() {
        let busy = RequestError::Busy {
            waiting: 9,
            retry_after_ms: 50,
        };
        let late = RequestError::DeadlineMissed {
            kind: DeadlineKind::Answer,
            within: Duration::from_secs(1),
        };
        let grammar = ModelError::BadInput { what: "x".into() };
        let lost = ModelError::Llama { what: "x".into() };
        let head = NodeId("a".into());
        for (error, kind) in [
            (ConfigError::NoNodes.into(), ErrorKind::Invalid),
            (BadRequest::NoPrompt.into(), ErrorKind::Invalid),
            (RequestError::EmptyPrompt.into(), ErrorKind::Invalid),
            (grammar.into(), ErrorKind::Invalid),
            (
                Error::UnknownToken { token: 7, last: 6 },
                ErrorKind::Invalid,
            ),
            (busy.into(), ErrorKind::Busy),
            (late.into(), ErrorKind::Late),
            (RequestError::PlannerFailed.into(), ErrorKind::Unavailable),
            (
                ClusterError::HasHead { head }.into(),
                ErrorKind::Unavailable,
            ),
            (Error::Stopped, ErrorKind::Unavailable),
            (lost.into(), ErrorKind::Internal),
        ] {
            assert_eq!(Error::kind(&error), kind, "{error}");
        }
    }

    #[test]
    fn every_message_is_one_line() {
        let layers = vec![u32::MAX, 7];
        let errors: [Error; 4] = [
            ConfigError::NoNodes.into(),
            ConfigError::NoHead.into(),
            ConfigError::SplitMismatch { layers, n_layer: 6 }.into(),
            ClusterError::OtherProtocol {
                who: "node b".into(),
                theirs: 0,
            }
            .into(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
    }
}
