//! What public clients send, and the events that they get: JSON.

use std::time::Duration;

use jupiter_actors::request::{Deadline, DeadlineKind, Priority, RequestError};
use jupiter_models::Token;
use jupiter_models::sampling::{Biased, LogitBias, SamplingParams};
use jupiter_models::text::ChatMessage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::event::Event;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::config::OutlineMode;
use crate::error::{BadRequest, Error, Result};
use crate::named_fields;
use crate::text_file;

/// Longest request: more text than any context holds.
pub(super) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What is longer.
pub(super) const TOO_LONG: BadRequest = BadRequest::TooLong {
    max_bytes: MAX_REQUEST_BYTES,
};

/// When one who is refused here may come again where nothing was measured, and at the soonest and the latest:
/// room is made by each answer that ends.
const RETRY: Duration = Duration::from_secs(1);
const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(600);

/// Most biases: each draw walks over them.
const MAX_BIASES: usize = 256;

/// Most stop strings, and the longest of them in bytes: each token is compared with all of them.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// A request; the names are those of llama.cpp's server. What is not given, or null, is as the head
/// is configured.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Request {
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    /// Continues `prompt` as it is, without the chat template.
    raw: Option<bool>,
    /// Reads the names of control tokens in a raw prompt as these tokens.
    special: Option<bool>,
    /// -1 for as many as there are free cells for.
    n_predict: Option<i64>,
    temperature: Option<f32>,
    top_k: Option<i32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repeat_penalty: Option<f32>,
    repeat_last_n: Option<i32>,
    /// -1 for another one each time.
    seed: Option<i64>,
    grammar: Option<String>,
    /// What is added to logits: `[[token or text, number or false], ..]`.
    logit_bias: Option<Value>,
    stop: Option<Vec<String>>,
    ignore_eos: Option<bool>,
    /// Point by point: `auto`, `on` or `off`.
    outline: Option<OutlineMode>,
    /// 0, the most urgent, to 7.
    priority: Option<i64>,
    /// Until when it is of use, from now.
    deadline_ms: Option<i64>,
    /// What has to be there by then: `answer` or `first_token`.
    deadline: Option<DeadlineKind>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: String,
}

/// Reads a request; what it leaves open is as in `default`. Where `plain` is allowed, what is no
/// JSON object is the prompt itself.
///
/// # Errors
/// In one line, for the client: what is wrong.
pub(crate) fn parse(
    payload: &[u8],
    plain: bool,
    default: GenerateOptions,
) -> Result<(Prompt, GenerateOptions)> {
    if payload.len() > MAX_REQUEST_BYTES {
        return Err(TOO_LONG.into());
    }
    let text = text_file::decode(payload).map_err(|what| BadRequest::NotText(what.to_string()))?;
    if text.trim().is_empty() {
        return Err(RequestError::EmptyPrompt.into());
    }
    if plain && !text.trim_start().starts_with('{') {
        return Ok((Prompt::text(text), default));
    }
    let request: Request = named_fields::from_json(text).map_err(BadRequest::Fields)?;
    let prompt = prompt(&request)?;
    Ok((prompt, options(request, default)?))
}

fn prompt(request: &Request) -> Result<Prompt> {
    let is_raw = request.raw.unwrap_or(false);
    let is_special = request.special.unwrap_or(false);
    if is_special && !is_raw {
        return Err(BadRequest::SpecialChat.into());
    }
    let prompt = match (&request.prompt, &request.messages) {
        (Some(text), None) if is_special => Prompt::special(text),
        (Some(text), None) if is_raw => Prompt::raw(text),
        (Some(text), None) => Prompt::text(text),
        (None, Some(messages)) if !is_raw => {
            let message = |m: &Message| ChatMessage {
                role: m.role.clone(),
                content: m.content.clone(),
            };
            Prompt::chat(messages.iter().map(message).collect::<Vec<_>>())
        }
        (None, Some(_)) => return Err(BadRequest::RawMessages.into()),
        (Some(_), Some(_)) => return Err(BadRequest::TwoPrompts.into()),
        (None, None) => return Err(BadRequest::NoPrompt.into()),
    };
    if prompt.is_empty() {
        return Err(RequestError::EmptyPrompt.into());
    }
    Ok(prompt)
}

