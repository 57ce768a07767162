//! Texts that were asked for, and what may come of them.

use jupiter_models::Token;
use tokio::sync::mpsc::UnboundedReceiver;

use super::super::preemption::MAX_PREEMPTIONS;
use super::world::*;
use crate::request::{RequestError, StreamEvent};

/// A text that was asked for, as long as its client listens.
pub(super) struct Text {
    pub(super) prompt: Vec<Token>,
    /// Most tokens; none: as many as fit.
    pub(super) n: Option<u32>,
    /// Whether the client has said that it has enough.
    pub(super) is_enough: bool,
    pub(super) has_deadline: bool,
    pub(super) events: Option<UnboundedReceiver<StreamEvent>>,
}

impl Text {
    pub(super) fn new(
        prompt: &[Token],
        n: Option<u32>,
        events: UnboundedReceiver<StreamEvent>,
    ) -> Self {
        Self {
            prompt: prompt.to_vec(),
            n,
            is_enough: false,
            has_deadline: false,
            events: Some(events),
        }
    }

    /// One that nobody reads.
    pub(super) fn lost() -> Self {
        Self {
            prompt: Vec::new(),
            n: None,
            is_enough: false,
            has_deadline: false,
            events: None,
        }
    }

    /// It is what it would be if nothing else had happened, or ended with a good reason.
    pub(super) fn check(&mut self, may_fail: &[&str], may_be_lost: bool) {
        let Some(events) = &mut self.events else {
            return;
        };
        match read(events) {
            (tokens, Some(StreamEvent::Done(done))) => {
                let whole = expected(&self.prompt, self.n.unwrap_or(N_CTX));
                assert!(done.n_preempted <= MAX_PREEMPTIONS, "{done:?}");
                assert!(done.n_cached < done.n_prompt, "{done:?}");
                if self.is_enough {
                    assert!(whole.starts_with(&tokens));
                } else {
                    assert_eq!(tokens, whole);
                }
            }
            (
                tokens,
                Some(StreamEvent::Failed(
                    RequestError::DeadlineMissed { .. } | RequestError::DeadlineOutOfReach { .. },
                )),
            ) if self.has_deadline => {
                let whole = expected(&self.prompt, self.n.unwrap_or(N_CTX));
                assert!(whole.starts_with(&tokens));
            }
            // Steps that took seconds, and many that wait for such.
            (tokens, Some(StreamEvent::Failed(RequestError::Busy { waiting, .. }))) => {
                assert!(tokens.is_empty() && waiting > 0);
            }
            (_, Some(StreamEvent::Failed(error))) => {
                let error = error.to_string();
                let is_known = may_fail.iter().any(|part| error.contains(part));
                assert!(is_known, "{error}");
            }
            // The panic was in the middle of its end: its client sees that nothing comes any more.
            (tokens, None) if may_be_lost && events.is_closed() => {
                let whole = expected(&self.prompt, self.n.unwrap_or(N_CTX));
                assert!(whole.starts_with(&tokens));
            }
            end => panic!("a request was forgotten: {end:?}"),
        }
    }
}
