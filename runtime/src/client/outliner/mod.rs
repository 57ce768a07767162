//! Writes an answer point by point: first the outline, then all points side by side, joined in
//! order (Skeleton-of-Thought; Jupiter, section on outline-based parallel decoding).
//!
//! ```text
//! Plan (rules) -> suits (the default model's first words) -> points (outline, a request for each)
//!      \------------------\---------------------------------\-> the plain answer, in one piece
//! ```
//! All that is asked are requests like any others, parts of one answer: what they begin with is computed
//! once, and none of them waits behind others once one has begun.

mod evidence;
mod plan;
mod points;
mod suits;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::{Stream, StreamExt};
use jupiter_actors::request::{Completion, Deadline, DeadlineKind, RequestError};
use jupiter_models::text::ChatMessage;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub(crate) use self::evidence::{Evidence, Trial, Trials};
pub(crate) use self::plan::Plan;
use super::answer::{AnswerPiece, AnswerStream};
use super::planner_client::{PlannerClient, Whole};
use super::prompt::{GenerateOptions, Prompt};
use super::stream::StreamItem;
use super::usage::together;
use crate::config::OutlineConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::outline::{Asked, Begin, OutlinePrompts, Verdict};
use crate::task::AbortOnDrop;

/// How this cluster's model is asked for outlines.
pub(crate) struct OutlineSetup {
    pub(crate) config: OutlineConfig,
    pub(crate) prompts: OutlinePrompts,
    /// Whether that is the default model, which was taught few outlines.
    pub(crate) is_default_model: bool,
    /// Whether the stages are in several processes.
    pub(crate) is_spread: bool,
    /// What is known of other models.
    pub(crate) evidence: Evidence,
}

impl OutlineSetup {
    /// Why points side by side do not pay, whatever the question; none where they do.
    fn hindrance(&self) -> Option<&'static str> {
        match (self.is_default_model, self.is_spread) {
            (true, true) => None,
            // Guesses fill its stages there, as measured.
            (true, false) => Some("in one process the default model is faster in one piece"),
            (false, _) => self.evidence.hindrance(),
        }
    }
}

/// An answer that is being written.
pub(crate) struct Outlined {
    items: UnboundedReceiver<Result<StreamItem>>,
    ended: bool,
    _writing: AbortOnDrop,
}

impl Stream for Outlined {
    type Item = Result<StreamItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = ready!(this.items.poll_recv(context)).unwrap_or(Err(Error::Stopped));
        this.ended = matches!(item, Err(_) | Ok(StreamItem::Done(_)));
        Poll::Ready(Some(item))
    }
}

/// Writes one answer.
pub(crate) struct Outliner {
    planner: PlannerClient,
    setup: Arc<OutlineSetup>,
    chat: Vec<ChatMessage>,
    options: GenerateOptions,
    plan: Plan,
    /// What all requests for it are parts of.
    whole: Whole,
    /// What was asked on the way took.
    took: Option<Completion>,
    begun: Instant,
    /// When the first token of outline or answer came.
    first: Option<Instant>,
    /// Whether anything of the answer's text was handed on.
    has_shown: bool,
    /// What was shown of the answer while its outline was being written.
    begin: Begin,
    /// Points that are written side by side.
    n_points: usize,
}

/// Where the parts of the answer go; bounded in fact by the tokens that fit the context.
type Items = UnboundedSender<Result<StreamItem>>;

impl Outliner {
    pub(crate) fn new(
        planner: PlannerClient,
        setup: Arc<OutlineSetup>,
        chat: Vec<ChatMessage>,
        mut options: GenerateOptions,
        plan: Plan,
    ) -> Self {
        options.sampling.fix_seed();
        let whole = planner.begin_whole();
        Self {
            planner,
            setup,
            chat,
            options,
            plan,
            whole,
            took: None,
            begun: Instant::now(),
            first: None,
            has_shown: false,
            begin: Begin::default(),
            n_points: 0,
        }
    }

    /// Begins to write, beside the caller.
    pub(crate) fn start(mut self) -> Outlined {
        let (sink, items) = mpsc::unbounded_channel();
        let writing = tokio::spawn(async move {
            let done = self.write(&sink).await;
            // Who asked may have gone.
            let _ = sink.send(done.map(StreamItem::Done));
        });
        Outlined {
            items,
            ended: false,
            _writing: AbortOnDrop(writing),
        }
    }

