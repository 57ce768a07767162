//! What can be wrong with a cluster.

use std::time::Duration;

use jupiter_actors::codec::PROTOCOL_VERSION;
use jupiter_actors::{NodeId, show_duration};

/// Why a cluster refuses a node, or cannot work as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Two heads would give the same nodes different stages.
    #[error(
        "the cluster has a head already, node {head}: stop it, or choose another name for this \
         cluster (--cluster NAME)"
    )]
    HasHead {
        /// The other one.
        head: NodeId,
    },
    /// Another head goes on instead of this one; the message says which, and why.
    #[error("{0}")]
    GaveWay(String),
    /// Nobody is where this node connects to.
    #[error("nobody answers at {connect}: start what listens there first, or leave out --connect")]
    Unreached {
        /// The endpoints.
        connect: String,
    },
    /// Somebody is there, but no head.
    #[error(
        "no head of the cluster {cluster} answers at {connect}: start `jupiter serve`, or name its \
         cluster (--cluster NAME)"
    )]
    NoHeadAnswers {
        /// Its name.
        cluster: String,
        /// The endpoints.
        connect: String,
    },
    /// Fewer nodes came than the head waits for.
    #[error(
        "{n_came} nodes came in {}, {n_needed} are needed: start more workers with \
         --connect {endpoint}, or wait for fewer (--workers)", show_duration(*.waited)
    )]
    TooFewNodes {
        /// Nodes that are there.
        n_came: usize,
        /// Nodes that are waited for.
        n_needed: u32,
        /// How long was waited.
        waited: Duration,
        /// Where the head listens.
        endpoint: String,
    },
    /// Fewer nodes came than are to be measured.
    #[error(
        "{n_came} of {n_needed} nodes came in {}: start `jupiter worker --connect \
         {endpoint}` on the others, or wait for fewer (--workers)", show_duration(*.waited)
    )]
    TooFewMeasured {
        /// Nodes that are there.
        n_came: usize,
        /// Nodes that are waited for.
        n_needed: usize,
        /// How long was waited.
        waited: Duration,
        /// Where the head listens.
        endpoint: String,
    },
    /// The model cannot run on the nodes there are; the message is the Planner's.
    #[error("{0}")]
    CannotRun(String),
    /// The Planner is busy or gone.
    #[error("the planner does not answer")]
    NoPlanner,
    /// The actors of a node do not start.
    #[error("cannot start node {node}: {why}")]
    NotStarted {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The head refuses this node; the message is the head's.
    #[error("{0}")]
    Refused(String),
    /// Two programs that do not speak the same protocol.
    #[error(
        "{who} speaks protocol version {theirs}, this node version {}: install the same version of \
         jupiter on all nodes",
        PROTOCOL_VERSION
    )]
    OtherProtocol {
        /// The other one.
        who: String,
        /// Its version.
        theirs: u32,
    },
    /// A node that does not answer what it is asked.
    #[error("node {node} did not answer in {}", show_duration(*.waited))]
    Silent {
        /// The node.
        node: NodeId,
        /// How long was waited.
        waited: Duration,
    },
    /// A node that cannot be measured.
    #[error("node {node}: {why}")]
    NotMeasured {
        /// The node.
        node: NodeId,
        /// Why, in its own words.
        why: String,
    },
    /// A node of another version.
    #[error("node {node} answered another question: install the same version on all nodes")]
    OtherAnswer {
        /// The node.
        node: NodeId,
    },
    /// A question of another version.
    #[error("a question that is none")]
    NoQuestion,
    /// Two nodes that do not reach each other.
    #[error("node {from} does not reach node {to}: are they on one network?")]
    NotReached {
        /// Who asked.
        from: NodeId,
        /// Who does not answer.
        to: NodeId,
    },
    /// What a node has to say cannot be written as JSON.
    #[error("a message that cannot be written: {0}")]
    Unwritable(String),
}
