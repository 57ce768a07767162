//! Asks the Planner, and turns its events into text.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::Stream;
use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Completion, GenerateRequest, StreamEvent};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::{ChatTemplate, Detokenizer, Vocabulary};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::prompt::{GenerateOptions, Prompt};
use crate::stop_filter::StopFilter;

/// How long a request waits for a Planner that is being started again.
const PLANNER_PATIENCE: Duration = Duration::from_secs(10);

/// Pause before it is looked for again.
const PLANNER_RETRY: Duration = Duration::from_millis(20);

/// Asks for answers. Clones are cheap and ask the same cluster.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox,
    vocabulary: Arc<Vocabulary>,
    template: ChatTemplate,
    is_default_model: bool,
    next_request: AtomicU64,
    stopped: AtomicBool,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// The next token.
    Token {
        /// The token; none for text that was held back until the end (an incomplete character, or
        /// what might have become a stop string).
        id: Option<Token>,
        /// Its text, and what the tokens before it left open. Empty when it is held back.
        text: String,
    },
    /// The answer is complete; nothing follows.
    Done(Completion),
}

impl Client {
    pub(crate) fn new(
        inbox: Inbox,
        vocabulary: Arc<Vocabulary>,
        template: ChatTemplate,
        is_default_model: bool,
    ) -> Self {
        let next_request = AtomicU64::new(0);
        let stopped = AtomicBool::new(false);
        Self {
            shared: Arc::new(Shared {
                inbox,
                vocabulary,
                template,
                is_default_model,
                next_request,
                stopped,
            }),
        }
    }

    /// Whether the default model answers, since no other was named.
    pub fn is_default_model(&self) -> bool {
        self.shared.is_default_model
    }

    /// How this cluster's model is best asked: [`GenerateOptions::default`], but the default model
    /// always takes the likeliest token. It is so small that any other is seldom right.
    pub fn default_options(&self) -> GenerateOptions {
        let mut options = GenerateOptions::default();
        if self.shared.is_default_model {
            options.sampling = SamplingParams::greedy();
        }
        options
    }

    /// Refuses requests from now on, of all clones.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Asks for an answer. Dropping the stream stops it.
    ///
    /// # Errors
    /// A prompt or sampling parameters that cannot be used; [`Error::Stopped`] after the end of
    /// the runtime. What the Planner refuses is the stream's first item.
    pub async fn generate(&self, prompt: Prompt, options: GenerateOptions) -> Result<TokenStream> {
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        options.sampling.validate()?;
        let prompt = {
            let shared = self.shared.clone();
            let tokenize = move || prompt.tokenize(&shared.vocabulary, &shared.template);
            tokio::task::spawn_blocking(tokenize)
                .await
                .map_err(|_| Error::Stopped)??
        };
        let id = RequestId(self.shared.next_request.fetch_add(1, Ordering::Relaxed));
        let mut sampling = options.sampling;
        sampling.fix_seed();
        let request = GenerateRequest {
            n_predict: options.n_predict,
            sampling,
            ignore_eos: options.ignore_eos,
            cache_prompt: options.cache_prompt,
            speculation: options.speculation,
            ..GenerateRequest::new(id, prompt)
        };
        let (sink, events) = mpsc::unbounded_channel();
        let planner = planner(&self.shared.inbox).await?;
        planner
            .cast(PlannerMessage::Generate(request, sink))
            .map_err(|_| Error::Stopped)?;
        Ok(TokenStream {
            id,
            inbox: self.shared.inbox.clone(),
            events,
            detokenizer: Detokenizer::new(self.shared.vocabulary.clone()),
            filter: StopFilter::new(&options.stop),
            stopped: false,
            last: None,
            ended: false,
        })
    }
}

/// The living Planner; waits while its Supervisor starts it again.
pub(crate) async fn planner(inbox: &Inbox) -> Result<ractor::ActorRef<PlannerMessage>> {
    let deadline = Instant::now() + PLANNER_PATIENCE;
    loop {
        let living = inbox
            .planner()
            .filter(|planner| matches!(planner.get_status(), ractor::ActorStatus::Running));
        if let Some(planner) = living {
            return Ok(planner);
        }
        if Instant::now() > deadline {
            return Err(Error::Stopped);
        }
        tokio::time::sleep(PLANNER_RETRY).await;
    }
}

/// The parts of an answer as they come. Ends after [`StreamItem::Done`] or an error.
pub struct TokenStream {
    id: RequestId,
    inbox: Inbox,
    events: mpsc::UnboundedReceiver<StreamEvent>,
    detokenizer: Detokenizer,
    filter: StopFilter,
    /// Whether a stop string ended the text; the Planner's word of it is on the way.
    stopped: bool,
    /// What follows the text that was held back.
    last: Option<Result<StreamItem>>,
    ended: bool,
}

impl Stream for TokenStream {
    type Item = Result<StreamItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(last));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            let item = match ready!(this.events.poll_recv(context)) {
                // Behind a stop string, what was on the way already is no part of the answer.
                Some(StreamEvent::Token(_)) if this.stopped => continue,
                Some(StreamEvent::Token(token)) => this.token(token),
                Some(StreamEvent::Done(done)) => this.end(Ok(StreamItem::Done(done))),
                Some(StreamEvent::Failed(error)) => this.end(Err(error.into())),
                None => this.end(Err(Error::Stopped)),
            };
            return Poll::Ready(Some(item));
        }
    }
}

impl TokenStream {
    fn token(&mut self, token: Token) -> Result<StreamItem> {
        let piece = self.detokenizer.push(token);
        let (text, stopped) = self.filter.push(&piece);
        if stopped {
            self.stopped = true;
            self.tell(PlannerMessage::Finish(self.id));
        }
        Ok(StreamItem::Token {
            id: Some(token),
            text,
        })
    }

    /// Ends with `last`, after the text that was held back.
    fn end(&mut self, last: Result<StreamItem>) -> Result<StreamItem> {
        self.ended = true;
        if self.stopped {
            return last;
        }
        let piece = self.detokenizer.finish();
        let (mut text, stopped) = self.filter.push(&piece);
        if !stopped {
            text.push_str(&self.filter.finish());
        }
        if text.is_empty() {
            return last;
        }
        self.last = Some(last);
        Ok(StreamItem::Token { id: None, text })
    }

    /// A Planner that is gone has nothing to stop.
    fn tell(&self, message: PlannerMessage) {
        if let Some(planner) = self.inbox.planner() {
            let _ = planner.cast(message);
        }
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(PlannerMessage::Cancel(self.id));
        }
    }
}
