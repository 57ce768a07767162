//! What public clients send, and the events that they get: JSON.

use jupiter_actors::request::RequestError;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::ChatMessage;
use serde::{Deserialize, Serialize};

use crate::client::event::Event;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::config::OutlineMode;
use crate::error::{BadRequest, Result};
use crate::named_fields;
use crate::text_file;

/// Longest request: more text than any context holds.
pub(super) const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What is longer.
pub(super) const TOO_LONG: BadRequest = BadRequest::TooLong {
    max_bytes: MAX_REQUEST_BYTES,
};

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
    stop: Option<Vec<String>>,
    ignore_eos: Option<bool>,
    /// Point by point: `auto`, `on` or `off`.
    outline: Option<OutlineMode>,
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
    };
    sampling.validate()?;
    Ok(GenerateOptions {
        n_predict,
        sampling,
        stop,
        ignore_eos: request.ignore_eos.unwrap_or(default.ignore_eos),
        outline: request.outline.or(default.outline),
        ..default
    })
}

/// The event of a part of an answer.
pub(super) fn item_event(item: &StreamItem) -> Vec<u8> {
    to_json(&Event::from(item))
}

/// The event of an answer that does not come, or not to its end.
pub(super) fn error_event(message: &str) -> Vec<u8> {
    to_json(&Event::Error { message })
}