    async fn write(&mut self, items: &Items) -> Result<Completion> {
        let done = match self.write_outlined(items).await {
            Ok(Some(done)) => done,
            Ok(None) => self.write_plainly(items).await?,
            // In one piece the question may fit, or suit the template.
            Err(error) if error.kind() == ErrorKind::Invalid && !self.has_shown => {
                self.n_points = 0;
                self.plan.give_up(&error.to_string());
                self.write_plainly(items).await?
            }
            Err(error) => return Err(error),
        };
        Ok(self.conclude(done))
    }

    /// None when the answer is to be written in one piece.
    async fn write_outlined(&mut self, items: &Items) -> Result<Option<Completion>> {
        if self.setup.is_default_model
            && !self.plan.is_asked_for
            && let Some(done) = self.begin_plainly(items).await?
        {
            return Ok(Some(done));
        }
        if self.plan.verdict != Verdict::Outline {
            return Ok(None);
        }
        self.write_points(items).await
    }

    async fn write_plainly(&mut self, items: &Items) -> Result<Completion> {
        let Begin { shown, begun } = std::mem::take(&mut self.begin);
        let chat = self.chat.clone();
        let asked = Asked { chat, begun };
        let prompt = self.planner.tokenize_begun(&asked).await?;
        let prompt = Prompt::Tokens(prompt.unwrap_or_default());
        let answer = self.ask(prompt, self.options.clone()).await?;
        if !shown.is_empty() && !shown.ends_with(' ') {
            let text = ":".to_owned();
            send(items, StreamItem::Token { id: None, text });
        }
        self.go_on(answer, shown.ends_with(' '), items).await
    }

    /// Hands on an answer in one piece, without space at its beginning where one `has_space` before it.
    async fn go_on(
        &mut self,
        mut answer: AnswerStream,
        mut has_space: bool,
        items: &Items,
    ) -> Result<Completion> {
        while let Some(part) = answer.next().await {
            match part? {
                AnswerPiece::Text { id, mut text } => {
                    if has_space {
                        text = text.trim_start().to_owned();
                        has_space = text.is_empty();
                    }
                    self.first_token();
                    self.has_shown = true;
                    send(items, StreamItem::Token { id, text });
                }
                AnswerPiece::Thought { id, text } => {
                    self.first_token();
                    self.has_shown = true;
                    send(items, StreamItem::Thought { id, text });
                }
                AnswerPiece::Done(done) => return Ok(done),
            }
        }
        Err(Error::Stopped)
    }

    /// Asks for what is a part of the answer, by itself.
    async fn ask(&mut self, prompt: Prompt, options: GenerateOptions) -> Result<AnswerStream> {
        let options = self.in_time(options)?;
        self.planner
            .answer(prompt, options, Some(self.whole.id()))
            .await
    }

    /// With what is left of the deadline, which counts from the beginning.
    ///
    /// # Errors
    /// When nothing is.
    fn in_time(&self, mut options: GenerateOptions) -> Result<GenerateOptions> {
        let Some(Deadline { kind, within }) = options.deadline else {
            return Ok(options);
        };
        if kind == DeadlineKind::FirstToken && self.has_shown {
            options.deadline = None;
            return Ok(options);
        }
        let left = within.checked_sub(self.begun.elapsed());
        let left = left.filter(|left| !left.is_zero());
        let within = left.ok_or(RequestError::DeadlineMissed { kind, within })?;
        options.deadline = Some(Deadline { kind, within });
        Ok(options)
    }

    /// For what is asked on the way to the answer.
    fn inner(&self) -> GenerateOptions {
        GenerateOptions {
            stop: Vec::new(),
            ..self.options.clone()
        }
    }

    fn first_token(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// Counts what an answer on the way took; its tokens are none of the answer's.
    fn count(&mut self, done: Completion) {
        let done = Completion { n_eval: 0, ..done };
        self.took = Some(match self.took.take() {
            Some(took) => together(took, &done),
            None => done,
        });
    }

    /// What all of it took together, as the client saw it.
    fn conclude(&mut self, done: Completion) -> Completion {
        let ms = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
        let (first, now) = (self.first.unwrap_or(self.begun), Instant::now());
        let all = match self.took.take() {
            Some(took) => together(done, &took),
            None => done,
        };
        Completion {
            prompt_ms: ms(self.begun, first),
            eval_ms: ms(first, now),
            outline: Some(self.plan.conclude(self.n_points)),
            ..all
        }
    }
}

/// Who asked may have gone: then this is dropped soon.
fn send(items: &Items, item: StreamItem) {
    let _ = items.send(Ok(item));
}
