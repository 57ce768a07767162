//! Asks the Planner: prompts in, streams of text out, each request as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Branch, EventSink, ForkRequest, GenerateRequest};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::draw::splitmix;
use jupiter_models::text::{Detokenizer, Vocabulary};
use tokio::sync::mpsc;

use super::answer::AnswerStream;
use super::branches::BranchStream;
use super::chat_format::ChatFormat;
use super::prompt::{GenerateOptions, Prompt};
use crate::error::{Error, Result};
use crate::outline::Asked;
use crate::planner;

/// Asks for answers in one piece, and for several side by side. Clones are cheap.
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

/// How a request goes on from others, and others from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// The request whose cells it goes on from.
    pub(crate) follows: Option<RequestId>,
    /// Whether its own are held for the next one.
    pub(crate) holds: bool,
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
        let vocabulary = &self.shared.vocabulary;
        let end = &tokens[tokens.len().saturating_sub(THOUGHT_TOKENS)..];
        let end: Vec<u8> = end
            .iter()
            .flat_map(|&token| vocabulary.token_bytes(token, true))
            .collect();
        let end = String::from_utf8_lossy(&end);
        if end.rfind("<think>") > end.rfind("</think>") {
            return Ok(None);
        }
        tokens.extend(vocabulary.tokenize(&asked.begun, false, false));
        Ok(Some(tokens))
    }

    /// The tokens of each prompt.
    ///
    /// # Errors
    /// As [`PlannerClient::tokenize`].
    pub(crate) async fn tokenize_all(
        &self,
        prompts: impl IntoIterator<Item = Prompt>,
    ) -> Result<Vec<Vec<Token>>> {
        let mut tokens = Vec::new();
        for prompt in prompts {
            tokens.push(self.tokenize(prompt).await?);
        }
        Ok(tokens)
    }

    /// Asks for an answer in one piece.
    ///
    /// # Errors
    /// As [`PlannerClient::check`] and [`PlannerClient::tokenize`].
    pub(crate) async fn answer(
        &self,
        prompt: Prompt,
        mut options: GenerateOptions,
        chain: Chain,
    ) -> Result<AnswerStream> {
        self.check(&options)?;
        options.sampling.fix_seed();
        let prompt = self.tokenize(prompt).await?;
        let (request, sink, stream) = self.request(prompt, options, chain);
        self.tell(PlannerMessage::Generate(request, sink)).await?;
        Ok(stream)
    }

    /// Asks for an answer to each of several prompts, side by side, going on from what `follows`
    /// names.
    ///
    /// # Errors
    /// As [`PlannerClient::check`].
    pub(crate) async fn fork(
        &self,
        prompts: Vec<Vec<Token>>,
        mut options: GenerateOptions,
        follows: Option<RequestId>,
    ) -> Result<BranchStream> {
        self.check(&options)?;
        options.sampling.fix_seed();
        let n_shared = n_shared(&prompts);
        let mut branches = Vec::new();
        let mut streams = Vec::new();
        for (i, prompt) in prompts.into_iter().enumerate() {
            let mut options = options.clone();
            options.sampling.seed = branch_seed(options.sampling.seed, i);
            let (request, sink, stream) = self.request(prompt, options, Chain::default());
            branches.push(Branch { request, sink });
            streams.push(stream);
        }
        let (sink, whole) = mpsc::unbounded_channel();
        let id = self.next_id();
        let request = ForkRequest {
            cache_prompt: options.cache_prompt,
            follows,
            priority: options.priority,
            deadline: options.deadline,
            client: options.client,
            ..ForkRequest::new(id, n_shared, branches)
        };
        self.tell(PlannerMessage::Fork(request, sink)).await?;
        let inbox = self.shared.inbox.clone();
        Ok(BranchStream::new(id, inbox, whole, streams))
    }

    /// Gives up the cells that a complete request holds for others.
    pub(crate) fn release(&self, id: RequestId) {
        planner::tell_if_living(&self.shared.inbox, PlannerMessage::Cancel(id));
    }

    fn next_id(&self) -> RequestId {
        RequestId(self.shared.next_request.fetch_add(1, Ordering::Relaxed))
    }

    /// A request, and both ends of its events.
    fn request(
        &self,
        prompt: Vec<Token>,
        options: GenerateOptions,
        chain: Chain,
    ) -> (GenerateRequest, EventSink, AnswerStream) {
        let request = GenerateRequest {
            n_predict: options.n_predict,
            sampling: options.sampling,
            ignore_eos: options.ignore_eos,
            cache_prompt: options.cache_prompt,
            speculation: options.speculation,
            holds: chain.holds,
            follows: chain.follows,
            priority: options.priority,
            deadline: options.deadline,
            client: options.client,
            ..GenerateRequest::new(self.next_id(), prompt)
        };
        let (sink, events) = mpsc::unbounded_channel();
        let stream = AnswerStream::new(
            request.id,
            self.shared.inbox.clone(),
            events,
            Detokenizer::new(self.shared.vocabulary.clone()),
            &options.stop,
        );
        (request, sink, stream)
    }

    async fn tell(&self, message: PlannerMessage) -> Result<()> {
        let planner = planner::living(&self.shared.inbox).await?;
        planner.cast(message).map_err(|_| Error::Stopped)
    }
}

/// Tokens that all prompts begin with; the shortest has one more.
pub(crate) fn n_shared(prompts: &[Vec<Token>]) -> usize {
    let Some((first, others)) = prompts.split_first() else {
        return 0;
    };
    let most = prompts.iter().map(Vec::len).min().unwrap_or(0);
    let is_shared = |at: &usize| others.iter().all(|prompt| prompt[*at] == first[*at]);
    (0..most.saturating_sub(1)).take_while(is_shared).count()
}

/// Each branch draws numbers of its own.
fn branch_seed(seed: u32, branch: usize) -> u32 {
    (splitmix(u64::from(seed) ^ (branch as u64 + 1) << 32) >> 32) as u32
}
