//! What clients ask of a Planner.

use jupiter_models::Token;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::super::sequence::Sequence;
use super::super::*;
use super::world::*;
use crate::request::{Deadline, DraftChoice, GenerateRequest, Oracle, SpeculationParams};

/// Prompts and events of the parts of an answer.
pub(super) type Parts = Vec<(Vec<Token>, UnboundedReceiver<StreamEvent>)>;

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
        let sequence = Sequence::new(request, sink, &self.core.config, self.now);
        self.core.queue.push(sequence, true);
        self.core.pump(self.now);
        self.settle();
        events
    }

    /// Asks without leave to keep the cells.
    pub(super) fn ask_privately(
        &mut self,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            cache_prompt: false,
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for one more part of an answer.
    pub(super) fn ask_part(
        &mut self,
        answer: u64,
        id: u64,
        prompt: &[Token],
        n: u32,
    ) -> UnboundedReceiver<StreamEvent> {
        self.submit(GenerateRequest {
            part_of: Some(RequestId(answer)),
            ..self.request(id, prompt, Some(n))
        })
    }

    /// Asks for a part after each of `suffixes`, behind `shared`; the parts have the ids after `id`, which
    /// is the answer's.
    pub(super) fn ask_parts(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: u32,
    ) -> Parts {
        self.ask_parts_within(id, shared, suffixes, Some(n), None)
    }

    /// The same with these bounds.
    pub(super) fn ask_parts_within(
        &mut self,
        id: u64,
        shared: &[Token],
        suffixes: &[Vec<Token>],
        n: Option<u32>,
        deadline: Option<Deadline>,
    ) -> Parts {
        let mut asked = Vec::new();
        for (suffix, number) in suffixes.iter().zip(id + 1..) {
            let prompt = [shared, suffix].concat();
            let events = self.submit(GenerateRequest {
                part_of: Some(RequestId(id)),
                cache_prompt: !self.parts_are_private,
                deadline,
                ..self.request(number, &prompt, n)
            });
            asked.push((prompt, events));
        }
        asked
    }

    /// The client of so many parts has gone.
    pub(super) fn cancel_parts(&mut self, id: u64, n_parts: usize) {
        for gone in (id + 1..).take(n_parts).chain([id]) {
            self.core.cancel(RequestId(gone), self.now);
        }
        self.settle();
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
