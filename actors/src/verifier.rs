//! The Verifier: turns logits into accepted tokens.
//!
//! Spawned by the [Supervisor](crate::supervisor) beside the last stage, which gives each step's
//! logits to its [`Judge`], so they never cross the network. It samples, accepts or rejects the
//! drafted tokens of each sequence, and answers the Planner over the [`Link`]. All that it knows of a
//! sequence came in [`SequenceOpen`]: lose it, and the next epoch opens the sequence again.

mod heads;
mod judge;
mod rules;
mod untold;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jupiter_models::engine::Logits;
use jupiter_models::sampling::Sampler;
use jupiter_models::text::Vocabulary;
use jupiter_models::{KvOp, ModelError, SequenceId};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::heads::Guesser;
pub(crate) use self::judge::{Judge, Verifiers};
use self::rules::TargetSampler;
use crate::factory::{Heads, StageFactory, ThreadGuard};
use crate::link::Link;
use crate::message::{
    Acceptance, DraftKind, DraftRows, HeadsId, HeadsTiming, SequenceFailure, SequenceOpen,
    StageAssignment, StepHeader, StepReport,
};
use crate::speculation::accept::{AcceptanceRule, Verdict};
use crate::speculation::inflight::VerifierGate;
use crate::speculation::tree::DraftTree;
use crate::{NodeId, PlanEpoch};

/// What a Verifier is told.
pub enum VerifierMessage {
    /// From the last stage, which computes something else already: a step to judge.
    Step(Box<ComputedStep>),
    /// From the last stage: it has computed its first step, so what it needs of the memory it has.
    Begun,
    /// From the last stage: judging failed on its thread, and why. The actor fails with it, and is
    /// restarted.
    Died(String),
}

/// A step's logits, in the order of its rows that want them.
pub struct ComputedStep {
    /// The step.
    pub header: StepHeader,
    /// (n_rows, n_vocab), f32.
    pub logits: Logits,
}

/// What a Verifier is made of.
pub struct VerifierArgs {
    pub(crate) node: NodeId,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) factory: Arc<dyn StageFactory>,
    pub(crate) assignment: StageAssignment,
    pub(crate) judge: Arc<Judge>,
    /// Held by threads that load or judge beside the actor.
    pub(crate) guards: [ThreadGuard; 2],
}

/// The actor; its state is [`VerifierState`].
pub struct Verifier;

/// A living Verifier.
pub struct VerifierState {
    own: Own,
    /// None when it is stopped: the state outlives the actor, in the mailbox of the Supervisor.
    guards: Option<[ThreadGuard; 2]>,
}

/// What threads beside the actor need of it.
#[derive(Clone)]
struct Own {
    factory: Arc<dyn StageFactory>,
    assignment: StageAssignment,
    judge: Arc<Judge>,
}

impl Drop for VerifierState {
    /// Stages still know the judge of a Verifier that failed or was killed.
    fn drop(&mut self) {
        self.own.judge.close();
    }
}

/// What a living Verifier knows.
struct Verified {
    vocabulary: Arc<Vocabulary>,
    guesser: Guesser,
    /// Why what guesses failed since it was loaded, until somebody is told.
    heads_failure: Option<(DraftKind, String)>,
    epoch: PlanEpoch,
    sequences: HashMap<SequenceId, VerifiedSequence>,
}

struct VerifiedSequence {
    target: TargetSampler,
    rule: AcceptanceRule,
    /// None before its first rows.
    gate: Option<VerifierGate>,
}

