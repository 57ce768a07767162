//! Steps: what is sent, and what their reports mean.

use std::time::Instant;

use jupiter_models::{SequenceId, Token};

use super::super::batching::{Progress, next_batch};
use super::super::cluster::State;
use super::super::fault;
use super::super::flight::SentStep;
use super::super::live::Live;
use super::PlannerCore;
use crate::link::Address;
use crate::message::{Acceptance, Message, StepBatch, StepHeader, StepReport};
use crate::planner::Schedule;
use crate::request::{FinishReason, RequestError, StreamEvent};
use crate::speculation::accept::Next;
use crate::speculation::inflight::StepVerdict;
use crate::{RequestId, StepId};

/// What comes after rows that were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// More of the text: it is time to choose guesses.
    GoesOn,
    /// The text has ended, or the rows were dead.
    Nothing,
}

impl PlannerCore {
    /// Sends micro-batches while there are credits and rows.
    pub(super) fn pump(&mut self, now: Instant) {
        if self.cluster.state != State::Running {
            return;
        }
        self.admit(now);
        while self.flight.has_credit() && self.live.values().any(Live::may_send) {
            self.make_room();
            let progress = self.progress(now);
            let (batch, wishes) =
                next_batch(&mut self.live, &mut self.kv, &self.batching, &progress);
            self.ask_drafter(wishes, now);
            let Some(batch) = batch else {
                return;
            };
            fault::point();
            let step = self.flight.send(batch.parts, batch.work, now);
            let epoch = self.cluster.epoch;
            let header = StepHeader {
                epoch,
                step,
                stage: 0,
                kv_ops: self.kv.take_ops(),
                opens: batch.opens,
                rows: batch.rows,
                drafts: batch.drafts,
                payload_dtype: self.config.payload_dtype,
                n_embd: 0,
                timings: Vec::new(),
            };
            let payload = Vec::new();
            let step = StepBatch { header, payload };
            let to = Address::Stage { epoch, stage: 0 };
            self.outbox.push((to, Message::Step(step)));
        }
    }

    pub(super) fn progress(&self, now: Instant) -> Progress {
        Progress {
            step: self.flight.next_step(),
            n_stages: self.cluster.stages.len(),
            under_way: self.flight.under_way(now),
            n_decode_steps: self.flight.n_decoding(),
            n_cells: self.n_cells(),
            n_cached: self.kv.n_cached(),
            n_queued: self.n_queued(),
        }
    }

    /// Rows of prompts that wait for a slot, for the rule that asks for them.
    fn n_queued(&self) -> usize {
        match self.batching.scheduling.schedule {
            Schedule::Throttle => self.queue.requests().map(|r| r.tokens.len()).sum(),
            Schedule::Auto | Schedule::Chunked => 0,
        }
    }

    pub(in crate::planner) fn report(&mut self, report: StepReport, now: Instant) {
        if report.epoch != self.cluster.epoch || self.cluster.state != State::Running {
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
        fault::point();
        self.trace
            .record(self.cluster.epoch, &done, &report.timings, now);
        let n_stages = self.cluster.stages.len();
        for (id, share) in done.shares() {
            if let Some(live) = self.live.get_mut(&id) {
                live.sequence.usage.credit(share, &report.timings, n_stages);
                live.chunks_reported(report.step);
            }
        }
        self.observe(&done, &report, now);
        self.pace.observe(&done.parts, done.sent, now);
        for failure in &report.failures {
            if let Some(id) = self.holder(failure.seq, &done) {
                let why = failure.why.clone();
                self.fail(id, &RequestError::Unverifiable { why });
            }
        }
        let mut go_on = Vec::new();
        for part in done.parts.iter().filter(|part| part.is_judged) {
            let Some(live) = self.live.get(&part.request) else {
                continue;
            };
            let acceptance = report.acceptances.iter().find(|a| a.seq == live.seq);
            match self.judged(part.request, report.step, acceptance, now) {
                Ok(After::GoesOn) => go_on.push(part.request),
                Ok(After::Nothing) => {}
                Err(error) => return self.recover(&error.to_string(), now),
            }
        }
        self.choose_guesses(&go_on, now);
        self.pump(now);
    }

    /// The live sequence that a step computed in slot `seq`; the slot may have another holder since
    /// the step was sent.
    fn holder(&self, seq: SequenceId, done: &SentStep) -> Option<RequestId> {
        let mut asked = done.parts.iter().map(|part| part.request);
        asked.find(|id| self.live.get(id).is_some_and(|live| live.seq == seq))
    }

    /// What the Verifier made of a sequence's rows in `step`; none: they were dead.
    fn judged(
        &mut self,
        id: RequestId,
        step: StepId,
        acceptance: Option<&Acceptance>,
        now: Instant,
    ) -> crate::speculation::Result<After> {
        let Some(live) = self.live.get_mut(&id) else {
            return Ok(After::Nothing);
        };
        let verdict = acceptance.map(|acceptance| StepVerdict {
            pos: acceptance.pos,
            last: acceptance.last,
            next: Next {
                token: acceptance.next_token,
                ends: acceptance.is_eog,
            },
        });
        let outcome = live.steps.report(step.0, verdict)?;
        self.kv.take_back(&outcome.draft_seqs);
        self.kv.do_later(outcome.kv_ops.clone());
        let Some(acceptance) = acceptance.filter(|_| outcome.is_live) else {
            return Ok(After::Nothing);
        };
        let sequence = &mut live.sequence;
        sequence.n_stalled = 0;
        sequence.first_token.get_or_insert(now);
        live.drafting.speculator.learn(&outcome);
        live.drafting.speculator.take_guesses(&acceptance.guesses);
        if sequence.sink.is_closed() {
            self.retire(id);
            return Ok(After::Nothing);
        }
        let tokens = outcome.accepted.iter();
        let news = tokens.map(|&token| (sequence.sink.clone(), StreamEvent::Token(token)));
        self.news.extend(news);
        sequence.tokens.extend(&outcome.accepted);
        self.pace.n_answer_tokens += outcome.accepted.len() as u64;
        self.lengths.grew(outcome.accepted.len());
        let is_under_way = live.steps.n_live() > 0 || outcome.ends;
        live.n_computed = sequence.tokens.len() - usize::from(!is_under_way);
        let end = outcome.ends.then_some(acceptance.next_token);
        Ok(self.go_on(id, outcome.cancel.is_some(), end, now))
    }

    /// What follows from the tokens that a sequence got: what is behind them may be dead, or `end` have
    /// ended the text.
    fn go_on(&mut self, id: RequestId, is_dead: bool, end: Option<Token>, now: Instant) -> After {
        fault::point();
        if is_dead {
            self.cancel_rows(id, StepId::default());
        }
        let reason = match end {
            Some(_) => FinishReason::Stop,
            None if self.live.get(&id).is_some_and(Live::is_full) => FinishReason::Length,
            None => return After::GoesOn,
        };
        self.complete(id, reason, end, now);
        After::Nothing
    }

    /// Compares what the step took with its prediction.
    fn observe(&mut self, done: &SentStep, report: &StepReport, now: Instant) {
        if !done.is_whole() {
            return;
        }
        let times = &mut self.batching.times;
        if done.work.logits == done.work.rows {
            let alone_for = done.alone.then(|| now.duration_since(done.sent));
            times.observe(done.work, &report.timings, alone_for, report.heads);
        } else {
            times.observe_mixed(done.work, &report.timings);
        }
        if self.config.adapts {
            self.cluster.observe(done.work, &report.timings);
        }
    }
}
