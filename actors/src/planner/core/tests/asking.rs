//! What clients ask of a Planner.

use jupiter_models::Token;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::super::sequence::Sequence;
use super::super::*;
use super::world::*;
use crate::request::{
    Branch, Deadline, DraftChoice, ForkRequest, GenerateRequest, Oracle, SpeculationParams,
};

/// What comes of several branches.
pub(super) struct Forked {
    pub(super) whole: UnboundedReceiver<StreamEvent>,
    /// Prompts and events.
    pub(super) branches: Vec<(Vec<Token>, UnboundedReceiver<StreamEvent>)>,
}

/// How requests guess.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Guessing {
    None,
    /// An oracle that is right so often.
    Oracle(f64),
    /// Heads, a draft model, and what stood in the text before.
    Auto,
    /// The draft model alone.
    Model,
}

impl World {
    pub(super) fn ask(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, Some(n));
        self.submit(request)
    }

    pub(super) fn request(&self, id: u64, prompt: &[Token], n: Option<u32>) -> GenerateRequest {
        GenerateRequest {
            n_predict: n,
            speculation: Some(self.speculation(id, prompt)),
            ..GenerateRequest::new(RequestId(id), prompt.to_vec())
        }
    }

    pub(super) fn submit(&mut self, request: GenerateRequest) -> UnboundedReceiver<StreamEvent> {
        let (sink, events) = unbounded_channel();
        self.core.generate(request, sink, self.now);
        self.settle();
        events
    }

    /// Asks for as many tokens as fit.
    pub(super) fn ask_for_all(
        &mut self,
        id: u64,
        prompt: &[Token],
    ) -> UnboundedReceiver<StreamEvent> {
        let request = self.request(id, prompt, None);
        self.submit(request)
    }

    /// Asks for as many tokens as fit, and comes before all that wait.
    pub(super) fn ask_first(
        &mut self,
        id: u64,
        prompt: &[Token],
    ) -> UnboundedReceiver<StreamEvent> {
        let (sink, events) = unbounded_channel();
        let request = self.request(id, prompt, None);
        let sequence = Sequence::whole(request, sink, &self.core.config, self.now);
        self.core.queue.push(sequence, Vec::new(), true);
        self.core.pump(self.now);
        self.settle();
        events
    }

    /// Asks without leave to keep the cells, but for a request that follows.
    pub(super) fn ask_holding(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            holds: true,
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for what follows request `follows`.
    pub(super) fn follow(
        &mut self,
        id: u64,
        follows: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            follows: Some(RequestId(follows)),
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for a branch after each of `suffixes`, behind `shared`; the branches have the ids after
    /// `id`.
    pub(super) fn fork(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: u32,
    ) -> Forked {
        self.fork_within(id, shared, suffixes, Some(n), None)
    }

    /// The same for as many tokens as fit.
    pub(super) fn fork_for_all(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
    ) -> Forked {
        self.fork_within(id, shared, suffixes, None, None)
    }

    /// The same with these bounds.
    pub(super) fn fork_within(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: Option<u32>,
        deadline: Option<Deadline>,
    ) -> Forked {
        let (sink, whole) = unbounded_channel();
        let mut branches = Vec::new();
        let mut asked = Vec::new();
        for (suffix, id) in suffixes.iter().zip(id + 1..) {
            let (sink, events) = unbounded_channel();
            let prompt = [shared, suffix].concat();
            let request = GenerateRequest {
                holds: self.branches_hold,
                ..self.request(id, &prompt, n)
            };
            branches.push(Branch { request, sink });
            asked.push((prompt, events));
        }
        let request = ForkRequest {
            deadline,
            ..ForkRequest::new(RequestId(id), shared.len(), branches)
        };
        self.core.fork(request, sink, self.now);
        self.settle();
        Forked {
            whole,
            branches: asked,
        }
    }

    pub(super) fn speculation(&self, seed: u64, prompt: &[Token]) -> SpeculationParams {
        let source = match self.source {
            Guessing::None => DraftChoice::None,
            Guessing::Auto => DraftChoice::Auto,
            Guessing::Model => DraftChoice::Model,
            Guessing::Oracle(acceptance) => DraftChoice::Oracle(Oracle {
                truth: [prompt, &expected(prompt, N_CTX)].concat().into(),
                n_vocab: 1000,
                acceptance,
                seed,
            }),
        };
        SpeculationParams {
            source,
            ..SpeculationParams::default()
        }
    }
}
