//! The topics for robots on which nothing was built: `prompt` in, `tokens` and `answer` out, all of them
//! std_msgs/String, and the service `reset`.
//!
//! Prompts are answered one after the other, text or the JSON that zenoh's topics take. `tokens` has the
//! events of those topics with the number of the prompt (`request`) and of the piece (`index`); `answer`
//! has whole answers. Where prompts become messages (`--ros2-topic`), `answer` has the JSON of what was
//! published, or why nothing was. What is stopped, by `reset` or by a newer prompt (`--ros2-barge-in`), is
//! told as an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::desk::Desk;
use super::node::{Call, Node, Publisher};
use super::pieces::{IN_ORDER, Piece, Pieces};
use super::typed::{self, TypedTopics};
use super::wire::{Gid, Qos};
use crate::client::event::Event;
use crate::client::stream::StreamItem;
use crate::config::Ros2Config;
use crate::error::Result;
use crate::gateway::request::busy;
use crate::task::AbortOnDrop;

/// A text.
pub(super) const STRING: &str = "std_msgs/msg/String";

/// Most prompts that wait; more are refused.
const MAX_WAITING: usize = 16;

/// The topics, as long as it lives.
pub(super) struct Topics {
    task: AbortOnDrop,
    out: Arc<Out>,
}

impl Drop for Topics {
    fn drop(&mut self) {
        self.task.0.abort();
        if let Some(typed) = &self.out.typed {
            typed.close();
        }
    }
}

/// A prompt, and who published it.
struct Prompt {
    request: u64,
    text: String,
    client: Option<Gid>,
}

/// The last prompt that is stopped, with all before it, and why.
#[derive(Clone, Copy, Default)]
struct Stopped {
    request: u64,
    why: &'static str,
}

struct Out {
    tokens: Publisher,
    answer: Publisher,
    typed: Option<TypedTopics>,
}

/// What prompts come to.
struct Entrance {
    out: Arc<Out>,
    /// How many came.
    n_prompts: AtomicU64,
    prompts: mpsc::Sender<Prompt>,
    stops: watch::Sender<Stopped>,
    /// Whether a prompt stops those before it.
    barge_in: bool,
}

impl Topics {
    pub(super) fn serve(
        node: &mut Node,
        config: &Ros2Config,
        desk: Arc<Desk>,
        typed: Option<TypedTopics>,
    ) -> Result<Self> {
        let out = Arc::new(Out {
            tokens: node.publisher(&config.offered("tokens"), STRING, Qos::Plain)?,
            answer: node.publisher(&config.offered("answer"), STRING, Qos::Plain)?,
            typed,
        });
        let (prompts, waiting) = mpsc::channel(MAX_WAITING);
        let (stops, stopped) = watch::channel(Stopped::default());
        let entrance = Arc::new(Entrance {
            out: out.clone(),
            n_prompts: AtomicU64::new(0),
            prompts,
            stops,
            barge_in: config.barge_in,
        });
        let own = entrance.clone();
        let hear = move |message, client| own.hear(message, client);
        node.subscribe(&config.offered("prompt"), STRING, hear)?;
        let handle = tokio::runtime::Handle::current();
        let forget = move |call: Call| {
            entrance.reset();
            let message = "stopped what is being answered, and forgot what waits";
            let response = json!({ "success": true, "message": message });
            handle.spawn_blocking(move || call.answer(&response));
        };
        node.serve(&config.offered("reset"), "std_srvs/srv/Trigger", forget)?;
        let task = tokio::spawn(answer_all(out.clone(), desk, waiting, stopped));
        let task = AbortOnDrop(task);
        Ok(Self { task, out })
    }
}

impl Entrance {
    fn hear(&self, message: Result<Value, String>, client: Option<Gid>) {
        let request = self.n_prompts.fetch_add(1, Ordering::Relaxed) + 1;
        let message = match message {
            Ok(message) => message,
            // It is in the log already, once.
            Err(why) => return self.out.refuse(request, &why, None),
        };
        if self.barge_in {
            self.stop(request - 1, "stopped by a newer prompt");
        }
        let text = message["data"].as_str().unwrap_or_default().to_owned();
        let prompt = Prompt {
            request,
            text,
            client,
        };
        if self.prompts.try_send(prompt).is_err() {
            let busy = busy(MAX_WAITING, None);
            self.out
                .fail(request, &busy.to_string(), busy.retry_after_ms());
        }
    }

    fn reset(&self) {
        self.stop(self.n_prompts.load(Ordering::Relaxed), "stopped by reset");
        if let Some(typed) = &self.out.typed {
            typed.halt();
        }
    }

    fn stop(&self, request: u64, why: &'static str) {
        self.stops.send_if_modified(|stopped| {
            let is_new = request > stopped.request;
            if is_new {
                *stopped = Stopped { request, why };
            }
            is_new
        });
    }
}

async fn answer_all(
    out: Arc<Out>,
    desk: Arc<Desk>,
    mut waiting: mpsc::Receiver<Prompt>,
    mut stopped: watch::Receiver<Stopped>,
) {
    while let Some(prompt) = waiting.recv().await {
        let Prompt {
            request, client, ..
        } = prompt;
        let mut pieces = Pieces::default();
        let answered = async {
            let mut asked = desk.read(&prompt.text, true, client)?;
            if let Some(typed) = &out.typed {
                typed.plan().ask(&mut asked.0, &mut asked.1)?;
            }
            let tell = |piece: Piece| out.piece(request, piece);
            desk.answer(asked, &mut pieces, tell).await
        };
        let answered = tokio::select! {
            // What was stopped while it waited is not begun.
            biased;
            Ok(stopped) = stopped.wait_for(|stopped| stopped.request >= request) => {
                out.fail(request, stopped.why, None);
                continue;
            }
            answered = answered => answered,
        };
        match answered {
            Ok(done) => {
                let done = StreamItem::Done(done);
                out.event(request, &Event::from(&done), None);
                let text = match &out.typed {
                    Some(typed) => typed.publish(&pieces.text).to_string(),
                    None => pieces.text,
                };
                out.answer.publish(&json!({ "data": text }));
            }
            Err(error) => out.fail(request, &error.to_string(), error.retry_after_ms()),
        }
    }
}

impl Out {
    fn piece(&self, request: u64, piece: Piece) {
        if piece.branch == IN_ORDER {
            let text = &piece.text;
            self.event(request, &Event::Token { id: None, text }, Some(piece.index));
        }
    }

    /// There is no answer: `tokens` says why, and where a message is missing, `answer` too.
    fn fail(&self, request: u64, message: &str, retry_after_ms: Option<u64>) {
        tracing::warn!("prompt {request} of ROS 2 is not answered: {message}");
        self.refuse(request, message, retry_after_ms);
    }

    fn refuse(&self, request: u64, message: &str, retry_after_ms: Option<u64>) {
        let error = Event::Error {
            message,
            retry_after_ms,
        };
        self.event(request, &error, None);
        if self.typed.is_some() {
            let text = typed::nothing(message).to_string();
            self.answer.publish(&json!({ "data": text }));
        }
    }

    fn event(&self, request: u64, event: &Event<'_>, index: Option<u32>) {
        let mut event = serde_json::to_value(event).unwrap_or_default();
        event["request"] = request.into();
        if let Some(index) = index {
            event["index"] = index.into();
        }
        self.tokens.publish(&json!({ "data": event.to_string() }));
    }
}
