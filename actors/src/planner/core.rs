//! The Planner's state machine, without actors, clocks or sockets: events go in with the time,
//! messages come out. It outlives the actor, so a Planner that panics loses no token.

mod admission;
#[cfg(debug_assertions)]
mod conserved;
mod drafting;
mod epochs;
mod held;
mod moves;
mod requests;
mod target;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jupiter_models::engine::EngineMemory;
use jupiter_models::{KvOp, SequenceId};

use self::held::Held;
use self::moves::{Cause, Moves};
use self::target::Target;
use super::cache::PromptCache;
use super::expansion::Expansion;
use super::fleet::{Fleet, MeasuredPlan, NodeProfile};
use super::flight::{Flight, SentStep};
use super::pacing::Pacing;
use super::placement::PlacedStage;
use super::schedule::{Resources, next_batch};
use super::sequence::{Role, Sequence, Waiting};
use super::speculator::Available;
use super::step_times::StepTimes;
use super::trace::{StepTrace, Trace};
use super::{ClusterStatus, PlannerConfig, StageStatus};
use crate::link::Address;
use crate::message::{Acceptance, Message, StepBatch, StepHeader, StepReport};
use crate::request::{Completion, EventSink, FinishReason, RequestError, StageUsage, StreamEvent};
use crate::speculation::accept::Next;
use crate::speculation::inflight::StepVerdict;
use crate::{NodeId, PlanEpoch, StepId};

/// What the Planner knows and decides.
pub(super) struct PlannerCore {
    config: PlannerConfig,
    epoch: PlanEpoch,
    phase: Phase,
    nodes: BTreeSet<NodeId>,
    /// Nodes that were given stages, until they are told to free them.
    assigned: BTreeSet<NodeId>,
    stages: Vec<PlacedStage>,
    /// What was measured of the nodes.
    fleet: Fleet,
    /// The plan in force by what was measured, where that is known.
    plan: Option<Arc<MeasuredPlan>>,
    /// How work is cut for the stages.
    pacing: Pacing,
    /// Where the stages should be, until nodes or measurements change.
    target: Option<Target>,
    /// When the stages go where they should be.
    moves: Moves,
    /// Whether a model has run: after that, any number of nodes is enough to go on.
    has_run: bool,
    ready: BTreeMap<u32, EngineMemory>,
    waiting: VecDeque<Waiting>,
    live: Vec<Sequence>,
    /// Requests of several branches that are among the live ones.
    expansions: Vec<Expansion>,
    cache: PromptCache,
    /// Complete answers whose cells are held for what follows them.
    held: Vec<Held>,
    /// Whether a waiting branch is next, or the request that waits longest.
    branches_turn: bool,
    /// Slots of requests.
    free: Vec<SequenceId>,
    /// Slots of branches of requests.
    branch_slots: Vec<SequenceId>,
    /// For trees of guesses: never given to a request.
    spare: Vec<SequenceId>,
    /// For each slot, the generation of rows that its next holder begins with.
    generations: Vec<u32>,
    /// Sources of guesses that compute, as long as they do.
    available: Available,
    /// Whether the draft model is loaded for this epoch.
    drafter_is_ready: bool,
    /// Whether the draft model is of no use.
    draft_failed: bool,
    /// How often guesses of the draft model came too late.
    n_late_drafts: u32,
    /// What decode steps take.
    times: StepTimes,
    /// KV operations that ride with the next step.
    kv_ops: Vec<KvOp>,
    flight: Flight,
    trace: Trace,
    last_fault: String,
    outbox: Vec<(Address, Message)>,
    /// What clients are to be told.
    news: Vec<(EventSink, StreamEvent)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Too few nodes.
    Waiting { since: Instant },
    /// Stages load or clear.
    Loading { since: Instant, asked: Instant },
    /// Steps flow.
    Running,
    /// The model cannot run on the nodes there are.
    Failed { why: String },
}