impl Actor for Verifier {
    type Msg = VerifierMessage;
    type State = VerifierState;
    type Arguments = VerifierArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<VerifierMessage>,
        args: VerifierArgs,
    ) -> Result<VerifierState, ActorProcessingErr> {
        let own = Own {
            factory: args.factory,
            assignment: args.assignment,
            judge: args.judge,
        };
        // A block takes memory, which is the stage's first.
        let is_late = matches!(own.assignment.heads, Some(HeadsId::Mtp));
        let loading = own.clone();
        let load = move || {
            let vocabulary = loading.factory.vocabulary(&loading.assignment)?;
            let heads = if is_late { None } else { loading.heads() };
            jupiter_models::Result::Ok((vocabulary, heads))
        };
        let (vocabulary, heads) = tokio::task::spawn_blocking(load).await??;
        let verified = Verified {
            guesser: Guesser::new(is_late),
            heads_failure: None,
            vocabulary,
            epoch: PlanEpoch::default(),
            sequences: HashMap::new(),
        };
        own.judge
            .open(myself, (args.node, args.link), verified, is_late);
        if let Some((kind, heads)) = heads {
            own.judge.equip(kind, heads);
        }
        Ok(VerifierState {
            own,
            guards: Some(args.guards),
        })
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<VerifierMessage>,
        state: &mut VerifierState,
    ) -> Result<(), ActorProcessingErr> {
        state.own.judge.close();
        state.guards = None;
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<VerifierMessage>,
        message: VerifierMessage,
        VerifierState { own, guards }: &mut VerifierState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            VerifierMessage::Step(step) if own.judge.is_slow(&step) => {
                let (own, guards) = (own.clone(), guards.clone());
                let judge = move || {
                    own.judge.judge_queued(*step);
                    drop(guards);
                };
                tokio::task::spawn_blocking(judge).await?;
            }
            VerifierMessage::Step(step) => own.judge.judge_queued(*step),
            VerifierMessage::Begun => {
                let (own, guards) = (own.clone(), guards.clone());
                tokio::task::spawn_blocking(move || {
                    if let Some((kind, heads)) = own.heads() {
                        own.judge.equip(kind, heads);
                    }
                    drop(guards);
                });
            }
            VerifierMessage::Died(why) => return Err(why.into()),
        }
        Ok(())
    }
}

impl Own {
    /// Loads what guesses beside the Verifier. Blocks.
    fn heads(&self) -> Option<(DraftKind, jupiter_models::Result<Heads>)> {
        let id = self.assignment.heads.as_ref()?;
        let load = || self.factory.heads(id, &self.assignment);
        let heads = catch_unwind(AssertUnwindSafe(load));
        let heads = heads.unwrap_or_else(|_| {
            let what = "loading it panicked".to_owned();
            Err(ModelError::Llama { what })
        });
        Some((id.kind(), heads))
    }
}

impl Verified {
    fn verify(&mut self, mut header: StepHeader, logits: &Logits) -> Result<StepReport, String> {
        if header.epoch != self.epoch {
            self.epoch = header.epoch;
            self.sequences.clear();
            self.guesser.clear();
        }
        for op in &header.kv_ops {
            if let KvOp::Drop { seq } = op {
                self.sequences.remove(seq);
            }
        }
        self.guesser.take_step(&header, &logits.states);
        let mut failures = self.open_all(std::mem::take(&mut header.opens));
        // The stage is in this process: anything else is a broken invariant, not a peer's fault.
        let n_wanted = header.rows.iter().filter(|row| row.wants_logits).count();
        assert_eq!(logits.n_rows, n_wanted, "rows of logits of {}", header.step);
        let mut judged = Vec::new();
        for draft in &header.drafts {
            let seq = draft.seq;
            if failures.iter().any(|failure| failure.seq == seq) {
                continue;
            }
            let draft = JudgedDraft::new(&header, draft, logits)?;
            let Some(sequence) = self.sequences.get_mut(&seq) else {
                return Err(format!(
                    "{}: rows of sequence {seq}, not opened",
                    header.step
                ));
            };
            match sequence.judge(&draft) {
                Ok(verdict) => judged.extend(verdict.map(|verdict| (draft, verdict))),
                Err(why) => failures.push(SequenceFailure { seq, why }),
            }
        }
        let (acceptances, heads) = self.accept(&judged);
        let (step, epoch, timings) = (header.step, header.epoch, header.timings);
        Ok(StepReport {
            epoch,
            step,
            acceptances,
            failures,
            timings,
            heads,
        })
    }

