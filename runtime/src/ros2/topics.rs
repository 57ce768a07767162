//! The topics for robots on which nothing was built: `prompt` in, `tokens` and `answer` out, all of them
//! std_msgs/String, and the service `reset`.
//!
//! Prompts are answered one after the other, text or the JSON that zenoh's topics take. `tokens` has the
//! events of those topics with the number of the prompt (`request`) and of the piece (`index`); `answer`
//! has whole answers. Where prompts become messages (`--ros2-topic`), `answer` has the JSON of what was
//! published, or why nothing was.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::desk::Desk;
use super::node::{Call, Node, Publisher};
use super::pieces::{IN_ORDER, Piece, Pieces};
use super::typed::{self, TypedTopics};
use super::wire::Qos;
use crate::client::event::Event;
use crate::client::stream::StreamItem;
use crate::config::Ros2Name;
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

/// A prompt, and how often was reset when it came.
struct Prompt {
    request: u64,
    text: String,
    n_resets: u64,
}

struct Out {
    tokens: Publisher,
    answer: Publisher,
    typed: Option<TypedTopics>,
}

impl Topics {
    pub(super) fn serve(
        node: &mut Node,
        name: &Ros2Name,
        desk: Arc<Desk>,
        typed: Option<TypedTopics>,
    ) -> Result<Self> {
        let out = Arc::new(Out {
            tokens: node.publisher(&name.relative("tokens"), STRING, Qos::Plain)?,
            answer: node.publisher(&name.relative("answer"), STRING, Qos::Plain)?,
            typed,
        });
        let (prompts, waiting) = mpsc::channel(MAX_WAITING);
        let (reset, resets) = watch::channel(0_u64);
        let n_prompts = std::sync::atomic::AtomicU64::new(0);
        let heard = {
            let (out, resets) = (out.clone(), resets.clone());
            move |message: Value| {
                let request = n_prompts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                let text = message["data"].as_str().unwrap_or_default().to_owned();
                let n_resets = *resets.borrow();
                let prompt = Prompt {
                    request,
                    text,
                    n_resets,
                };
                if prompts.try_send(prompt).is_err() {
                    let busy = busy(MAX_WAITING);
                    out.fail(request, &busy.to_string(), busy.retry_after_ms());
                }
            }
        };
        node.subscribe(&name.relative("prompt"), STRING, heard)?;
        let handle = tokio::runtime::Handle::current();
        let own = out.clone();
        let forget = move |call: Call| {
            reset.send_modify(|n| *n += 1);
            if let Some(typed) = &own.typed {
                typed.halt();
            }
            let message = "stopped what is being answered, and forgot what waits";
            let response = json!({ "success": true, "message": message });
            handle.spawn_blocking(move || call.answer(&response));
        };
        node.serve(&name.relative("reset"), "std_srvs/srv/Trigger", forget)?;
        let task = tokio::spawn(answer_all(out.clone(), desk, waiting, resets));
        let task = AbortOnDrop(task);
        Ok(Self { task, out })
    }
}

async fn answer_all(
    out: Arc<Out>,
    desk: Arc<Desk>,
    mut waiting: mpsc::Receiver<Prompt>,
    mut resets: watch::Receiver<u64>,
) {
    while let Some(prompt) = waiting.recv().await {
        if prompt.n_resets != *resets.borrow_and_update() {
            continue;
        }
        let mut pieces = Pieces::default();
        let answered = async {
            let mut asked = desk.read(&prompt.text, true)?;
            if let Some(typed) = &out.typed {
                typed.plan().ask(&mut asked.0, &mut asked.1)?;
            }
            let tell = |piece: Piece| out.piece(prompt.request, piece);
            desk.answer(asked, &mut pieces, tell).await
        };
        let answered = tokio::select! {
            answered = answered => answered,
            Ok(()) = resets.changed() => {
                out.fail(prompt.request, "stopped by reset", None);
                continue;
            }
        };
        match answered {
            Ok(done) => {
                let done = StreamItem::Done(done);
                out.event(prompt.request, &Event::from(&done), None);
                let text = match &out.typed {
                    Some(typed) => typed.publish(&pieces.text).to_string(),
                    None => pieces.text,
                };
                out.answer.publish(&json!({ "data": text }));
            }
            Err(error) => {
                out.fail(prompt.request, &error.to_string(), error.retry_after_ms());
            }
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
