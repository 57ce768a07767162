//! Asks the Planner: prompts in, streams of text out, each request as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{EventSink, GenerateRequest};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::text::{Detokenizer, Vocabulary};
use tokio::sync::mpsc;

use super::answer::AnswerStream;
use super::chat_format::ChatFormat;
use super::prompt::{GenerateOptions, Prompt};
use super::thoughts::begun_in;
use crate::error::{Error, Result};
use crate::outline::Asked;
use crate::planner;

/// Asks for answers. Clones are cheap.
#[derive(Clone)]
pub(crate) struct PlannerClient {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox,
    vocabulary: Arc<Vocabulary>,
    format: ChatFormat,
    next_request: AtomicU64,
    stopped: AtomicBool,
}

/// Last tokens of a prompt among which a thought may begin: `<think>` is one, or a few pieces.
const THOUGHT_TOKENS: usize = 8;

/// An answer that several requests are parts of. When it is dropped, what they left for each other is
/// given up.
pub(crate) struct Whole {
    id: RequestId,
    inbox: Inbox,
}

impl Whole {
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        planner::tell_if_living(&self.inbox, PlannerMessage::Cancel(self.id));
    }
}

impl PlannerClient {
    /// Of the node with `inbox`, for a model with `vocabulary` whose chats are written in `format`.
    pub(crate) fn new(inbox: Inbox, vocabulary: Arc<Vocabulary>, format: ChatFormat) -> Self {
        Self {
            shared: Arc::new(Shared {
                inbox,
                vocabulary,
                format,
                next_request: AtomicU64::new(0),
                stopped: AtomicBool::new(false),
            }),
        }
    }

    /// Refuses requests from now on, of all clones.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether these options can be used now.
    ///
    /// # Errors
    /// Sampling parameters that cannot be; [`Error::Stopped`] after [`PlannerClient::stop`].
    pub(crate) fn check(&self, options: &GenerateOptions) -> Result<()> {
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        Ok(options.sampling.validate()?)
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// A prompt that is empty, or that the template refuses.
    pub(crate) async fn tokenize(&self, prompt: Prompt) -> Result<Vec<Token>> {
        let shared = self.shared.clone();
        let tokenize = move || prompt.tokenize(&shared.vocabulary, &shared.format);
        tokio::task::spawn_blocking(tokenize)
            .await
            .map_err(|_| Error::Stopped)?
    }

    /// The tokens of a conversation whose next turn has begun. None where the template begins it
    /// with a thought: what follows would be part of that.
    ///
    /// # Errors
    /// As [`PlannerClient::tokenize`].
    pub(crate) async fn tokenize_begun(&self, asked: &Asked) -> Result<Option<Vec<Token>>> {
        let mut tokens = self.tokenize(Prompt::chat(&*asked.chat)).await?;
        if asked.begun.is_empty() {
            return Ok(Some(tokens));
        }
        if self.begun_in(&tokens).is_some() {
            return Ok(None);
        }
        let vocabulary = &self.shared.vocabulary;
        tokens.extend(vocabulary.tokenize(&asked.begun, false, false));
        Ok(Some(tokens))
    }

    /// The tag up to which what follows these tokens is thought, if it is.
    fn begun_in(&self, tokens: &[Token]) -> Option<&'static str> {
        let end = &tokens[tokens.len().saturating_sub(THOUGHT_TOKENS)..];
        let bytes = |&token| self.shared.vocabulary.token_bytes(token, true);
        let end: Vec<u8> = end.iter().flat_map(bytes).collect();
        begun_in(&String::from_utf8_lossy(&end))
    }

    /// Asks for an answer in one piece, or for what is a part of one.
    ///
    /// # Errors
    /// As [`PlannerClient::check`] and [`PlannerClient::tokenize`].
    pub(crate) async fn answer(
        &self,
        prompt: Prompt,
        mut options: GenerateOptions,
        part_of: Option<RequestId>,
    ) -> Result<AnswerStream> {
        self.check(&options)?;
        options.sampling.fix_seed();
        let prompt = self.tokenize(prompt).await?;
        let (request, sink, stream) = self.request(prompt, options, part_of);
        let planner = planner::living(&self.shared.inbox).await?;
        let asked = PlannerMessage::Generate(request, sink);
        planner.cast(asked).map_err(|_| Error::Stopped)?;
        Ok(stream)
    }

    /// Has enough of an answer: its end follows. A repeat is harmless.
    pub(crate) fn finish(&self, id: RequestId) {
        planner::tell_if_living(&self.shared.inbox, PlannerMessage::Finish(id));
    }

    /// An answer that requests are parts of.
    pub(crate) fn begin_whole(&self) -> Whole {
        Whole {
            id: self.next_id(),
            inbox: self.shared.inbox.clone(),
        }
    }

    fn next_id(&self) -> RequestId {
        RequestId(self.shared.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// A request, and both ends of its events.
    fn request(
        &self,
        prompt: Vec<Token>,
        options: GenerateOptions,
        part_of: Option<RequestId>,
    ) -> (GenerateRequest, EventSink, AnswerStream) {
        let request = GenerateRequest {
            n_predict: options.n_predict,
            sampling: options.sampling,
            ignore_eos: options.ignore_eos,
            cache_prompt: options.cache_prompt,
            speculation: options.speculation,
            part_of,
            priority: options.priority,
            deadline: options.deadline,
            client: options.client,
            ..GenerateRequest::new(self.next_id(), prompt)
        };
        let begun_in = self.begun_in(&request.prompt);
        let (sink, events) = mpsc::unbounded_channel();
        let stream = AnswerStream::new(
            request.id,
            self.shared.inbox.clone(),
            events,
            Detokenizer::new(self.shared.vocabulary.clone()),
            &options.stop,
            begun_in,
        );
        (request, sink, stream)
    }
}