/// These types hold nothing that JSON cannot say.
fn to_json(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(payload: &[u8], plain: bool) -> Result<(Prompt, GenerateOptions)> {
        super::parse(payload, plain, GenerateOptions::default())
    }

    #[test]
    fn what_is_left_open_is_as_the_model_wants_it() {
        let greedy = || GenerateOptions {
            sampling: SamplingParams::greedy(),
            ..GenerateOptions::default()
        };
        let temperature = |payload: &[u8]| {
            let (_, options) = super::parse(payload, true, greedy()).unwrap();
            options.sampling.temperature
        };
        assert_eq!(temperature(b"Hello"), 0.0);
        assert_eq!(temperature(br#"{"prompt":"x","top_k":3}"#), 0.0);
        assert_eq!(temperature(br#"{"prompt":"x","temperature":0.5}"#), 0.5);
    }

    #[test]
    fn a_string_on_a_topic_is_the_prompt_itself() {
        assert_eq!(parse(b"Hello?", true).unwrap().0, Prompt::text("Hello?"));
        assert_eq!(
            parse(b"[1] first", true).unwrap().0,
            Prompt::text("[1] first")
        );
        assert_eq!(
            parse(br#"{"prompt":"x"}"#, true).unwrap().0,
            Prompt::text("x")
        );
        assert!(parse(b"Hello?", false).is_err());
    }

    #[test]
    fn all_that_may_be_said_is_heard() {
        let (prompt, options) = parse(
            br#"{"prompt":"x","raw":true,"n_predict":7,"temperature":0,"top_k":1,"top_p":0.5,
                "min_p":0.1,"repeat_penalty":1.1,"repeat_last_n":-1,"seed":3,"grammar":"g",
                "stop":["a"],"ignore_eos":true}"#,
            false,
        )
        .unwrap();
        assert_eq!(prompt, Prompt::raw("x"));
        let sampling = SamplingParams {
            temperature: 0.0,
            top_k: 1,
            top_p: 0.5,
            min_p: 0.1,
            repeat_penalty: 1.1,
            repeat_last_n: -1,
            seed: 3,
            grammar: Some("g".into()),
        };
        let stop = vec!["a".to_owned()];
        let expected = GenerateOptions {
            n_predict: Some(7),
            sampling,
            stop,
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        assert_eq!(options, expected);
        let payload = br#"{"prompt":"x","raw":true,"special":true}"#;
        assert_eq!(parse(payload, false).unwrap().0, Prompt::special("x"));
        let (chat, _) = parse(
            br#"{"messages":[{"role":"user","content":"x"}],"n_predict":-1}"#,
            false,
        )
        .unwrap();
        assert_eq!(chat, Prompt::text("x"));
    }

    #[test]
    fn null_is_what_is_not_given() {
        let open = parse(br#"{"prompt":"x"}"#, false).unwrap();
        let fields = [
            "messages",
            "raw",
            "special",
            "n_predict",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repeat_penalty",
            "repeat_last_n",
            "seed",
            "grammar",
            "stop",
            "ignore_eos",
            "outline",
        ];
        let nulls: String = fields.map(|field| format!(r#","{field}":null"#)).concat();
        let request = format!(r#"{{"prompt":"x"{nulls}}}"#);
        assert_eq!(parse(request.as_bytes(), false).unwrap(), open);
        let chat = br#"{"prompt":null,"messages":[{"role":"user","content":"x"}]}"#;
        assert_eq!(parse(chat, false).unwrap(), open);
    }

    #[test]
    fn the_field_of_a_wrong_type_is_named() {
        for (field, wrong) in [
            ("prompt", "7"),
            ("messages", "\"x\""),
            ("raw", "1"),
            ("special", "\"yes\""),
            ("n_predict", "2.5"),
            ("temperature", "\"hot\""),
            ("top_k", "[]"),
            ("top_p", "{}"),
            ("min_p", "true"),
            ("repeat_penalty", "\"1\""),
            ("repeat_last_n", "9999999999"),
            ("seed", "\"3\""),
            ("grammar", "0"),
            ("stop", "\"x\""),
            ("stop[1]", "[\"a\",7]"),
            ("ignore_eos", "\"yes\""),
            ("outline", "\"sometimes\""),
            (
                "messages[1].role",
                r#"[{"role":"user","content":"x"},{"role":null,"content":""}]"#,
            ),
            (
                "messages[0].content",
                r#"[{"role":"user","content":["x"]}]"#,
            ),
            (
                "messages[0].contents",
                r#"[{"role":"user","contents":"x"}]"#,
            ),
        ] {
            let key = field.split('[').next().unwrap();
            let request = format!(r#"{{"{key}":{wrong}}}"#);
            let error = parse(request.as_bytes(), false).unwrap_err().to_string();
            let named = format!("expected: {field}: ");
            assert!(error.contains(&named) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_request() {
        let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
        let plain = parse(&marked("Hello?"), true).unwrap().0;
        assert_eq!(plain, Prompt::text("Hello?"));
        let json = parse(&marked(r#"{"prompt":"x"}"#), true).unwrap().0;
        assert_eq!(json, Prompt::text("x"));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let too_long = vec![b'a'; MAX_REQUEST_BYTES + 1];
        let many_stops = format!(r#"{{"prompt":"x","stop":{:?}}}"#, vec!["a"; 17]);
        let cases: [(&[u8], &str); 16] = [
            (b"", "empty"),
            (b"  \n", "empty"),
            (&too_long, "1048576"),
            (b"\xff", "UTF-8"),
            (b"\xff\xfeH\0i\0", "UTF-16"),
            (b"{\"prompt\":", "EOF"),
            (br#"{"promt":"x"}"#, "promt"),
            (br#"{}"#, "missing"),
            (br#"{"prompt":""}"#, "empty"),
            (br#"{"messages":[]}"#, "empty"),
            (br#"{"prompt":"x","messages":[]}"#, "both"),
            (br#"{"prompt":"x","special":true}"#, "raw"),
            (br#"{"prompt":"x","n_predict":0}"#, "n_predict"),
            (br#"{"prompt":"x","seed":-2}"#, "seed"),
            (br#"{"prompt":"x","top_p":2}"#, "top_p"),
            (many_stops.as_bytes(), "stop"),
        ];
        for (payload, expected) in cases {
            let error = parse(payload, true).unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains('\n'),
                "{expected}: {error}"
            );
        }
    }
}
