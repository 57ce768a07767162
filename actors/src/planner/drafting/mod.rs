//! Guesses: which sources the cluster has, and what each sequence asks of them.

pub(super) mod speculator;

use std::time::{Duration, Instant};

use jupiter_models::Token;

use self::speculator::{Available, DraftTimes, Speculator};
use super::sequence::Sequence;
use crate::RequestId;
use crate::message::{DraftKind, DraftReply, DraftRequest, HeadsId};
use crate::speculation::Result;
use crate::speculation::draft::DraftLimits;
use crate::speculation::tree::DraftTree;

/// How long an answer waits for a guess: the end of a long prompt on a slow node. Then it goes on
/// without.
pub(super) const DRAFT_PATIENCE: Duration = Duration::from_secs(2);
/// Guesses that came too late, after which no more are asked for.
pub(super) const MAX_LATE_DRAFTS: u32 = 3;

/// The sources that compute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sources {
    /// Those that are there.
    pub(super) available: Available,
    /// Whether the draft model is loaded for this epoch.
    pub(super) model_is_ready: bool,
    /// Whether it is of no use.
    pub(super) model_failed: bool,
    n_late: u32,
}

impl Sources {
    pub(super) fn new(heads: Option<&HeadsId>) -> Self {
        let available = Available {
            heads: heads.map(HeadsId::kind),
            // When the Drafter is ready.
            model: false,
        };
        Self {
            available,
            ..Self::default()
        }
    }

    /// The draft model is loaded.
    pub(super) fn model_ready(&mut self) {
        (self.model_is_ready, self.available.model) = (true, true);
    }

    /// One is gone; for good, where it `failed`: a draft model is not loaded again.
    pub(super) fn down(&mut self, source: DraftKind, failed: bool) {
        match source {
            DraftKind::Medusa | DraftKind::Mtp => self.available.heads = None,
            DraftKind::Model => {
                self.available.model = false;
                self.model_failed |= failed;
            }
        }
    }

    /// Guesses of the draft model came too late.
    pub(super) fn count_late(&mut self, n: u32) {
        self.n_late += n;
    }

    /// Whether its guesses came too late too often, and nobody has said so.
    pub(super) fn is_too_late(&self) -> bool {
        self.n_late >= MAX_LATE_DRAFTS && !self.model_failed
    }
}

/// What is guessed for one sequence.
pub(super) struct Drafting {
    pub(super) speculator: Speculator,
    request: RequestId,
    /// What the draft model was told of the text and of guesses behind it.
    told: Vec<Token>,
    n_wishes: u32,
    /// Since when the sequence waits for the draft model.
    wished: Option<Instant>,
}

impl Drafting {
    pub(super) fn new(sequence: &Sequence, available: Available) -> Self {
        let params = sequence.speculation.clone();
        Self {
            speculator: Speculator::new(params, available, &sequence.tokens),
            request: sequence.id,
            told: Vec::new(),
            n_wishes: 0,
            wished: None,
        }
    }

    /// What was asked in an epoch that is over is not answered.
    pub(super) fn rewind(&mut self) {
        self.wished = None;
        self.speculator.forget_wishes();
    }

    /// What the draft model is asked for, after `text`: its tokens, and guesses under way.
    pub(super) fn wish(
        &mut self,
        text: Vec<Token>,
        limits: DraftLimits,
        now: Instant,
    ) -> DraftRequest {
        self.wished = Some(now);
        self.request(text, limits)
    }

    /// The text so far for the draft model, if it guesses for this sequence.
    pub(super) fn tell(&mut self, text: &[Token]) -> Option<DraftRequest> {
        let nothing = DraftLimits { depth: 0, lines: 0 };
        let is_used = self.speculator.uses_model();
        is_used.then(|| self.request(text.to_vec(), nothing))
    }

    fn request(&mut self, text: Vec<Token>, limits: DraftLimits) -> DraftRequest {
        let same = self.told.iter().zip(&text);
        let from = same.take_while(|(told, token)| told == token).count();
        self.n_wishes += 1;
        self.told = text;
        DraftRequest {
            request: self.request,
            wish: self.n_wishes,
            from: from as u32,
            tokens: self.told[from..].to_vec(),
            depth: limits.depth as u32,
            width: limits.lines as u32,
        }
    }

    /// Takes the draft model's guesses behind a text that has `n_text` tokens by now, with guesses under
    /// way; late ones are dropped.
    ///
    /// # Errors
    /// For guesses that cannot be.
    pub(super) fn take(&mut self, reply: &DraftReply, n_text: usize, now: Instant) -> Result<()> {
        if reply.wish != self.n_wishes {
            return Ok(());
        }
        let is_current = self.told.len() == n_text;
        // What it has forgotten is told again.
        self.told.truncate(reply.n_known as usize);
        let Some(since) = self.wished.take().filter(|_| is_current) else {
            return Ok(());
        };
        let mut tree = DraftTree::new();
        for guess in &reply.guesses {
            let parent = guess.parent.map(usize::from);
            tree.push(parent, guess.token, Some(f64::from(guess.probability)))?;
        }
        let took = DraftTimes {
            busy: Duration::from_micros(reply.busy_us),
            all: now.duration_since(since),
        };
        self.speculator.model_drafted(tree, took);
        Ok(())
    }

    /// Gives up guesses that do not come: the next step goes without. Whether there were such.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        let waited = self.wished.map(|since| now.duration_since(since));
        let is_late = waited.is_some_and(|waited| waited > DRAFT_PATIENCE);
        if is_late {
            self.wished = None;
            self.told.clear();
            self.speculator
                .model_drafted(DraftTree::new(), DraftTimes::default());
        }
        is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_model_that_is_late_too_often_is_not_asked_again() {
        let mut sources = Sources::new(Some(&HeadsId::Mtp));
        sources.model_ready();
        sources.count_late(2);
        assert!(!sources.is_too_late());
        sources.count_late(1);
        assert!(sources.is_too_late(), "three times in all");
        sources.down(DraftKind::Model, true);
        sources.count_late(1);
        assert!(!sources.is_too_late(), "it is told once");
        assert!(sources.available.heads.is_some() && !sources.available.model);
        assert!(sources.model_failed);
    }

    #[test]
    fn a_node_that_is_gone_may_come_back_with_its_draft_model() {
        let mut sources = Sources::new(None);
        sources.model_ready();
        sources.down(DraftKind::Model, false);
        assert!(!sources.available.model && !sources.model_failed);
        sources.model_ready();
        assert!(sources.available.model);
    }
}
