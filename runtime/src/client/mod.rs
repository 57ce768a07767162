//! Questions and answers.
//!
//! Each uses only those before it; [`Client`] is what programs see of them.
//!
//! - `activity`: how many answers are being written
//! - `commands`: what the default model may write
//! - `chat_format`, [`prompt`]: the template that chats are written with, and what is asked
//! - `stop_filter`, `thoughts`, `answer`: one sequence of tokens as text, up to a stop string, thoughts and
//!   answer told apart
//! - `planner_client`: asks the Planner
//! - `usage`, [`branches`]: several answers side by side, and what they took together
//! - [`stream`], [`event`]: an answer as programs see it, and the same as JSON
//! - `outliner`: an answer that is written point by point

mod activity;
mod answer;
pub(crate) mod branches;
pub(crate) mod chat_format;
pub(crate) mod commands;
pub mod event;
pub(crate) mod outliner;
pub(crate) mod planner_client;
pub(crate) mod prompt;
mod stop_filter;
pub(crate) mod stream;
mod thoughts;
mod usage;

use std::sync::Arc;

use jupiter_actors::request::RequestError;
use jupiter_models::sampling::SamplingParams;

use self::activity::Activity;
use self::branches::{BranchStream, Branches};
use self::outliner::{Evidence, OutlineSetup, Outliner, Plan};
use self::planner_client::PlannerClient;
use self::prompt::{GenerateOptions, Prompt};
use self::stream::TokenStream;
use crate::config::OutlineMode;
use crate::error::Result;
use crate::outline::{Verdict, in_one_piece};

/// Asks for answers. Clones are cheap and ask the same cluster.
#[derive(Clone)]
pub struct Client {
    planner: PlannerClient,
    outline: Arc<OutlineSetup>,
    activity: Activity,
    n_ctx: u32,
}

impl Client {
    pub(crate) fn new(planner: PlannerClient, outline: OutlineSetup, n_ctx: u32) -> Self {
        Self {
            planner,
            outline: Arc::new(outline),
            activity: Activity::new(),
            n_ctx,
        }
    }

    /// Whether the default model answers, since no other was named.
    pub fn is_default_model(&self) -> bool {
        self.outline.is_default_model
    }

    /// Positions of the context (`-c`): prompts and answers of all requests at a time share them.
    pub fn n_ctx(&self) -> u32 {
        self.n_ctx
    }

    /// Tokens of a prompt as it is asked, with what the chat template adds.
    ///
    /// # Errors
    /// A prompt that is empty, or that the template refuses.
    pub async fn count_tokens(&self, mut prompt: Prompt) -> Result<u32> {
        self.adapt(&mut prompt);
        let n_tokens = self.planner.tokenize(prompt).await?.len();
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

    /// What the default model begins as a command, it ends as one. An answer that somebody else has begun
    /// goes on as that wants.
    fn keep_commands_whole(&self, prompt: &Prompt, options: &mut GenerateOptions) {
        let Prompt::Chat(chat) = prompt else { return };
        let is_asked = chat.last().is_some_and(|last| last.role == "user");
        if is_asked && self.is_default_model() {
            let sampling = &mut options.sampling;
            if sampling.grammar.is_none() {
                commands::take_care(sampling);
            }
        }
    }

    /// How this cluster's model is best asked: [`GenerateOptions::default`], but the default model
    /// always takes the likeliest token. It is so small that any other is seldom right.
    pub fn default_options(&self) -> GenerateOptions {
        let mut options = GenerateOptions::default();
        if self.is_default_model() {
            options.sampling = SamplingParams::greedy();
        }
        options
    }

    /// Refuses requests from now on, of all clones.
    pub(crate) fn stop(&self) {
        self.planner.stop();
    }

    /// Asks for an answer, in one piece or point by point. Dropping the stream stops it.
    ///
    /// # Errors
    /// A prompt or sampling parameters that cannot be used; [`Error::Stopped`](crate::Error::Stopped)
    /// after the end of the runtime. What the Planner refuses is the stream's first item.
    pub async fn generate(&self, prompt: Prompt, options: GenerateOptions) -> Result<TokenStream> {
        let n_others = self.activity.n_busy();
        let busy = self.activity.begin();
        let answer = self.write(prompt, options, Some(n_others)).await?;
        Ok(answer.holding(busy))
    }

    /// The same for a trial of the model: it does not count as an answer, and heeds nothing that is known
    /// of the model.
    ///
    /// # Errors
    /// As [`Client::generate`].
    pub(crate) async fn try_out(
        &self,
        prompt: Prompt,
        options: GenerateOptions,
    ) -> Result<TokenStream> {
        self.write(prompt, options, None).await
    }

    async fn write(
        &self,
        mut prompt: Prompt,
        mut options: GenerateOptions,
        n_others: Option<usize>,
    ) -> Result<TokenStream> {
        self.planner.check(&options)?;
        self.adapt(&mut prompt);
        let plan = Plan::new(&self.outline, &prompt, &options, n_others);
        self.keep_commands_whole(&prompt, &mut options);
        match (plan, prompt) {
            (Some(plan), Prompt::Chat(chat)) if plan.verdict != Verdict::Plain => {
                let (planner, setup) = (self.planner.clone(), self.outline.clone());
                let outliner = Outliner::new(planner, setup, chat, options, plan);
                Ok(TokenStream::of(outliner.start()))
            }
            (plan, prompt) => {
                let answer = self.planner.answer(prompt, options, None).await?;
                let usage = plan.map(|plan| plan.conclude(0));
                Ok(TokenStream::plain(answer, usage))
            }
        }
    }

    /// Asks for an answer to each of several prompts, all side by side; what they begin with is computed
    /// once. Together they count as one request. Dropping the stream stops all of them.
    ///
    /// # Errors
    /// As [`Client::generate`], and without a prompt. What the Planner refuses is an item of the stream,
    /// and ends it.
    pub async fn fork(
        &self,
        prompts: Vec<Prompt>,
        mut options: GenerateOptions,
    ) -> Result<BranchStream> {
        if prompts.is_empty() {
            return Err(RequestError::EmptyPrompt.into());
        }
        let busy = self.activity.begin();
        options.sampling.fix_seed();
        let whole = self.planner.begin_whole();
        let mut branches = Branches::new(self.planner.clone(), whole.id());
        for prompt in prompts {
            let mut options = options.clone();
            self.keep_commands_whole(&prompt, &mut options);
            branches.begin(prompt, options).await?;
        }
        Ok(BranchStream::new(branches, whole, busy))
    }

    /// How many answers are being written.
    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// What is known of how the model writes point by point.
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.outline.evidence
    }

    /// Whether trials could tell more of that.
    pub(crate) fn wants_trials(&self) -> bool {
        let is_auto = self.outline.config.mode == OutlineMode::Auto;
        is_auto && !self.is_default_model() && !self.evidence().is_known()
    }
}