impl PlannerCore {
    pub(super) fn new(config: PlannerConfig, now: Instant) -> Self {
        let timeout = Duration::from_millis(config.step_timeout_ms);
        let mut core = Self {
            flight: Flight::new(timeout, now),
            epoch: PlanEpoch::default(),
            phase: Phase::Waiting { since: now },
            nodes: BTreeSet::new(),
            assigned: BTreeSet::new(),
            stages: Vec::new(),
            fleet: Fleet::new(&config),
            plan: None,
            pacing: Pacing::equal(config.chunk),
            target: None,
            moves: Moves::default(),
            has_run: false,
            ready: BTreeMap::new(),
            waiting: VecDeque::new(),
            live: Vec::new(),
            expansions: Vec::new(),
            cache: PromptCache::default(),
            held: Vec::new(),
            branches_turn: true,
            free: (0..config.n_parallel).rev().map(SequenceId).collect(),
            branch_slots: config.branch_slots().rev().map(SequenceId).collect(),
            spare: Vec::new(),
            generations: Vec::new(),
            available: Available {
                medusa: config.medusa.is_some(),
                // When the Drafter is ready.
                model: false,
            },
            drafter_is_ready: false,
            draft_failed: false,
            n_late_drafts: 0,
            times: StepTimes::default(),
            kv_ops: Vec::new(),
            trace: Trace::default(),
            last_fault: String::new(),
            outbox: Vec::new(),
            news: Vec::new(),
            config,
        };
        core.forget_generations();
        core
    }

    /// What has to be sent since the last call.
    pub(super) fn take_outbox(&mut self) -> Vec<(Address, Message)> {
        #[cfg(debug_assertions)]
        self.assert_conserved();
        std::mem::take(&mut self.outbox)
    }

    /// Tells the clients what happened since the last call. Comes after the messages: it wakes threads,
    /// and stages are not to wait for them.
    pub(super) fn tell_clients(&mut self) {
        for (sink, event) in self.news.drain(..) {
            // A client that is gone needs no word of it.
            let _ = sink.send(event);
        }
    }

    /// Sends micro-batches while there are credits and rows.
    fn pump(&mut self, now: Instant) {
        self.settle_expansions(now);
        if self.phase != Phase::Running {
            return;
        }
        self.admit(now);
        let n_alike = self.n_alike();
        while self.flight.has_credit() {
            let n_cells = self.n_cells();
            let mut resources = Resources {
                pacing: &self.pacing,
                times: &self.times,
                n_alike,
                n_decoding: self.flight.n_decoding(),
                n_stages: self.stages.len(),
                n_cells,
                step: self.flight.next_step(),
                spare: &mut self.spare,
                wishes: Vec::new(),
            };
            let batch = next_batch(&mut self.live, &mut resources);
            let wishes = resources.wishes;
            self.ask_drafter(wishes, now);
            let Some(batch) = batch else {
                return;
            };
            let step = self.flight.send(batch.parts, batch.work, now);
            let mut kv_ops = std::mem::take(&mut self.kv_ops);
            kv_ops.extend(batch.kv_ops);
            let header = StepHeader {
                epoch: self.epoch,
                step,
                stage: 0,
                kv_ops,
                opens: batch.opens,
                rows: batch.rows,
                drafts: batch.drafts,
                payload_dtype: self.config.payload_dtype,
                n_embd: 0,
                timings: Vec::new(),
            };
            let to = Address::Stage {
                epoch: self.epoch,
                stage: 0,
            };
            let step = StepBatch {
                header,
                payload: Vec::new(),
            };
            self.outbox.push((to, Message::Step(step)));
        }
    }

    /// Sequences that decode in one micro-batch, when each has as many rows as the others.
    fn n_alike(&self) -> usize {
        let texts = self
            .live
            .iter()
            .filter(|s| s.has_answer())
            .map(|s| s.tokens.len());
        let (n_decoding, n_tokens) = (texts.clone().count(), texts.sum::<usize>());
        let context = n_tokens.checked_div(n_decoding).unwrap_or_default();
        let best = self
            .times
            .n_alike(n_decoding as u32, context as u32, self.n_cells() as u32);
        (best as usize).min(self.pacing.largest())
    }

