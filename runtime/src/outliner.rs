//! Writes an answer point by point: first the outline, then all points side by side, joined in
//! order (Skeleton-of-Thought; Jupiter, section on outline-based parallel decoding).
//!
//! ```text
//! route -> (judgement) -> outline -> branches, one for each point -> text in order
//!                            \-> no outline: the plain answer, from the cells of the question
//! ```
//!
//! The default model cannot judge. Of it the plain answer is begun, and goes on unless its beginning
//! is that of a long one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use jupiter_actors::request::{Completion, FinishReason, OutlineUsage, RequestError};
use jupiter_models::text::ChatMessage;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::branches::{BranchItem, after};
use crate::client::Client;
use crate::config::{OutlineConfig, OutlineMode};
use crate::error::{Error, Result};
use crate::membership::head::AbortOnDrop;
use crate::outline::{
    BranchEnd, BranchEvent, Class, Decision, JUDGEMENT_GRAMMAR, JoinForm, Joiner, NotAnOutline,
    Outline, OutlineParser, OutlinePrompts, Progress, Verdict, decide, is_long,
};
use crate::prompt::{GenerateOptions, Prompt};
use crate::stream::{AnswerStream, Part, StreamItem};

/// Most tokens of an outline: ten points with a few words about each. A model that has not come to
/// its end by then answers already.
const OUTLINE_TOKENS: u32 = 256;
/// An answer that may have no more tokens than this is written in one piece: after the outline there
/// would be hardly any left.
const FEW_TOKENS: u32 = 64;

/// How this cluster's model is asked for outlines.
pub(crate) struct OutlineSetup {
    pub(crate) config: OutlineConfig,
    pub(crate) prompts: OutlinePrompts,
}

/// How an answer is to be written, and why.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) verdict: Verdict,
    class: Class,
    reason: String,
    /// Whether an outline was asked for, whatever the question.
    is_asked_for: bool,
}

impl Plan {
    /// What is decided of a prompt without asking the model; none where outlines are off.
    pub(crate) fn new(
        setup: &OutlineSetup,
        prompt: &Prompt,
        options: &GenerateOptions,
    ) -> Option<Self> {
        let mode = options.outline.unwrap_or(setup.config.mode);
        if mode == OutlineMode::Off {
            return None;
        }
        let Prompt::Chat(chat) = prompt else {
            return (mode == OutlineMode::On).then(|| Self::plain("it is no chat"));
        };
        let is_on = mode == OutlineMode::On;
        let hindrance = match chat.last() {
            Some(last) if last.role != "user" => Some("the last turn is not the user's"),
            _ if options.sampling.grammar.is_some() => Some("a grammar says what is written"),
            _ if options.ignore_eos => Some("it has to go on to its last token"),
            _ if options.n_predict.is_some_and(|n| n <= FEW_TOKENS) => {
                Some("few tokens are wanted")
            }
            _ if !is_on && !options.stop.is_empty() => Some("stop strings say where it ends"),
            _ => None,
        };
        let question = chat.last().map_or("", |last| last.content.as_str());
        let plan = match hindrance {
            Some(why) => Self::plain(why),
            None => Self::from(decide(question)),
        };
        let plan = match plan.verdict {
            Verdict::Plain | Verdict::Undecided if is_on && hindrance.is_none() => Self {
                verdict: Verdict::Outline,
                reason: "asked for (--outline on)".to_owned(),
                ..plan
            },
            _ => plan,
        };
        Some(Self {
            is_asked_for: is_on,
            ..plan
        })
    }

    fn plain(why: &str) -> Self {
        Self {
            verdict: Verdict::Plain,
            class: Class::Unclear,
            reason: why.to_owned(),
            is_asked_for: false,
        }
    }

    /// What is told of it at the end of an answer of so many points.
    pub(crate) fn usage(&self, n_points: usize) -> OutlineUsage {
        let reason = self.reason.clone();
        let class = self.class.to_string();
        tracing::info!(n_points, class, reason, "outline");
        OutlineUsage {
            n_points: n_points as u32,
            class,
            reason,
        }
    }

    /// The answer is written in one piece after all.
    fn give_up(&mut self, why: &str) {
        self.verdict = Verdict::Plain;
        self.add(why);
    }

    fn add(&mut self, why: &str) {
        self.reason = format!("{}; {why}", self.reason);
    }
}

