//! Where the last stage's steps are judged: on the engine's thread while it has nothing else to do,
//! since waking another takes longer than sampling; else, and where guesses take long, by the actor,
//! beside the next step.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;

use super::{ComputedStep, Verified, VerifierMessage};
use crate::NodeId;
use crate::factory::Heads;
use crate::link::{Address, Link, send_from_own_thread, send_message, send_report};
use crate::message::{DraftKind, Message, NodeReport};

/// The living Verifiers of a node, each beside a stage. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Verifiers(Arc<Mutex<HashMap<u32, Arc<Judge>>>>);

impl Verifiers {
    /// From the Supervisor: the Verifier beside a stage lives, or it does no more.
    pub(crate) fn set(&self, stage: u32, judge: Option<Arc<Judge>>) {
        let mut judges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match judge {
            Some(judge) => judges.insert(stage, judge),
            None => judges.remove(&stage),
        };
    }

    /// The living Verifier beside a stage.
    pub(crate) fn beside(&self, stage: u32) -> Option<Arc<Judge>> {
        let judges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        judges.get(&stage).cloned()
    }
}

/// A Verifier's part that both threads may run. Steps are judged in the order given.
#[derive(Default)]
pub(crate) struct Judge {
    /// Held only to hand something over.
    verifier: Mutex<Option<ActorRef<VerifierMessage>>>,
    /// Held while a step is judged.
    state: Mutex<Option<State>>,
    /// Steps in the actor's mailbox, or in its hands.
    n_queued: AtomicUsize,
    /// Whether the Verifier wants to hear of the first step.
    waits: AtomicBool,
    /// Whether guesses take long.
    has_slow: AtomicBool,
}

struct State {
    node: NodeId,
    link: Arc<dyn Link>,
    verified: Verified,
}

impl Judge {
    /// One that judges nothing before its Verifier lives.
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn open(
        &self,
        verifier: ActorRef<VerifierMessage>,
        (node, link): (NodeId, Arc<dyn Link>),
        verified: Verified,
        waits: bool,
    ) {
        self.waits.store(waits, Ordering::Release);
        *self.lock() = Some(State {
            node,
            link,
            verified,
        });
        *self.verifier() = Some(verifier);
    }

    /// Judges nothing more.
    pub(super) fn close(&self) {
        *self.verifier() = None;
        *self.lock() = None;
    }

    /// Takes what guesses from now on. The Planner is told where it could not be loaded: without it there is
    /// less speed, and the same text.
    pub(super) fn equip(&self, kind: DraftKind, heads: jupiter_models::Result<Heads>) {
        let mut lock = self.lock();
        // A Verifier that has ended has nobody to guess for.
        let Some(state) = lock.as_mut() else {
            return;
        };
        match heads {
            Ok(heads) => {
                let is_slow = state.verified.guesser.equip(heads);
                self.has_slow.store(is_slow, Ordering::Release);
            }
            Err(error) => {
                state.verified.guesser.lose();
                state.tell_down(kind, error.to_string());
            }
        }
    }

    /// Whether judging the step takes so long that the last stage never does it itself.
    pub(super) fn is_slow(&self, step: &ComputedStep) -> bool {
        let guesses = step.header.drafts.iter().any(|rows| rows.n_places > 0);
        guesses && self.has_slow.load(Ordering::Acquire)
    }

    /// From the last stage's thread, `is_idle` when no other step waits for it: judges the step, or
    /// has it judged. Whether the Verifier lives.
    pub(crate) fn take(&self, step: ComputedStep, is_idle: bool) -> bool {
        let Some(verifier) = self.verifier().clone() else {
            return false;
        };
        if self.waits.swap(false, Ordering::AcqRel) {
            let _ = verifier.cast(VerifierMessage::Begun);
        }
        if !is_idle || self.n_queued.load(Ordering::Acquire) > 0 || self.is_slow(&step) {
            self.n_queued.fetch_add(1, Ordering::AcqRel);
            return verifier.cast(VerifierMessage::Step(Box::new(step))).is_ok();
        }
        let mut lock = self.lock();
        let Some(state) = lock.as_mut() else {
            return false;
        };
        let judged = catch_unwind(AssertUnwindSafe(|| state.judge(step, true)));
        if judged.is_ok() {
            return true;
        }
        // Half of a judgement is none: the Verifier starts anew.
        let died = VerifierMessage::Died("judging a step panicked".into());
        lock.take().is_some_and(|_| verifier.cast(died).is_ok())
    }

    /// From the actor: judges a step that was in its mailbox.
    pub(super) fn judge_queued(&self, step: ComputedStep) {
        if let Some(state) = self.lock().as_mut() {
            state.judge(step, false);
        }
        self.n_queued.fetch_sub(1, Ordering::AcqRel);
    }

    fn verifier(&self) -> MutexGuard<'_, Option<ActorRef<VerifierMessage>>> {
        self.verifier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_down(&self, source: DraftKind, why: String) {
        let node = self.node.clone();
        send_report(
            self.link.as_ref(),
            NodeReport::DraftsDown { node, source, why },
        );
    }

    /// Judges a step and reports; a thread that `may_wait` for the network sends itself.
    fn judge(&mut self, ComputedStep { header, logits }: ComputedStep, may_wait: bool) {
        let epoch = header.epoch;
        let link = self.link.as_ref();
        let verified = self.verified.verify(header, &logits);
        if let Some((source, why)) = self.verified.heads_failure.take() {
            self.tell_down(source, why);
        }
        match verified {
            Ok(report) => {
                let to = Address::Accept { epoch };
                let report = Message::Report(report);
                let sent = match may_wait {
                    true => send_from_own_thread(link, &to, &report),
                    false => send_message(link, &to, &report),
                };
                if let Err(error) = sent {
                    tracing::warn!(%error, "could not send a step report");
                }
            }
            Err(what) => {
                let fault = NodeReport::StepFault {
                    epoch: Some(epoch),
                    node: self.node.clone(),
                    what,
                };
                send_report(link, fault);
            }
        }
    }
}
