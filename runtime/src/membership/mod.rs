//! Who belongs to a cluster.
//!
//! ```text
//! worker                                   head
//!   |  <~~ liveliness token of the head ~~~  |   carries the protocol version
//!   |  ~~~ liveliness token of the node ~~>  |
//!   |  ---- join: what the node is ------->  |   same protocol? same model? name free?
//!   |  <------------ accepted -------------  |   then the Planner hears NodeUp
//! ```
//!
//! Where plans follow from measurements ([`survey`] asks, [`measure`] answers), the node is measured
//! before the Planner hears of it. A token that vanishes is a node that is gone. Where two heads meet
//! ([`meeting`]), one goes on. A worker that meets a head again joins again:
//! everything it held for the old head is forgotten by then.

pub(crate) mod head;
pub(crate) mod heads;
pub(crate) mod measure;
mod meeting;
mod roster;
pub(crate) mod survey;
pub(crate) mod worker;

use std::time::Duration;

use jupiter_actors::NodeId;
use jupiter_actors::codec::PROTOCOL_VERSION;
use serde::{Deserialize, Serialize};

use crate::error::ClusterError;

/// How long a question to another node may take: it is answered from memory.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// What a node says of itself when it asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinRequest {
    /// Version of the wire format.
    pub protocol: u8,
    /// Version of the program, for people.
    pub version: String,
    pub node: NodeId,
    /// Tells this process from earlier ones of the same node.
    pub instance: String,
    /// Content hash of its model file.
    pub model: String,
}

/// The head's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Accepted,
    Refused {
        why: String,
        /// Whether asking again later can help.
        retry: bool,
    },
}

impl JoinRequest {
    /// That of this process.
    pub(crate) fn of_this_process(node: NodeId, instance: String, model: String) -> Self {
        Self {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node,
            instance,
            model,
        }
    }
}

/// What a node has to say cannot be written as JSON.
fn unwritable(error: serde_json::Error) -> ClusterError {
    ClusterError::Unwritable(error.to_string())
}