    pub(super) fn report(&mut self, report: StepReport, now: Instant) {
        if report.epoch != self.epoch || self.phase != Phase::Running {
            return;
        }
        let done = match self.flight.report(report.step, &report.timings, now) {
            Ok(None) => return,
            Ok(Some(done)) => done,
            Err(expected) => {
                let what = format!("report of {} came, {expected} expected", report.step);
                return self.recover(&what, now);
            }
        };
        self.trace.record(self.epoch, &done, &report.timings, now);
        self.credit_usage(&done, &report);
        self.observe(&done, &report, now);
        for failure in &report.failures {
            if let Some(at) = self.holder(failure.seq, &done) {
                self.fail(at, &RequestError::Invalid(failure.why.clone()));
            }
        }
        for part in done.parts.iter().filter(|part| part.is_judged) {
            let Some(at) = self.live.iter().position(|s| s.request == part.request) else {
                continue;
            };
            let seq = self.live[at].seq;
            let acceptance = report.acceptances.iter().find(|a| a.seq == seq);
            if let Err(error) = self.judged(at, report.step, acceptance, now) {
                return self.recover(&error.to_string(), now);
            }
        }
        self.pump(now);
    }

    /// The live sequence that a step computed in slot `seq`; the slot may have another holder since
    /// the step was sent.
    fn holder(&self, seq: SequenceId, done: &SentStep) -> Option<usize> {
        let asked = |s: &Sequence| done.parts.iter().any(|part| part.request == s.request);
        self.live.iter().position(|s| s.seq == seq && asked(s))
    }

    /// What the Verifier made of a sequence's rows in `step`; none: they were dead.
    fn judged(
        &mut self,
        at: usize,
        step: StepId,
        acceptance: Option<&Acceptance>,
        now: Instant,
    ) -> crate::speculation::Result<()> {
        let sequence = &mut self.live[at];
        let verdict = acceptance.map(|acceptance| StepVerdict {
            pos: acceptance.pos,
            last: acceptance.last,
            next: Next {
                token: acceptance.next_token,
                ends: acceptance.is_eog,
            },
        });
        let outcome = sequence.steps.report(step.0, verdict)?;
        self.kv_ops.extend(&outcome.kv_ops);
        self.spare.extend(&outcome.spare);
        let Some(acceptance) = acceptance.filter(|_| outcome.is_live) else {
            return Ok(());
        };
        sequence.n_stalled = 0;
        let role = sequence.role;
        sequence.first_token.get_or_insert(now);
        sequence.speculator.learn(&outcome);
        sequence.speculator.take_guesses(&acceptance.guesses);
        for &token in &outcome.accepted {
            sequence.tokens.push(token);
            if sequence.sink.is_closed() {
                self.retire(at);
                return Ok(());
            }
            let news = (sequence.sink.clone(), StreamEvent::Token(token));
            self.news.push(news);
        }
        let is_under_way = usize::from(sequence.steps.n_live() == 0 && !outcome.ends);
        sequence.n_sent = sequence.tokens.len() - is_under_way;
        if outcome.cancel.is_some() {
            self.cancel_rows(at);
        }
        if let Role::Branch { of, .. } = role
            && let Some(base) = self.live.iter_mut().find(|s| s.request == of)
        {
            base.n_stalled = 0;
        }
        if !outcome.ends {
            self.grow(at, now);
        }
        let sequence = &self.live[at];
        if outcome.ends {
            let end = StreamEvent::End(acceptance.next_token);
            self.news.push((sequence.sink.clone(), end));
            self.complete(at, FinishReason::Stop, now);
        } else if sequence.tokens.len() >= sequence.n_max {
            self.complete(at, FinishReason::Length, now);
        } else {
            self.choose_guesses(at, now);
        }
        Ok(())
    }

