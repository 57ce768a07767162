//! How goals of the action `Generate`, calls of `Ask`, and what comes of them are said.

use jupiter_actors::request::{Completion, FinishReason};
use serde_json::{Map, Value, json};

use super::action::ActionType;
use super::pieces::Piece;
use super::typed::{AnswerType, AnswerTypes};
use crate::error::{BadRequest, Result};
use crate::named_fields;

/// A request, and the message that its answer is to be, if any.
type Asked = (String, Option<AnswerType>);

/// How an action says it.
pub(super) struct Wording {
    pub(super) ty: ActionType,
    /// The request that a goal means, as zenoh's topics take it, and what its answer is to be.
    pub(super) request: fn(&Value, &AnswerTypes) -> Result<Asked>,
    /// What is told of a piece.
    pub(super) feedback: fn(Piece) -> Value,
    /// What is told in the end.
    pub(super) result: fn(&Ended) -> Value,
}

/// What became of a goal.
pub(super) struct Ended {
    pub(super) text: String,
    /// Why it ended.
    pub(super) reason: String,
    /// Empty where nothing went wrong.
    pub(super) error: String,
    /// Seconds to the first token, if there was one.
    pub(super) first_s: Option<f32>,
    pub(super) done: Option<Completion>,
}

/// The action `Generate` of jupiter_msgs.
pub(super) const GENERATE: Wording = Wording {
    ty: ActionType {
        feedback: "jupiter_msgs/action/Generate_FeedbackMessage",
        send_goal: "jupiter_msgs/action/Generate_SendGoal",
        get_result: "jupiter_msgs/action/Generate_GetResult",
    },
    request: |goal, types| {
        let typed = types.of_goal(goal)?;
        Ok((request_of_goal(goal)?, typed))
    },
    feedback,
    result,
};

/// The request that a goal means.
fn request_of_goal(goal: &Value) -> Result<String> {
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
    Ok(Value::Object(fields).to_string())
}

/// The fields of `options_json`.
pub(super) fn options(message: &Value) -> Result<Map<String, Value>> {
    match message["options_json"].as_str().unwrap_or_default() {
        "" => Ok(Map::new()),
        text => named_fields::from_json(text)
            .map_err(|why| BadRequest::Fields(format!("options_json: {why}")).into()),
    }
}

fn feedback(piece: Piece) -> Value {
    json!({
        "index": piece.index,
        "text": piece.text,
        "branch": piece.branch,
        "outline": piece.outline,
    })
}

fn result(ended: &Ended) -> Value {
    let usage = ended.done.as_ref().map_or((0, 0, 0.0), usage);
    json!({
        "text": ended.text,
        "finish_reason": ended.reason,
        "error": ended.error,
        "prompt_tokens": usage.0,
        "tokens": usage.1,
        "first_token_s": ended.first_s.unwrap_or_default(),
        "tokens_per_s": usage.2,
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

/// How ROS is told why an answer ended.
pub(super) fn reason_name(reason: FinishReason) -> String {
    match serde_json::to_value(reason) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ros2::types::Types;

    fn request(goal: Value) -> Value {
        let types = Types::embedded().unwrap();
        let ty = "jupiter_msgs/action/Generate_Goal";
        let goal = types.decode(ty, &types.encode(ty, &goal).unwrap()).unwrap();
        serde_json::from_str(&request_of_goal(&goal).unwrap()).unwrap()
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
    fn what_is_wrong_with_a_goal_is_named() {
        let both = json!({ "prompt": "x", "messages": [{ "role": "user", "content": "y" }] });
        let options = json!({ "prompt": "x", "options_json": "[" });
        for (goal, expected) in [(both, "both"), (options, "options_json")] {
            let error = request_of_goal(&goal).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