    /// What was judged, with guesses at what follows; and what these took.
    fn accept(&mut self, judged: &[(JudgedDraft<'_>, Verdict)]) -> (Vec<Acceptance>, HeadsTiming) {
        for (draft, verdict) in judged {
            self.guesser.take_verdict(draft, verdict);
        }
        let guesses = self.guesser.guess(judged).unwrap_or_else(|error| {
            let failed = self.guesser.lose();
            self.heads_failure = failed.map(|kind| (kind, error.to_string()));
            (vec![Vec::new(); judged.len()], HeadsTiming::default())
        });
        let (guesses, heads) = guesses;
        let acceptances = judged
            .iter()
            .zip(guesses)
            .map(|((draft, verdict), guesses)| {
                let last = verdict.path.last();
                Acceptance {
                    seq: draft.rows.seq,
                    pos: draft.root.0,
                    last: last.map_or(0, |&at| at as u16 + 1),
                    next_token: verdict.next.token,
                    is_eog: verdict.next.ends,
                    guesses,
                }
            });
        (acceptances.collect(), heads)
    }

    /// Opens sequences; those that cannot be.
    fn open_all(&mut self, opens: Vec<SequenceOpen>) -> Vec<SequenceFailure> {
        let mut failures = Vec::new();
        for open in opens {
            let seq = open.seq;
            match self.open(open) {
                Ok(sequence) => {
                    self.sequences.insert(seq, sequence);
                }
                Err(why) => failures.push(SequenceFailure { seq, why }),
            }
        }
        failures
    }

    fn open(&self, open: SequenceOpen) -> Result<VerifiedSequence, String> {
        let sampler = Sampler::new(
            &self.vocabulary,
            &open.sampling,
            &open.prompt,
            &open.generated,
        );
        let sampler = sampler.map_err(|error| error.to_string())?;
        Ok(VerifiedSequence {
            target: TargetSampler::new(sampler, self.vocabulary.clone(), open.ignore_eos),
            rule: open.rule,
            gate: None,
        })
    }
}

/// A root and its guesses, with the logits of their rows.
struct JudgedDraft<'a> {
    rows: &'a DraftRows,
    /// Position and token of the root.
    root: (u32, jupiter_models::Token),
    tree: DraftTree,
    logits: &'a Logits,
    /// Place of the root's logits.
    first_logits: usize,
}

impl<'a> JudgedDraft<'a> {
    /// # Errors
    /// When the message says what cannot be: rows that are not there, or a tree that is none.
    fn new(header: &StepHeader, rows: &'a DraftRows, logits: &'a Logits) -> Result<Self, String> {
        let bad = |what: &dyn std::fmt::Display| {
            format!(
                "{}: rows to judge of sequence {}: {what}",
                header.step, rows.seq
            )
        };
        let Some([root, guesses @ ..]) = header.rows.get(rows.rows()) else {
            return Err(bad(&"they are not in the step"));
        };
        if !header.rows[rows.rows()].iter().all(|row| row.wants_logits) {
            return Err(bad(&"they have no logits"));
        }
        let mut tree = DraftTree::new();
        for (guess, &parent) in guesses.iter().zip(&rows.parents) {
            let parent = (parent as usize).checked_sub(1);
            let pushed = tree.push(parent, guess.token, None);
            pushed.map_err(|error| bad(&error))?;
        }
        let before = &header.rows[..rows.first_row as usize];
        Ok(Self {
            rows,
            root: (root.pos, root.token),
            tree,
            logits,
            first_logits: before.iter().filter(|row| row.wants_logits).count(),
        })
    }

    /// Place of the logits after a guess; none: after the root.
    fn logits_at(&self, guess: Option<usize>) -> usize {
        self.first_logits + guess.map_or(0, |at| at + 1)
    }

    /// What the output head saw after a guess; none: after the root.
    fn state(&self, guess: Option<usize>) -> Option<&[f32]> {
        let row = guess.map_or(0, |at| at + 1);
        self.logits.states.of(self.rows.first_row as usize + row)
    }

    /// Logits after a guess; none: after the root.
    fn logits(&self, guess: Option<usize>) -> &[f32] {
        self.logits.row(self.logits_at(guess))
    }
}

impl VerifiedSequence {
    /// What is accepted; none for rows that are dead.
    fn judge(&mut self, draft: &JudgedDraft<'_>) -> Result<Option<Verdict>, String> {
        let (pos, token) = draft.root;
        let generation = draft.rows.generation;
        let gate = self.gate.get_or_insert(VerifierGate::new(generation));
        if !gate
            .admit(generation, pos, token)
            .map_err(|error| error.to_string())?
        {
            return Ok(None);
        }
        let verdict = self
            .target
            .judge(self.rule, &draft.tree, |at| draft.logits(at))
            .map_err(|error| error.to_string())?;
        gate.judged(pos, draft.tree.len() + 1, verdict.path.len(), verdict.next);
        Ok(Some(verdict))
    }
}