impl From<Decision> for Plan {
    fn from(decision: Decision) -> Self {
        Self {
            verdict: decision.verdict,
            class: decision.class,
            reason: decision.reason,
            is_asked_for: false,
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
    client: Client,
    chat: Vec<ChatMessage>,
    options: GenerateOptions,
    plan: Plan,
}

/// Where the parts of the answer go; bounded in fact by the tokens that fit the context.
type Items = UnboundedSender<Result<StreamItem>>;

/// An outline, and what the model wrote for it.
struct Written {
    asked: Vec<ChatMessage>,
    outline: Outline,
    text: String,
    done: Completion,
}

impl Outliner {
    pub(crate) fn new(
        client: Client,
        chat: Vec<ChatMessage>,
        mut options: GenerateOptions,
        plan: Plan,
    ) -> Self {
        options.sampling.fix_seed();
        Self {
            client,
            chat,
            options,
            plan,
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
        if self.plan.verdict == Verdict::Undecided {
            self.judge().await?;
        } else if self.client.is_default_model() && !self.plan.is_asked_for {
            self.check_teaching();
            if self.plan.verdict == Verdict::Outline
                && let Some(done) = self.begin_plainly(items).await?
            {
                return Ok(done);
            }
        }
        if self.plan.verdict != Verdict::Outline {
            return self.write_plainly(items).await;
        }
        match self.write_outline(items).await {
            Ok(Ok(written)) => self.write_points(written, items).await,
            Ok(Err(why)) => {
                self.plan.add(&why.to_string());
                self.write_plainly(items).await
            }
            // Without the outline's words it may fit.
            Err(Error::Request(RequestError::PromptTooLong { .. })) => {
                self.plan.add("the context is too short for an outline");
                self.write_plainly(items).await
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the model itself whether the question suits: one token.
    async fn judge(&mut self) -> Result<()> {
        self.plan.verdict = Verdict::Plain;
        let prompts = &self.client.outline().prompts;
        let Ok(Some(chat)) = prompts.ask_judgement(&self.chat) else {
            self.plan.add("this model is not asked");
            return Ok(());
        };
        let mut options = self.inner();
        options.n_predict = Some(1);
        options.sampling.grammar = Some(JUDGEMENT_GRAMMAR.to_owned());
        let mut answer = self.client.answer(&Prompt::Chat(chat), options).await?;
        let mut said = String::new();
        while let Some(part) = answer.next().await {
            if let Part::Text { text, .. } = part? {
                said.push_str(&text);
            }
        }
        let suits = said.trim_start().starts_with(['y', 'Y']);
        self.plan.add(match suits {
            true => "the model says that it suits",
            false => "the model says that it does not suit",
        });
        if suits {
            self.plan.verdict = Verdict::Outline;
        }
        Ok(())
    }

    /// Gives up what the default model was not taught: outlines of comparisons, and such behind
    /// other turns.
    fn check_teaching(&mut self) {
        let turns = self.chat.iter().filter(|turn| turn.role == "user");
        if self.plan.class == Class::Comparison {
            self.plan
                .give_up("the default model outlines no comparisons");
        } else if turns.count() > 1 {
            self.plan
                .give_up("the default model outlines first turns only");
        }
    }

    /// Begins the plain answer, and goes on with it if it is short. None: it is long, and was
    /// dropped.
    async fn begin_plainly(&mut self, items: &Items) -> Result<Option<Completion>> {
        let mut answer = self.plain_answer().await?;
        let mut said = String::new();
        let mut held = Vec::new();
        let done = loop {
            match answer.next().await.ok_or(Error::Stopped)?? {
                Part::Text { id, text } => {
                    said.push_str(&text);
                    held.push(StreamItem::Token { id, text });
                }
                Part::Done(done) => break Some(done),
            }
            match is_long(&said) {
                Some(true) => {
                    self.plan.add("the answer begins as a long one");
                    answer.finish();
                    // To its end, so that the cells of the question are there for the outline.
                    while answer.next().await.transpose()?.is_some() {}
                    return Ok(None);
                }
                Some(false) => break None,
                None => {}
            }
        };
        self.plan
            .give_up("the answer is short, or has a form of its own");
        for item in held {
            send(items, item);
        }
        match done {
            Some(done) => Ok(Some(self.plain_end(done))),
            None => self.go_on(answer, items).await.map(Some),
        }
    }

    /// The answer in one piece.
    async fn write_plainly(&self, items: &Items) -> Result<Completion> {
        let answer = self.plain_answer().await?;
        self.go_on(answer, items).await
    }

    async fn plain_answer(&self) -> Result<AnswerStream> {
        let prompt = Prompt::Chat(self.chat.clone());
        self.client.answer(&prompt, self.options.clone()).await
    }

    async fn go_on(&self, mut answer: AnswerStream, items: &Items) -> Result<Completion> {
        while let Some(part) = answer.next().await {
            match part? {
                Part::Text { id, text } => send(items, StreamItem::Token { id, text }),
                Part::Done(done) => return Ok(self.plain_end(done)),
            }
        }
        Err(Error::Stopped)
    }

    fn plain_end(&self, done: Completion) -> Completion {
        Completion {
            outline: Some(self.plan.usage(0)),
            ..done
        }
    }

    /// The outline, or why there is none.
    async fn write_outline(
        &self,
        items: &Items,
    ) -> Result<std::result::Result<Written, NotAnOutline>> {
        let setup = self.client.outline();
        let limits = setup.config.limits;
        // The last turn is a question: the plan saw to it.
        let Ok(asked) = setup.prompts.ask_outline(&self.chat, limits) else {
            return Ok(Err(NotAnOutline::Empty));
        };
        let mut options = self.inner();
        let most = self.options.n_predict.unwrap_or(OUTLINE_TOKENS);
        options.n_predict = Some(most.min(OUTLINE_TOKENS));
        let prompt = Prompt::Chat(asked.clone());
        let mut answer = self.client.answer(&prompt, options).await?;
        let mut parser = OutlineParser::new(limits);
        let mut written = String::new();
        let mut n_shown = 0;
        while let Some(part) = answer.next().await {
            match part? {
                Part::Text { text, .. } => {
                    written.push_str(&text);
                    if parser.push(&text) == Progress::Closed {
                        answer.finish();
                    }
                    if parser.points().len() > n_shown {
                        n_shown = parser.points().len();
                        let outline = Outline {
                            points: parser.points().to_vec(),
                        };
                        send(
                            items,
                            StreamItem::Outline {
                                outline,
                                is_complete: false,
                            },
                        );
                    }
                }
                Part::Done(done) => {
                    return Ok(parser.finish().map(|outline| Written {
                        asked,
                        outline,
                        text: written,
                        done,
                    }));
                }
            }
        }
        Err(Error::Stopped)
    }

    /// All points side by side.
    async fn write_points(&self, written: Written, items: &Items) -> Result<Completion> {
        let Written {
            asked,
            outline,
            text,
            done,
        } = written;
        let n_points = outline.points.len();
        let item = StreamItem::Outline {
            outline: outline.clone(),
            is_complete: true,
        };
        send(items, item);
        let setup = self.client.outline();
        let shared = setup.prompts.shared_prefix(&asked, &outline, &text);
        let chats = setup.prompts.ask_points(&shared, &outline);
        let mut options = self.options.clone();
        options.n_predict = Some(self.point_tokens(done.n_eval, n_points));
        let prompts = chats.into_iter().map(Prompt::Chat).collect();
        let mut branches = self.client.expand(prompts, options).await?;
        let mut joiner = Joiner::new(&outline, JoinForm::Numbered);
        while let Some(item) = branches.next().await {
            let event = match item? {
                BranchItem::Token { branch, text, .. } => BranchEvent::Text { branch, text },
                BranchItem::End { branch, completion } => BranchEvent::End {
                    branch,
                    end: match completion.reason {
                        FinishReason::Stop => BranchEnd::Stop,
                        FinishReason::Length => BranchEnd::Cut,
                    },
                },
                BranchItem::Done(points) => {
                    return Ok(Completion {
                        outline: Some(self.plan.usage(n_points)),
                        ..after(done, points)
                    });
                }
            };
            write_event(&mut joiner, event, items);
        }
        Err(Error::Stopped)
    }

    /// Most tokens of each point, after an outline of `n_outline`.
    fn point_tokens(&self, n_outline: u32, n_points: usize) -> u32 {
        let most = self.client.outline().config.point_tokens;
        let share = |n: u32| n.saturating_sub(n_outline) / n_points.max(1) as u32;
        self.options
            .n_predict
            .map_or(most, |n| most.min(share(n)).max(1))
    }

    /// For what is asked on the way to the answer; its cells are used again.
    fn inner(&self) -> GenerateOptions {
        GenerateOptions {
            cache_prompt: true,
            stop: Vec::new(),
            ..self.options.clone()
        }
    }
}

/// Hands on what an event adds to its branch and to the answer.
fn write_event(joiner: &mut Joiner, event: BranchEvent, items: &Items) {
    let joined = match joiner.push(&event) {
        Ok(joined) => joined,
        Err(error) => return tracing::error!(%error, "an answer of points"),
    };
    let (BranchEvent::Text { branch, .. } | BranchEvent::End { branch, .. }) = event;
    if !joined.branch.is_empty() {
        let text = joined.branch;
        send(
            items,
            StreamItem::Branch(BranchEvent::Text { branch, text }),
        );
    }
    if let BranchEvent::End { .. } = event {
        send(items, StreamItem::Branch(event));
    }
    if !joined.answer.is_empty() {
        let text = joined.answer;
        send(items, StreamItem::Token { id: None, text });
    }
}

/// Who asked may have gone: then this is dropped soon.
fn send(items: &Items, item: StreamItem) {
    let _ = items.send(Ok(item));
}
