//! Asks the Planner.
//!
//! - [`prompt`], `chat_format`: what is asked, and how it is written for the model
//! - [`stream`], `stop_filter`: an answer as it comes; [`branches`]: several side by side
//! - `outliner`: an answer that is written point by point
//! - [`event`]: an answer as JSON

pub(crate) mod branches;
pub(crate) mod chat_format;
pub mod event;
pub(crate) mod outliner;
pub(crate) mod prompt;
mod stop_filter;
pub(crate) mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Branch, EventSink, ExpandRequest, GenerateRequest};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use jupiter_models::draw::splitmix;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::{Detokenizer, Vocabulary};
use tokio::sync::mpsc;

use crate::client::branches::BranchStream;
use crate::client::chat_format::ChatFormat;
use crate::client::outliner::{OutlineSetup, Outliner, Plan};
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::{AnswerStream, TokenStream};
use crate::error::{Error, Result};
use crate::outline::{Verdict, in_one_piece};

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
    format: ChatFormat,
    outline: OutlineSetup,
    n_ctx: u32,
    is_default_model: bool,
    next_request: AtomicU64,
    stopped: AtomicBool,
}

impl Client {
    pub(crate) fn new(
        inbox: Inbox,
        vocabulary: Arc<Vocabulary>,
        format: ChatFormat,
        outline: OutlineSetup,
        n_ctx: u32,
        is_default_model: bool,
    ) -> Self {
        let next_request = AtomicU64::new(0);
        let stopped = AtomicBool::new(false);
        Self {
            shared: Arc::new(Shared {
                inbox,
                vocabulary,
                format,
                outline,
                n_ctx,
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

    /// Positions of the context (`-c`): prompts and answers of all requests at a time share them.
    pub fn n_ctx(&self) -> u32 {
        self.shared.n_ctx
    }

    /// Tokens of a prompt as it is asked, with what the chat template adds.
    ///
    /// # Errors
    /// A prompt that is empty, or that the template refuses.
    pub async fn count_tokens(&self, mut prompt: Prompt) -> Result<u32> {
        self.adapt(&mut prompt);
        let n_tokens = self.tokenize(prompt).await?.len();
        Ok(u32::try_from(n_tokens).unwrap_or(u32::MAX))
    }

    /// The default model was not taught to read lists of points behind its own answers.
    fn adapt(&self, prompt: &mut Prompt) {
        if let (Prompt::Chat(chat), true) = (prompt, self.is_default_model()) {
            for turn in chat.iter_mut().filter(|turn| turn.role == "assistant") {
                if let Some(piece) = in_one_piece(&turn.content) {
                    turn.content = piece;
                }
            }
        }
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

    /// Asks for an answer, in one piece or point by point. Dropping the stream stops it.
    ///
    /// # Errors
    /// A prompt or sampling parameters that cannot be used; [`Error::Stopped`] after the end of
    /// the runtime. What the Planner refuses is the stream's first item.
    pub async fn generate(
        &self,
        mut prompt: Prompt,
        options: GenerateOptions,
    ) -> Result<TokenStream> {
        self.check(&options)?;
        self.adapt(&mut prompt);
        let plan = Plan::new(&self.shared.outline, &prompt, &options);
        match (plan, prompt) {
            (Some(plan), Prompt::Chat(chat)) if plan.verdict != Verdict::Plain => {
                let outliner = Outliner::new(self.clone(), chat, options, plan);
                Ok(TokenStream::outlined(outliner.start()))
            }
            (plan, prompt) => {
                let answer = self.answer(prompt, options, Chain::default()).await?;
                let usage = plan.map(|plan| plan.conclude(0));
                Ok(TokenStream::plain(answer, usage))
            }
        }
    }

    /// Asks for an answer to each of several prompts, all side by side; what they have in common is
    /// computed once. Dropping the stream stops all of them. Without `n_predict` they share the
    /// context evenly.
    ///
    /// # Errors
    /// As [`Client::generate`]. What the Planner refuses, prompts without a common beginning among
    /// it, is the stream's first item.
    pub async fn expand(
        &self,
        prompts: Vec<Prompt>,
        options: GenerateOptions,
    ) -> Result<BranchStream> {
        let prompts = self.tokenize_all(prompts).await?;
        self.expand_tokens(prompts, options, None).await
    }

    /// The same for tokens, as what `follows` another request.
    pub(crate) async fn expand_tokens(
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
        let request = ExpandRequest {
            id,
            n_shared,
            cache_prompt: options.cache_prompt,
            follows,
            branches,
        };
        self.tell(PlannerMessage::Expand(request, sink)).await?;
        let inbox = self.shared.inbox.clone();
        Ok(BranchStream::new(id, inbox, whole, streams))
    }

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

    fn check(&self, options: &GenerateOptions) -> Result<()> {
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        Ok(options.sampling.validate()?)
    }

    async fn tokenize(&self, prompt: Prompt) -> Result<Vec<Token>> {
        let shared = self.shared.clone();
        let tokenize = move || prompt.tokenize(&shared.vocabulary, &shared.format);
        tokio::task::spawn_blocking(tokenize)
            .await
            .map_err(|_| Error::Stopped)?
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
        let planner = planner(&self.shared.inbox).await?;
        planner.cast(message).map_err(|_| Error::Stopped)
    }

    /// Gives up the cells that a complete request holds for others.
    pub(crate) fn release(&self, id: RequestId) {
        tell_living(&self.shared.inbox, PlannerMessage::Cancel(id));
    }

    pub(crate) fn outline(&self) -> &OutlineSetup {
        &self.shared.outline
    }
}

/// How a request goes on from others, and others from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// The request whose cells it goes on from.
    pub(crate) follows: Option<RequestId>,
    /// Whether its own are held for the next one.
    pub(crate) holds: bool,
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

/// Tells the Planner to end something; one that is gone has nothing to end.
pub(crate) fn tell_living(inbox: &Inbox, message: PlannerMessage) {
    if let Some(planner) = inbox.planner() {
        let _ = planner.cast(message);
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
