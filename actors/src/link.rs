//! Where messages go.

use std::fmt;

use crate::message::{Message, NodeReport};
use crate::{NodeId, PlanEpoch, codec};

/// The receiver of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A stage of the pipeline, for activations.
    Stage {
        /// The plan.
        epoch: PlanEpoch,
        /// The stage.
        stage: u32,
    },
    /// The Planner, for step reports.
    Accept {
        /// The plan.
        epoch: PlanEpoch,
    },
    /// The Supervisor of a node, for commands.
    Node(NodeId),
    /// The Planner, for what nodes report.
    Head,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { epoch, stage } => write!(f, "stage {stage} of {epoch}"),
            Self::Accept { epoch } => write!(f, "the planner, {epoch}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Head => f.write_str("the planner"),
        }
    }
}

/// Why a frame was not taken. Frames that were taken may still be lost on the way: receivers
/// notice by step ids, and the Planner by its deadlines.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The queue towards the receiver is full: it does not keep up, or is gone.
    #[error("the queue to {to} is full ({capacity} frames)")]
    Full {
        /// The receiver.
        to: Address,
        /// The queue's bound.
        capacity: usize,
    },
    /// The link was closed.
    #[error("the link is closed")]
    Closed,
}

/// A way to send frames (see [`crate::codec`]). Frames to one address arrive in the order sent,
/// or not at all.
pub trait Link: Send + Sync + 'static {
    /// Takes the frame and returns at once; delivery goes on in the background.
    ///
    /// # Errors
    /// When the bounded queue towards `to` is full or the link is closed.
    fn send(&self, to: &Address, frame: Vec<u8>) -> Result<(), LinkError>;

    /// The same, from a thread that has nothing else to do and may wait for the network: the link can
    /// save the way over a thread of its own.
    ///
    /// # Errors
    /// As [`Link::send`].
    fn send_from_own_thread(&self, to: &Address, frame: Vec<u8>) -> Result<(), LinkError> {
        self.send(to, frame)
    }

    /// Tells the link which stages of `epoch` this node holds from now on, instead of those named
    /// before. The Supervisor calls it before it reports a stage as ready, so that a network link
    /// can subscribe to exactly these stages. Links that see every frame need not care.
    fn host(&self, epoch: PlanEpoch, stages: &[u32]) {
        let _ = (epoch, stages);
    }
}

/// Encodes a message and sends it. A closed link counts as sent: the node ends, and nobody waits for
/// the message.
///
/// # Errors
/// When the bounded queue towards `to` is full.
pub(crate) fn send_message(
    link: &dyn Link,
    to: &Address,
    message: &Message,
) -> Result<(), LinkError> {
    as_sent(link.send(to, codec::encode(message)))
}

/// The same, from a thread that may wait for the network.
///
/// # Errors
/// When the bounded queue towards `to` is full.
pub(crate) fn send_from_own_thread(
    link: &dyn Link,
    to: &Address,
    message: &Message,
) -> Result<(), LinkError> {
    as_sent(link.send_from_own_thread(to, codec::encode(message)))
}

fn as_sent(sent: Result<(), LinkError>) -> Result<(), LinkError> {
    match sent {
        Err(LinkError::Closed) => Ok(()),
        sent => sent,
    }
}

/// Sends a node's report to the Planner; when the link does not take it, the Planner's deadline
/// finds the fault later.
pub(crate) fn send_report(link: &dyn Link, report: NodeReport) {
    if let Err(error) = send_message(link, &Address::Head, &Message::Node(report)) {
        tracing::warn!(%error, "could not report to the planner");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CancelRows;

    struct Refusing(fn(&Address) -> LinkError);

    impl Link for Refusing {
        fn send(&self, to: &Address, _: Vec<u8>) -> Result<(), LinkError> {
            Err(self.0(to))
        }
    }

    #[test]
    fn a_closed_link_is_no_fault_and_a_full_one_is() {
        let message = Message::Cancel(CancelRows {
            epoch: PlanEpoch(1),
            seq: jupiter_models::SequenceId(0),
            live_from: 1,
            live_from_step: crate::StepId(0),
        });
        let send = |why| send_message(&Refusing(why), &Address::Head, &message);
        assert!(send(|_| LinkError::Closed).is_ok());
        let full = send(|to| LinkError::Full {
            to: to.clone(),
            capacity: 4,
        });
        assert!(matches!(full, Err(LinkError::Full { capacity: 4, .. })));
    }
}
