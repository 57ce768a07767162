//! What can be wrong with a request for a plan.

use crate::NodeId;
use crate::planning::memory::Shortage;

/// Result of planning.
pub type Result<T> = std::result::Result<T, PlanError>;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A measured value that cannot be.
    #[error("profile of {node}: {field} is {got}, expected {expected}: measure it again")]
    BadDevice {
        /// Whose profile.
        node: NodeId,
        /// Which value.
        field: String,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A measured value of a link that cannot be, or a link that was not measured.
    #[error("link {from} -> {to}: {field} is {got}, expected {expected}: measure it again")]
    BadLink {
        /// Sender.
        from: NodeId,
        /// Receiver.
        to: NodeId,
        /// Which value.
        field: &'static str,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A model's description that cannot be.
    #[error("model profile: {field} is {got}, expected {expected}")]
    BadModel {
        /// Which value.
        field: String,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// No device at all.
    #[error("no device to plan for: start `jupiter worker` on one")]
    NoDevice,
    /// Two profiles of one name.
    #[error("node {0} appears twice: give every worker a name of its own")]
    DuplicateNode(NodeId),
    /// More different devices than a search covers.
    #[error(
        "{n_devices} devices of {n_types} types are too many to plan for: at most 10 different \
         devices, or 64 of 8 types, 128 of 7; leave some out or give equal devices the same type"
    )]
    TooManyDevices {
        /// Devices given.
        n_devices: usize,
        /// Types among them.
        n_types: usize,
    },
    /// What is asked lies outside of what can be planned.
    #[error("{field} is {got}, expected {expected}")]
    BadRequest {
        /// Which value.
        field: &'static str,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A devices file that describes nothing that can be planned for; who read it knows its name.
    #[error("{0}")]
    DevicesFile(String),
    /// A plan file that cannot be followed.
    #[error("plan file: {0}")]
    PlanFile(String),
    /// The model fits nowhere.
    #[error("{0}")]
    DoesNotFit(Box<Shortage>),
}