    /// Shares a step's engine time among its requests by their rows.
    fn credit_usage(&mut self, done: &SentStep, report: &StepReport) {
        let n_rows: usize = done.parts.iter().map(|part| part.n_rows).sum();
        for part in &done.parts {
            let Some(sequence) = self.live.iter_mut().find(|s| s.request == part.request) else {
                continue;
            };
            let usage = &mut sequence.usage;
            let busy = if part.is_prompt {
                &mut usage.prompt_us
            } else {
                &mut usage.eval_us
            };
            busy.resize(self.stages.len().max(busy.len()), 0.0);
            for timing in &report.timings {
                if let Some(busy) = busy.get_mut(timing.stage as usize) {
                    *busy += timing.busy_us as f64 * part.n_rows as f64 / n_rows as f64;
                }
            }
        }
    }

    fn completion(&self, sequence: &Sequence, reason: FinishReason, now: Instant) -> Completion {
        let first = sequence.first_token.unwrap_or(now);
        let ms = |us: &[f64], stage: usize| us.get(stage).copied().unwrap_or(0.0) / 1e3;
        let stages = self.stages.iter().enumerate().map(|(i, stage)| StageUsage {
            node: stage.node.clone(),
            layers: stage.layers,
            prompt_busy_ms: ms(&sequence.usage.prompt_us, i),
            eval_busy_ms: ms(&sequence.usage.eval_us, i),
        });
        Completion {
            reason,
            limit: (reason == FinishReason::Length).then_some(sequence.limit),
            n_prompt: sequence.n_prompt as u32,
            n_cached: sequence.n_cached as u32,
            n_eval: (sequence.tokens.len() - sequence.n_prompt) as u32,
            prompt_ms: first.duration_since(sequence.admitted).as_secs_f64() * 1e3,
            eval_ms: now.duration_since(first).as_secs_f64() * 1e3,
            n_replays: sequence.n_replays,
            stages: stages.collect(),
            speculation: sequence
                .speculator
                .is_asked()
                .then(|| sequence.speculator.usage()),
            outline: None,
        }
    }

    /// Compares what the step took with its prediction.
    fn observe(&mut self, done: &SentStep, report: &StepReport, now: Instant) {
        if !done.is_whole() {
            return;
        }
        if done.work.logits == done.work.rows {
            let alone_for = done.alone.then(|| now.duration_since(done.sent));
            let has_heads = report.acceptances.iter().any(|a| !a.guesses.is_empty());
            self.times
                .observe(done.work, &report.timings, alone_for, has_heads);
        }
        let Some(plan) = self.plan.clone().filter(|_| self.config.adapts) else {
            return;
        };
        if self.fleet.observe(&plan, done.work, &report.timings) {
            self.target = None;
            self.moves.want(Cause::Speed);
        }
    }

    pub(super) fn measured(&mut self, profile: NodeProfile) {
        self.fleet.learn(profile);
        self.target = None;
    }

    /// The steps that were kept so far; see [`Trace::take`].
    pub(super) fn take_trace(&mut self, unix_us: Option<u64>, now: Instant) -> Vec<StepTrace> {
        self.trace.take(unix_us, now)
    }

    pub(super) fn status(&self) -> ClusterStatus {
        let stages = self
            .stages
            .iter()
            .enumerate()
            .map(|(i, stage)| StageStatus {
                stage: i as u32,
                node: stage.node.clone(),
                layers: stage.layers,
                memory: self.ready.get(&(i as u32)).copied(),
            });
        ClusterStatus {
            epoch: self.epoch,
            phase: match &self.phase {
                Phase::Waiting { .. } => super::ClusterPhase::Waiting,
                Phase::Loading { .. } => super::ClusterPhase::Loading,
                Phase::Running => super::ClusterPhase::Running,
                Phase::Failed { why } => super::ClusterPhase::Failed(why.clone()),
            },
            nodes: self.nodes.iter().cloned().collect(),
            stages: stages.collect(),
            n_live: self.live.iter().filter(|s| s.is_request()).count(),
            n_waiting: self.waiting.len(),
            steps: self.flight.stats().clone(),
            plan: self.plan.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
