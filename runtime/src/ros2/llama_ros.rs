//! The action `generate_response` as llama_ros has it, for robots that ask such a node already: its types come
//! with `--ros2-interfaces`, since they change from version to version.

use serde_json::{Map, Value, json};

use super::action::ActionType;
use super::types::{Kind, Shape, Types};
use super::wording::Wording;
use crate::error::{BadRequest, Result as RequestResult};

/// What is written and read of its messages, by the field's path.
const NEEDED: [(&str, &str); 3] = [
    ("llama_msgs/action/GenerateResponse_Goal", "prompt"),
    (
        "llama_msgs/action/GenerateResponse_Feedback",
        "partial_response.text",
    ),
    ("llama_msgs/action/GenerateResponse_Result", "response.text"),
];

/// Whether the action can be offered: its types were given, and have what is needed of them.
///
/// # Errors
/// What is missing of types that were given.
pub(super) fn is_given(types: &Types) -> Result<bool, String> {
    if types.fields(NEEDED[0].0).is_err() {
        return Ok(false);
    }
    let missing = NEEDED.iter().find(|(name, path)| !has(types, name, path));
    match missing {
        None => Ok(true),
        Some((name, path)) => Err(format!("{name} has no text `{path}`")),
    }
}

fn has(types: &Types, name: &str, path: &str) -> bool {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let field = types
        .fields(name)
        .ok()
        .and_then(|fields| fields.iter().find(|field| field.name == first));
    let one = field.filter(|field| field.shape == Shape::One);
    match one.map(|field| &field.kind) {
        Some(Kind::String(_)) => rest.is_empty(),
        Some(Kind::Message(inner)) => has(types, inner, rest),
        _ => false,
    }
}

/// The action `GenerateResponse` of llama_msgs.
pub(super) const GENERATE_RESPONSE: Wording = Wording {
    ty: ActionType {
        feedback: "llama_msgs/action/GenerateResponse_FeedbackMessage",
        send_goal: "llama_msgs/action/GenerateResponse_SendGoal",
        get_result: "llama_msgs/action/GenerateResponse_GetResult",
    },
    request: |goal, _| Ok((request_of_goal(goal)?, None)),
    feedback: |piece| json!({ "partial_response": { "text": piece.text } }),
    result: |ended| json!({ "response": { "text": ended.text } }),
};

/// What `SamplingConfig` calls what requests call otherwise.
const SAMPLING: [(&str, &str); 8] = [
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("penalty_repeat", "repeat_penalty"),
    ("penalty_last_n", "repeat_last_n"),
    ("ignore_eos", "ignore_eos"),
    ("seed", "seed"),
];
/// The seed that asks for a random one (`LLAMA_DEFAULT_SEED`).
const RANDOM_SEED: u64 = u32::MAX as u64;

/// The request that a goal means. Its text is sent in order, so it is not written point by point.
fn request_of_goal(goal: &Value) -> RequestResult<String> {
    let is_there = |media: &Value| match media {
        Value::Array(all) => !all.is_empty(),
        one => one["data"].as_array().is_some_and(|data| !data.is_empty()),
    };
    for name in ["image", "images", "audios"] {
        if is_there(&goal[name]) {
            return Err(BadRequest::Media(name).into());
        }
    }
    for name in ["grammar_schema", "gramar_schema"] {
        let schema = &goal["sampling_config"][name];
        if schema.as_str().is_some_and(|schema| !schema.is_empty()) {
            return Err(BadRequest::Schema(name).into());
        }
    }
    let mut fields = Map::new();
    fields.insert("prompt".to_owned(), goal["prompt"].clone());
    fields.insert("outline".to_owned(), "off".into());
    if goal["stop"].as_array().is_some_and(|stop| !stop.is_empty()) {
        fields.insert("stop".to_owned(), goal["stop"].clone());
    }
    let config = &goal["sampling_config"];
    for (theirs, ours) in SAMPLING {
        let value = &config[theirs];
        let is_random = theirs == "seed" && value.as_u64() == Some(RANDOM_SEED);
        if !value.is_null() && !is_random {
            fields.insert(ours.to_owned(), value.clone());
        }
    }
    // A message with a list of them, whatever that is called.
    let biases = config["logit_bias"]
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::values);
    let biases = biases.filter_map(Value::as_array).flatten();
    let biases: Vec<Value> = biases
        .map(|bias| json!([bias["token"], bias["bias"]]))
        .collect();
    if !biases.is_empty() {
        fields.insert("logit_bias".to_owned(), biases.into());
    }
    let grammar = config["grammar"].as_str().unwrap_or_default();
    if !grammar.is_empty() {
        fields.insert("grammar".to_owned(), grammar.into());
    }
    Ok(Value::Object(fields).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::prompt::GenerateOptions;
    use crate::gateway::request::parse;

    #[test]
    fn a_goal_is_asked_in_the_words_of_requests() {
        let goal = json!({
            "prompt": "x", "stop": ["a"], "image": { "data": [] }, "reset": true,
            "sampling_config": {
                "temp": 0.5, "top_k": 3, "penalty_repeat": 1.5, "seed": RANDOM_SEED, "grammar": "g",
                "mirostat": 0, "logit_bias": { "data": [{ "token": 5, "bias": -1.5 }] },
            },
        });
        let request: Value = serde_json::from_str(&request_of_goal(&goal).unwrap()).unwrap();
        let expected = json!({
            "prompt": "x", "outline": "off", "stop": ["a"], "temperature": 0.5, "top_k": 3,
            "repeat_penalty": 1.5, "grammar": "g", "logit_bias": [[5, -1.5]],
        });
        assert_eq!(request, expected);
        let config = json!({
            "temp": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "penalty_repeat": 1.5,
            "penalty_last_n": 8, "ignore_eos": true, "seed": 3,
        });
        let goal = json!({ "prompt": "x", "sampling_config": config });
        let request = request_of_goal(&goal).unwrap();
        parse(request.as_bytes(), false, GenerateOptions::default()).unwrap();
        for goal in [
            json!({ "prompt": "x", "image": { "data": [1] } }),
            json!({ "prompt": "x", "images": [{ "data": [] }] }),
            json!({ "prompt": "x", "sampling_config": { "gramar_schema": "image" } }),
        ] {
            let error = request_of_goal(&goal).unwrap_err().to_string();
            let named = error.contains("image") || error.contains("gramar_schema");
            assert!(named && !error.contains('\n'), "{error}");
        }
    }
}
