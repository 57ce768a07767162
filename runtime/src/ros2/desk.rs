//! What robots ask, and how it is answered: goals of the action `Generate`, calls of the service `Ask`.
//! Both become the request that zenoh's topics take, so that all ask in the same words.

use std::sync::Arc;

use jupiter_actors::request::{ClientId, Completion, FinishReason};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::action::{ActionServer, ActionType, Goal};
use super::goals::Status;
use super::graph::Graph;
use super::node::{Call, Node};
use super::pieces::{Piece, Pieces};
use super::types::Types;
use super::wire::Gid;
use crate::client::Client;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::error::{BadRequest, Error, Result};
use crate::gateway::request::{self, busy};
use crate::named_fields;

/// The action.
const GENERATE: ActionType = ActionType {
    feedback: "jupiter_msgs/action/Generate_FeedbackMessage",
    send_goal: "jupiter_msgs/action/Generate_SendGoal",
    get_result: "jupiter_msgs/action/Generate_GetResult",
};

/// Most calls of `Ask` at the same time; more are told so.
const MAX_ASKS: usize = 16;

/// Answers for one node.
pub(super) struct Desk {
    client: Client,
    types: Arc<Types>,
    graph: Arc<Graph>,
    asks: Arc<Semaphore>,
    handle: tokio::runtime::Handle,
}

impl Desk {
    pub(super) fn new(client: Client, types: Arc<Types>, graph: Arc<Graph>) -> Arc<Self> {
        Arc::new(Self {
            client,
            types,
            graph,
            asks: Arc::new(Semaphore::new(MAX_ASKS)),
            handle: tokio::runtime::Handle::current(),
        })
    }

    /// Offers the action at `generate` and the service at `ask`, whole names.
    pub(super) fn serve(
        self: &Arc<Self>,
        node: &mut Node,
        generate: &str,
        ask: &str,
    ) -> Result<()> {
        let desk = self.clone();
        ActionServer::start(node, generate, &GENERATE, move |goal| {
            desk.handle.spawn(desk.clone().pursue(goal));
        })?;
        let desk = self.clone();
        node.serve(ask, "jupiter_msgs/srv/Ask", move |call| {
            desk.handle.spawn(desk.clone().reply(call));
        })
    }

