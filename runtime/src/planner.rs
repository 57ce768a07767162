//! The way to this process's Planner, which its Supervisor may be starting again.

use std::time::{Duration, Instant};

use jupiter_actors::Inbox;
use jupiter_actors::planner::PlannerMessage;
use ractor::rpc::CallResult;
use ractor::{ActorRef, ActorStatus, RpcReplyPort};

use crate::error::{ClusterError, Error, Result};

/// How long is waited for a Planner that is being started again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before it is looked for again.
const RETRY: Duration = Duration::from_millis(20);

/// The living Planner; waits while its Supervisor starts it again.
///
/// # Errors
/// [`Error::Stopped`] when it does not come back.
pub(crate) async fn living(inbox: &Inbox) -> Result<ActorRef<PlannerMessage>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let living = inbox
            .planner()
            .filter(|planner| matches!(planner.get_status(), ActorStatus::Running));
        if let Some(planner) = living {
            return Ok(planner);
        }
        if Instant::now() > deadline {
            return Err(Error::Stopped);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What the Planner answers within `patience`.
///
/// # Errors
/// When it does not come back, or does not answer.
pub(crate) async fn ask<T: Send + 'static>(
    inbox: &Inbox,
    question: impl FnOnce(RpcReplyPort<T>) -> PlannerMessage,
    patience: Duration,
) -> Result<T> {
    match living(inbox).await?.call(question, Some(patience)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        _ => Err(ClusterError::NoPlanner.into()),
    }
}

/// Tells the Planner to end something; one that is gone has nothing to end.
pub(crate) fn tell_if_living(inbox: &Inbox, message: PlannerMessage) {
    if let Some(planner) = inbox.planner() {
        // It ends in this moment: so does what it was told to end.
        let _ = planner.cast(message);
    }
}