fn options(request: Request, default: GenerateOptions) -> Result<GenerateOptions> {
    let n_predict = match request.n_predict {
        None | Some(-1) => None,
        Some(n) => match u32::try_from(n) {
            Ok(n) if n > 0 => Some(n),
            _ => return Err(BadRequest::NPredict(n).into()),
        },
    };
    let seed = match request.seed {
        None | Some(-1) => SamplingParams::RANDOM_SEED,
        Some(seed) => u32::try_from(seed).map_err(|_| BadRequest::Seed(seed))?,
    };
    let stop = request.stop.unwrap_or_default();
    if stop.len() > MAX_STOPS || stop.iter().any(|s| s.len() > MAX_STOP_BYTES) {
        let (n_max, max_bytes) = (MAX_STOPS, MAX_STOP_BYTES);
        return Err(BadRequest::Stop { n_max, max_bytes }.into());
    }
    let sampled = default.sampling;
    let sampling = SamplingParams {
        temperature: request.temperature.unwrap_or(sampled.temperature),
        top_k: request.top_k.unwrap_or(sampled.top_k),
        top_p: request.top_p.unwrap_or(sampled.top_p),
        min_p: request.min_p.unwrap_or(sampled.min_p),
        repeat_penalty: request.repeat_penalty.unwrap_or(sampled.repeat_penalty),
        repeat_last_n: request.repeat_last_n.unwrap_or(sampled.repeat_last_n),
        seed,
        grammar: request.grammar,
        logit_bias: match request.logit_bias {
            Some(said) => biases(&said).ok_or(BadRequest::LogitBias(MAX_BIASES))?,
            None => sampled.logit_bias,
        },
    };
    sampling.validate()?;
    let deadline = match (request.deadline_ms, request.deadline) {
        (Some(ms), kind) => Some(Deadline::new(kind.unwrap_or_default(), ms)?),
        (None, Some(_)) => return Err(BadRequest::DeadlineWithoutTime.into()),
        (None, None) => default.deadline,
    };
    let priority = request.priority.map(Priority::try_from).transpose()?;
    Ok(GenerateOptions {
        n_predict,
        sampling,
        stop,
        ignore_eos: request.ignore_eos.unwrap_or(default.ignore_eos),
        outline: request.outline.or(default.outline),
        priority: priority.unwrap_or(default.priority),
        deadline,
        ..default
    })
}

/// As llama.cpp's server takes them: `[[token or text, bias], ..]` or `{"token": bias, ..}`; `false` forbids.
fn biases(said: &Value) -> Option<Vec<LogitBias>> {
    let token = |token: i64| Token::try_from(token).ok().map(Biased::Token);
    let of = |said: &Value| match said {
        Value::String(text) => Some(Biased::Text(text.clone())),
        said => said.as_i64().and_then(token),
    };
    let bias = |said: &Value| match said {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        said => said
            .as_f64()
            .map(|bias| bias as f32)
            .filter(|bias| bias.is_finite()),
    };
    let entry = |of: Option<Biased>, said: &Value| {
        let (of, bias) = of.zip(bias(said))?;
        Some(LogitBias { of, bias })
    };
    let biases: Option<Vec<LogitBias>> = match said {
        Value::Array(all) => all
            .iter()
            .map(|pair| match pair.as_array()?.as_slice() {
                [said, bias] => entry(of(said), bias),
                _ => None,
            })
            .collect(),
        Value::Object(all) => all
            .iter()
            .map(|(name, bias)| {
                let named = name.parse().ok().and_then(token);
                entry(named.or_else(|| Some(Biased::Text(name.clone()))), bias)
            })
            .collect(),
        _ => None,
    };
    biases.filter(|biases| biases.len() <= MAX_BIASES)
}

/// So many wait already, of requests that do not come as far as the Planner; when there will be room, where
/// that was measured.
pub(crate) fn busy(waiting: usize, room_after: Option<Duration>) -> Error {
    let after = room_after.unwrap_or(RETRY).clamp(MIN_RETRY, MAX_RETRY);
    let busy = RequestError::Busy {
        waiting,
        retry_after_ms: after.as_millis() as u64,
    };
    busy.into()
}

/// The event of a part of an answer.
pub(super) fn item_event(item: &StreamItem) -> Vec<u8> {
    to_json(&Event::from(item))
}

/// The event of an answer that does not come, or not to its end.
pub(super) fn refusal_event(refusal: &Refusal) -> Vec<u8> {
    to_json(&Event::Error {
        message: &refusal.message,
        retry_after_ms: refusal.retry_after_ms,
    })
}

/// What a client is told instead of an answer, or of the rest of it.
pub(super) struct Refusal {
    message: String,
    retry_after_ms: Option<u64>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            message: error.to_string(),
            retry_after_ms: error.retry_after_ms(),
        }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        let retry_after_ms = None;
        Self {
            message,
            retry_after_ms,
        }
    }
}

/// These types hold nothing that JSON cannot say.
fn to_json(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).unwrap_or_default()
}

#[cfg(test)]
mod tests;
