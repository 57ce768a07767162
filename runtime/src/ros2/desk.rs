//! What robots ask, and how it is answered: goals of actions, calls of the service `Ask`. All become the
//! request that zenoh's topics take (`wording`), so that all ask in the same words.

use std::sync::Arc;

use jupiter_actors::request::{ClientId, Completion};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::action::{ActionServer, Goal};
use super::goals::Status;
use super::graph::Graph;
use super::llama_ros;
use super::node::{Call, Node};
use super::pieces::{Piece, Pieces};
use super::typed::{AnswerType, AnswerTypes};
use super::wire::Gid;
use super::wording::{self, Ended, Wording, reason_name};
use crate::client::Client;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::config::Ros2Config;
use crate::error::{Error, Result};
use crate::gateway::request::{self, busy};

/// Most calls of `Ask` at the same time; more are told so.
const MAX_ASKS: usize = 16;

/// Answers for one node.
pub(super) struct Desk {
    client: Client,
    answers: AnswerTypes,
    graph: Arc<Graph>,
    /// Closed when the node leaves.
    ended: watch::Receiver<()>,
    asks: Arc<Semaphore>,
    handle: tokio::runtime::Handle,
}

impl Desk {
    pub(super) fn new(
        client: Client,
        answers: AnswerTypes,
        graph: Arc<Graph>,
        ended: watch::Receiver<()>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            answers,
            graph,
            ended,
            asks: Arc::new(Semaphore::new(MAX_ASKS)),
            handle: tokio::runtime::Handle::current(),
        })
    }

    /// Offers the actions and the service by the names that `config` gives them; that of llama_ros where its
    /// types were given.
    pub(super) fn serve(self: &Arc<Self>, node: &mut Node, config: &Ros2Config) -> Result<()> {
        self.act(node, &config.offered("generate"), &wording::GENERATE)?;
        let name = config.offered("generate_response");
        match llama_ros::is_given(&self.answers.types) {
            Ok(false) => {}
            Ok(true) => self.act(node, &name, &llama_ros::GENERATE_RESPONSE)?,
            Err(why) => tracing::warn!("ROS 2: {name} is not offered: {why}"),
        }
        let desk = self.clone();
        node.serve(
            &config.offered("ask"),
            "jupiter_msgs/srv/Ask",
            move |call| {
                desk.handle.spawn(desk.clone().reply(call));
            },
        )
    }

    fn act(self: &Arc<Self>, node: &mut Node, name: &str, wording: &'static Wording) -> Result<()> {
        let desk = self.clone();
        ActionServer::start(node, name, &wording.ty, move |goal| {
            desk.handle.spawn(desk.clone().pursue(goal, wording));
        })?;
        Ok(())
    }

    /// Works on a goal until it ends, somebody cancels it, or who sent it is gone.
    async fn pursue(self: Arc<Self>, goal: Goal, wording: &'static Wording) {
        let (mut pieces, start) = (Pieces::default(), Instant::now());
        let answered = async {
            let (payload, typed) = (wording.request)(&goal.said, &self.answers)?;
            let mut asked = self.read(&payload, false, goal.client)?;
            if let Some(typed) = &typed {
                typed.ask(&mut asked.0, &mut asked.1)?;
            }
            let tell = |piece: Piece| goal.feedback((wording.feedback)(piece));
            let is_told = typed.as_ref().is_none_or(AnswerType::is_as_written);
            let told = |piece: Piece| {
                if is_told {
                    tell(piece);
                }
            };
            let done = self.answer(asked, &mut pieces, told).await?;
            if let Some(typed) = typed {
                pieces.text = typed.message(&pieces.text)?;
                if !is_told {
                    tell(Piece::whole(&pieces.text));
                }
            }
            Ok::<_, Error>(done)
        };
        let ended = tokio::select! {
            answered = answered => Some(answered),
            () = goal.canceled() => None,
            () = self.graph.gone(goal.client) => {
                tracing::info!("gave up a goal: the node that sent it is gone");
                None
            }
            () = self.left() => None,
        };
        let (status, reason, error, done) = match ended {
            None => (Status::Canceled, "canceled".to_owned(), String::new(), None),
            Some(Ok(done)) => {
                let reason = reason_name(done.reason);
                (Status::Succeeded, reason, String::new(), Some(done))
            }
            Some(Err(error)) => {
                // Not every action has a place for it.
                tracing::warn!("a goal is aborted: {error}");
                (Status::Aborted, "error".to_owned(), error.to_string(), None)
            }
        };
        let first_s = pieces.first.map(|first| (first - start).as_secs_f32());
        let result = (wording.result)(&Ended {
            text: pieces.text,
            reason,
            error,
            first_s,
            done,
        });
        // It may wait for slow clients.
        let ended = tokio::task::spawn_blocking(move || goal.end(status, &result));
        let _ = ended.await;
    }

    /// Answers a call of `Ask`.
    async fn reply(self: Arc<Self>, call: Call) {
        let mut pieces = Pieces::default();
        let client = call.client();
        let answered = async {
            let Ok(_permit) = self.asks.try_acquire() else {
                return Err(busy(MAX_ASKS, None));
            };
            let mut fields = wording::options(&call.request)?;
            fields.insert("prompt".to_owned(), call.request["prompt"].clone());
            let asked = self.read(&Value::Object(fields).to_string(), false, client)?;
            self.answer(asked, &mut pieces, |_| {}).await
        };
        let answered = tokio::select! {
            answered = answered => answered,
            () = self.graph.gone(client) => return,
            () = self.left() => return,
        };
        let error = answered.err().map(|error| error.to_string());
        let response = json!({ "ok": error.is_none(), "text": pieces.text, "error": error });
        let sent = tokio::task::spawn_blocking(move || call.answer(&response));
        let _ = sent.await;
    }

    /// Waits until the node is no more. Cancel safe.
    async fn left(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Reads a request of zenoh's topics, or what is no JSON object where `plain` is allowed; requests
    /// of each `client` take turns with those of others.
    pub(super) fn read(
        &self,
        payload: &str,
        plain: bool,
        client: Option<Gid>,
    ) -> Result<(Prompt, GenerateOptions)> {
        let mut default = self.client.default_options();
        default.client = client_id(client);
        request::parse(payload.as_bytes(), plain, default)
    }

    /// Answers a request; `tell` hears of each piece.
    pub(super) async fn answer(
        &self,
        (prompt, options): (Prompt, GenerateOptions),
        pieces: &mut Pieces,
        tell: impl FnMut(Piece),
    ) -> Result<Completion> {
        let mut stream = self.client.generate(prompt, options).await?;
        let done = pieces.read(&mut stream, tell).await?;
        done.ok_or(Error::Stopped)
    }
}

/// Whose a request is: a gid is a hash, of which half is enough. All without one are the same.
fn client_id(client: Option<Gid>) -> ClientId {
    let half = client.and_then(|gid| gid.first_chunk().copied());
    half.map_or_else(ClientId::default, |half| ClientId(u64::from_le_bytes(half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_robot_has_a_client_of_its_own() {
        let (one, other) = (client_id(Some([1; 16])), client_id(Some([2; 16])));
        assert_ne!(one, other);
        assert_ne!(one, client_id(None));
        assert_eq!(one, client_id(Some([1; 16])));
    }
}