    /// Works on a goal until it ends, somebody cancels it, or who sent it is gone.
    async fn pursue(self: Arc<Self>, goal: Goal) {
        let (mut pieces, start) = (Pieces::default(), Instant::now());
        let answered = async {
            let typed = AnswerType::of_goal(&goal.said, &self.types)?;
            let payload = request_of_goal(&goal.said, typed.as_ref())?;
            let asked = self.read(&payload, false, goal.client)?;
            let tell = |piece: Piece| goal.feedback(feedback(piece));
            let done = self.answer(asked, &mut pieces, tell).await?;
            match typed {
                Some(typed) => typed.check(&pieces.text, &self.types).map(|()| done),
                None => Ok(done),
            }
        };
        let ended = tokio::select! {
            answered = answered => Some(answered),
            () = goal.canceled() => None,
            () = self.graph.gone(goal.client) => {
                tracing::info!("gave up a goal: the node that sent it is gone");
                None
            }
        };
        let (status, reason, error, done) = match ended {
            None => (Status::Canceled, "canceled".to_owned(), String::new(), None),
            Some(Ok(done)) => {
                let reason = reason_name(done.reason);
                (Status::Succeeded, reason, String::new(), Some(done))
            }
            Some(Err(error)) => (Status::Aborted, "error".to_owned(), error.to_string(), None),
        };
        let first_s = pieces.first.map(|first| (first - start).as_secs_f32());
        let usage = done.as_ref().map_or((0, 0, 0.0), usage);
        let result = json!({
            "text": pieces.text,
            "finish_reason": reason,
            "error": error,
            "prompt_tokens": usage.0,
            "tokens": usage.1,
            "first_token_s": first_s.unwrap_or_default(),
            "tokens_per_s": usage.2,
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
            let mut fields = options(&call.request)?;
            fields.insert("prompt".to_owned(), call.request["prompt"].clone());
            let asked = self.read(&Value::Object(fields).to_string(), false, client)?;
            self.answer(asked, &mut pieces, |_| {}).await
        };
        let answered = tokio::select! {
            answered = answered => answered,
            () = self.graph.gone(client) => return,
        };
        let error = answered.err().map(|error| error.to_string());
        let response = json!({ "ok": error.is_none(), "text": pieces.text, "error": error });
        let sent = tokio::task::spawn_blocking(move || call.answer(&response));
        let _ = sent.await;
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

/// The message that an answer is to be.
struct AnswerType {
    /// As `geometry_msgs/msg/Twist`.
    name: String,
    grammar: String,
}

impl AnswerType {
    /// What a goal asks for.
    fn of_goal(goal: &Value, types: &Types) -> Result<Option<Self>> {
        let text = |name: &str| goal[name].as_str().unwrap_or_default();
        let said = text("answer_type");
        if said.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| BadRequest::AnswerType {
            name: said.to_owned(),
            why,
        };
        if !text("grammar").is_empty() {
            return Err(wrong("grammar is given too: send one of them".to_owned()).into());
        }
        let name = Types::message_name(said);
        let grammar = types.grammar(&name);
        let grammar = grammar.map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self { name, grammar }))
    }

    /// Whether an answer is such a message: one that was cut short is none.
    fn check(&self, text: &str, types: &Types) -> Result<()> {
        let message = serde_json::from_str(text.trim()).map_err(|error| error.to_string());
        let written = message.and_then(|message: Value| {
            let written = types.encode(&self.name, &message);
            written.map_err(|error| error.to_string())
        });
        let name = self.name.clone();
        match written {
            Ok(_) => Ok(()),
            Err(error) => {
                let why = format!("the answer is no such message (max_tokens too small?): {error}");
                Err(BadRequest::AnswerType { name, why }.into())
            }
        }
    }
}

/// The request that a goal means.
fn request_of_goal(goal: &Value, typed: Option<&AnswerType>) -> Result<String> {
    let mut fields = options(goal)?;
    let text = |name: &str| goal[name].as_str().unwrap_or_default();
    let mut messages = goal["messages"].as_array().cloned().unwrap_or_default();
    if !text("system").is_empty() {
        messages.insert(0, json!({ "role": "system", "content": text("system") }));
    }
    match (text("prompt"), messages.is_empty()) {
        ("", true) => {}
        (prompt, true) => drop(fields.insert("prompt".to_owned(), prompt.into())),
        ("", false) => drop(fields.insert("messages".to_owned(), messages.into())),
        (prompt, false) => {
            // A system text goes with one question; a conversation and a question do not.
            if goal["messages"]
                .as_array()
                .is_some_and(|said| !said.is_empty())
            {
                return Err(BadRequest::TwoPrompts.into());
            }
            messages.push(json!({ "role": "user", "content": prompt }));
            fields.insert("messages".to_owned(), messages.into());
        }
    }
    let mut say = |name: &str, value: &Value, is_said: bool| {
        if is_said {
            fields.insert(name.to_owned(), value.clone());
        }
    };
    let number = |name: &str| goal[name].as_f64().unwrap_or_default();
    say("n_predict", &goal["max_tokens"], number("max_tokens") > 0.0);
    // A text where a number should be is none, `nan`: the reader of requests names it.
    let is_said = goal["temperature"].is_string() || number("temperature") >= 0.0;
    say("temperature", &goal["temperature"], is_said);
    say("seed", &goal["seed"], number("seed") >= 0.0);
    let has_stops = goal["stop"].as_array().is_some_and(|stop| !stop.is_empty());
    say("stop", &goal["stop"], has_stops);
    for name in ["grammar", "outline"] {
        say(name, &goal[name], !text(name).is_empty());
    }
    if let Some(typed) = typed {
        say("grammar", &typed.grammar.as_str().into(), true);
        // A message is one piece.
        say("outline", &"off".into(), true);
    }
    Ok(Value::Object(fields).to_string())
}

/// The fields of `options_json`.
fn options(message: &Value) -> Result<Map<String, Value>> {
    match message["options_json"].as_str().unwrap_or_default() {
        "" => Ok(Map::new()),
        text => named_fields::from_json(text)
            .map_err(|why| BadRequest::Fields(format!("options_json: {why}")).into()),
    }
}

/// Whose a request is: a gid is a hash, of which half is enough. All without one are the same.
fn client_id(client: Option<Gid>) -> ClientId {
    let half = client.and_then(|gid| gid.first_chunk().copied());
    half.map_or_else(ClientId::default, |half| ClientId(u64::from_le_bytes(half)))
}

fn feedback(piece: Piece) -> Value {
    json!({
        "index": piece.index,
        "text": piece.text,
        "branch": piece.branch,
        "outline": piece.outline,
    })
}

/// Tokens of the prompt, of the answer, and of it in a second.
fn usage(done: &Completion) -> (u32, u32, f64) {
    let rate = f64::from(done.n_eval) / (done.eval_ms / 1000.0);
    (
        done.n_prompt,
        done.n_eval,
        if rate.is_finite() { rate } else { 0.0 },
    )
}

fn reason_name(reason: FinishReason) -> String {
    match serde_json::to_value(reason) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(goal: Value) -> Value {
        let types = Types::embedded().unwrap();
        let ty = "jupiter_msgs/action/Generate_Goal";
        let goal = types.decode(ty, &types.encode(ty, &goal).unwrap()).unwrap();
        serde_json::from_str(&request_of_goal(&goal, None).unwrap()).unwrap()
    }

    #[test]
    fn what_a_goal_does_not_say_is_not_asked_for() {
        assert_eq!(request(json!({ "prompt": "x" })), json!({ "prompt": "x" }));
        let goal = json!({
            "prompt": "x", "system": "s", "max_tokens": 7, "temperature": 0.0, "seed": 3,
            "stop": ["a"], "grammar": "g", "outline": "off",
            "options_json": "{\"top_k\": 20, \"priority\": 0, \"deadline_ms\": 500}",
        });
        let expected = json!({
            "messages": [{ "role": "system", "content": "s" }, { "role": "user", "content": "x" }],
            "n_predict": 7, "temperature": 0.0, "seed": 3, "stop": ["a"], "grammar": "g",
            "outline": "off", "top_k": 20, "priority": 0, "deadline_ms": 500,
        });
        assert_eq!(request(goal), expected);
        let chat = json!([{ "role": "user", "content": "x" }]);
        assert_eq!(
            request(json!({ "messages": chat })),
            json!({ "messages": chat })
        );
    }

    #[test]
    fn each_robot_has_a_client_of_its_own() {
        let (one, other) = (client_id(Some([1; 16])), client_id(Some([2; 16])));
        assert_ne!(one, other);
        assert_ne!(one, client_id(None));
        assert_eq!(one, client_id(Some([1; 16])));
    }

    #[test]
    fn what_is_wrong_with_a_goal_is_named() {
        let both = json!({ "prompt": "x", "messages": [{ "role": "user", "content": "y" }] });
        let options = json!({ "prompt": "x", "options_json": "[" });
        for (goal, expected) in [(both, "both"), (options, "options_json")] {
            let error = request_of_goal(&goal, None).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_typed_answer_is_asked_for_by_its_grammar_and_checked() {
        let types = Types::embedded().unwrap();
        let typed = |goal: Value| AnswerType::of_goal(&goal, &types);
        let twist = typed(json!({ "answer_type": "geometry_msgs/Twist" }));
        let twist = twist.unwrap().unwrap();
        let request = request_of_goal(&json!({ "prompt": "x" }), Some(&twist)).unwrap();
        assert!(request.contains("geometry-msgs-msg-Vector3"), "{request}");
        let vector = json!({ "x": 0.2, "y": 0.0, "z": 0.0 });
        let whole = json!({ "linear": vector, "angular": vector }).to_string();
        twist.check(&whole, &types).unwrap();
        let cut = twist.check(&whole[..20], &types).unwrap_err().to_string();
        assert!(cut.contains("max_tokens") && !cut.contains('\n'), "{cut}");
        assert!(typed(json!({ "prompt": "x" })).unwrap().is_none());
        let both = json!({ "answer_type": "std_msgs/msg/Bool", "grammar": "g" });
        for wrong in [both, json!({ "answer_type": "a/msg/B" })] {
            assert!(typed(wrong).is_err());
        }
    }
}
