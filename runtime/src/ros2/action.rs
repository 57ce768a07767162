//! An action server: three services and two topics around [`Goals`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::goals::{GoalId, Goals, Status, time};
use super::node::{Call, Node, Publisher};
use super::wire::{Gid, Qos, now_ns};
use crate::error::Result;

/// The names of an action's parts, which live as long as the program.
pub(super) struct ActionType {
    pub(super) feedback: &'static str,
    pub(super) send_goal: &'static str,
    pub(super) get_result: &'static str,
}

/// What goals come to, and where they are told of.
pub(super) struct ActionServer {
    goals: Mutex<Goals<Call>>,
    feedback: Publisher,
    status: Publisher,
    handle: tokio::runtime::Handle,
}

/// A goal that was accepted. Dropping it without an end aborts it.
pub(super) struct Goal {
    pub(super) client: Option<Gid>,
    pub(super) said: Value,
    id: GoalId,
    canceled: watch::Receiver<bool>,
    server: Arc<ActionServer>,
    is_ended: bool,
}

impl ActionServer {
    /// Offers the action at `name` (`/llm/generate`); `begin` is called with each goal that is accepted,
    /// and must not wait.
    pub(super) fn start(
        node: &mut Node,
        name: &str,
        ty: &ActionType,
        begin: impl Fn(Goal) + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let part = |part: &str| format!("{name}/_action/{part}");
        let statuses = "action_msgs/msg/GoalStatusArray";
        let server = Arc::new(Self {
            goals: Mutex::new(Goals::new()),
            feedback: node.publisher(&part("feedback"), ty.feedback, Qos::Plain)?,
            status: node.publisher(&part("status"), statuses, Qos::Latched)?,
            handle: tokio::runtime::Handle::current(),
        });
        let own = server.clone();
        node.serve(&part("send_goal"), ty.send_goal, move |call| {
            if let Some(goal) = own.send_goal(call) {
                begin(goal);
            }
        })?;
        let own = server.clone();
        let cancel = "action_msgs/srv/CancelGoal";
        node.serve(&part("cancel_goal"), cancel, move |call| own.cancel(call))?;
        let own = server.clone();
        node.serve(&part("get_result"), ty.get_result, move |call| {
            own.get_result(call)
        })?;
        Ok(server)
    }

    fn send_goal(self: &Arc<Self>, call: Call) -> Option<Goal> {
        let id = goal_id(&call.request);
        let stamp_ns = now_ns();
        let canceled = self.goals().accept(id, stamp_ns, Instant::now());
        let client = call.client();
        let said = call.request["goal"].clone();
        self.answer(
            call,
            json!({ "accepted": canceled.is_some(), "stamp": time(stamp_ns) }),
        );
        let Some(canceled) = canceled else {
            tracing::warn!("refused a goal: too many are worked on, or one with its id is there");
            return None;
        };
        self.tell();
        Some(Goal {
            client,
            said,
            id,
            canceled,
            server: self.clone(),
            is_ended: false,
        })
    }

    fn cancel(&self, call: Call) {
        let info = &call.request["goal_info"];
        let (id, stamp) = (goal_id(info), &info["stamp"]);
        let part = |of: &str| stamp[of].as_i64().unwrap_or_default();
        let stamp_ns = part("sec").saturating_mul(1_000_000_000) + part("nanosec");
        let (code, canceling) = self.goals().cancel(id, stamp_ns);
        self.answer(
            call,
            json!({ "return_code": code as i8, "goals_canceling": canceling }),
        );
        self.tell();
    }

    fn get_result(&self, call: Call) {
        let id = goal_id(&call.request);
        let known = self.goals().result(id, call);
        if let Some((call, status, result)) = known {
            self.answer(call, json!({ "status": status as i8, "result": result }));
        }
    }

    /// Answers beside: a client that does not read holds up only its own answer.
    fn answer(&self, call: Call, response: Value) {
        self.handle.spawn_blocking(move || call.answer(&response));
    }

    fn tell(&self) {
        // The lock is held, so that an older state does not overtake.
        let goals = self.goals();
        self.status.publish(&goals.statuses());
    }

    fn goals(&self) -> MutexGuard<'_, Goals<Call>> {
        self.goals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Goal {
    pub(super) fn feedback(&self, feedback: Value) {
        let id = json!({ "uuid": self.id });
        let message = json!({ "goal_id": id, "feedback": feedback });
        self.server.feedback.publish(&message);
    }

    /// Waits until somebody cancels it. Cancel safe.
    pub(super) async fn canceled(&self) {
        let mut canceled = self.canceled.clone();
        if canceled.wait_for(|is| *is).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends it.
    pub(super) fn end(mut self, status: Status, result: &Value) {
        self.end_with(status, result);
    }

    fn end_with(&mut self, status: Status, result: &Value) {
        self.is_ended = true;
        let server = &self.server;
        let waiting = (server.goals()).end(self.id, status, result.clone(), Instant::now());
        server.tell();
        for call in waiting {
            server.answer(call, json!({ "status": status as i8, "result": result }));
        }
    }
}

impl Drop for Goal {
    fn drop(&mut self) {
        if !self.is_ended {
            self.end_with(Status::Aborted, &Value::Null);
        }
    }
}

/// The id in a message with `goal_id`.
fn goal_id(message: &Value) -> GoalId {
    let uuid = message["goal_id"]["uuid"].as_array();
    let mut id = GoalId::default();
    for (byte, said) in id.iter_mut().zip(uuid.into_iter().flatten()) {
        *byte = said
            .as_u64()
            .and_then(|b| u8::try_from(b).ok())
            .unwrap_or_default();
    }
    id
}
