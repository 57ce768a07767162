//! The topic `status`: how the cluster is doing, as JSON, also for who comes later; said when it changes.

use std::time::{Duration, Instant};

use jupiter_actors::Inbox;
use jupiter_actors::planner::{ClusterStatus, PlannerMessage};
use serde_json::{Value, json};

use super::node::Publisher;
use crate::planner;
use crate::status::StatusReport;
use crate::task::AbortOnDrop;

/// How often is looked; what comes and goes between two looks is not told.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the Planner may take: it answers between two steps.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells it as long as it lives.
pub(super) fn tell(publisher: Publisher, inbox: Inbox) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        let mut said = Value::Null;
        loop {
            let status = planner::ask(&inbox, PlannerMessage::Status, PATIENCE).await;
            // A Planner that does not answer is being started again.
            if let Ok(status) = status {
                let now = condition(&status);
                if now != said {
                    publisher.publish(&json!({ "data": now.to_string() }));
                    said = now;
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }))
}

/// What stays the same while nothing happens, of what `jupiter top` shows.
fn condition(status: &ClusterStatus) -> Value {
    let now = Instant::now();
    let StatusReport {
        phase,
        why,
        nodes,
        n_live,
        n_waiting,
        ..
    } = StatusReport::new(status, now, now);
    json!({ "phase": phase, "why": why, "nodes": nodes, "n_live": n_live, "n_waiting": n_waiting })
}
