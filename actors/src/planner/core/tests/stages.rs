//! What stages, Verifier and Drafter do by their contract.

use std::time::Duration;

use jupiter_models::draw::splitmix;
use jupiter_models::{KvOp, Row, SequenceId, Token};

use super::world::*;
use crate::message::{
    Acceptance, DraftGuess, DraftReply, DraftRows, HeadsTiming, StageTiming, StepHeader, StepReport,
};
use crate::speculation::accept::{Next, follow};
use crate::speculation::inflight::VerifierGate;
use crate::speculation::tree::DraftTree;

impl World {
    /// Computes the oldest step and reports it. False when there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(header) = self.pipeline.pop_front() else {
            return false;
        };
        let report = self.compute(&header);
        self.now += Duration::from_millis(1);
        self.core.report(report, self.now);
        self.settle();
        true
    }

    /// The draft model answers the oldest wish. False when there is none.
    pub(super) fn draft(&mut self) -> bool {
        let Some(request) = self.wishes.pop_front() else {
            return false;
        };
        let text = self.told.entry(request.request).or_default();
        let from = request.from as usize;
        let is_known = from <= text.len();
        if is_known {
            text.truncate(from);
            text.extend(&request.tokens);
        }
        let n_known = text.len() as u32;
        let mut text = text.clone();
        let n_guesses = if is_known { request.depth } else { 0 };
        let guesses = (0..n_guesses).map(|i| {
            let (right, _) = next_token(&text);
            let luck = splitmix(right as u64 ^ text.len() as u64) % 256;
            let token = if luck < DRAFT_LUCK { right } else { 1003 };
            text.push(token);
            DraftGuess {
                parent: i.checked_sub(1).map(|parent| parent as u16),
                token,
                probability: 0.8,
            }
        });
        let reply = DraftReply {
            request: request.request,
            wish: request.wish,
            n_known,
            guesses: guesses.collect(),
            busy_us: 10,
        };
        self.core.drafted(&reply, self.now);
        self.core.drafted(&reply, self.now);
        self.settle();
        true
    }

    pub(super) fn compute(&mut self, header: &StepHeader) -> StepReport {
        assert_eq!((header.epoch, header.step), (self.epoch, self.expected));
        let chunk = self.core.config.chunk as usize;
        assert!(header.rows.len() <= chunk && !header.rows.is_empty());
        self.expected = self.expected.next();
        for op in &header.kv_ops {
            match *op {
                KvOp::Truncate { seq, pos } => {
                    self.kv.entry(seq).or_default().truncate(pos as usize);
                }
                KvOp::Drop { seq } => {
                    self.kv.remove(&seq);
                }
                KvOp::Fork { src, dst, len } => {
                    let shared = self.kv[&src][..len as usize].to_vec();
                    let is_torn = self.has_states && shared.len() < self.kv[&src].len();
                    self.n_torn += usize::from(is_torn);
                    self.kv.insert(dst, shared);
                }
            }
        }
        for open in &header.opens {
            self.opened.push(open.seq);
            self.gates.remove(&open.seq);
        }
        let dead: Vec<usize> = self.dead(header).flat_map(DraftRows::rows).collect();
        for (at, row) in header.rows.iter().enumerate() {
            let live_from = self.live_from_step.get(&row.seq_ids[0]);
            let is_over = live_from.is_some_and(|&live_from| header.step < live_from);
            if !(dead.contains(&at) || is_over && self.hears_cancels) {
                self.compute_row(row);
            }
        }
        let live: Vec<DraftRows> = {
            let dead: Vec<_> = self.dead(header).collect();
            let is_live = |draft: &&DraftRows| !dead.contains(draft);
            header.drafts.iter().filter(is_live).cloned().collect()
        };
        let judged = live.iter().filter_map(|draft| self.judge(header, draft));
        let acceptances = judged.collect();
        let mut cells: Vec<u64> = self.kv.values().flatten().map(|&(_, cell)| cell).collect();
        cells.sort_unstable();
        cells.dedup();
        let n_cells = cells.len();
        let n_ctx = self.core.config.engine.n_ctx;
        assert!(n_cells <= n_ctx as usize, "{n_cells} cells of {n_ctx}");
        let n_stages = self.core.cluster.stages.len() as u32;
        let timing = |stage| StageTiming {
            stage,
            began_us: 0,
            waited_us: 0,
            busy_us: 1000,
        };
        StepReport {
            epoch: header.epoch,
            step: header.step,
            acceptances,
            failures: Vec::new(),
            timings: (0..n_stages).map(timing).collect(),
            heads: HeadsTiming::default(),
        }
    }

    /// The rows that are cancelled.
    pub(super) fn dead<'a>(&self, header: &'a StepHeader) -> impl Iterator<Item = &'a DraftRows> {
        let live_from = self.live_from.clone();
        let hears_cancels = self.hears_cancels;
        header.drafts.iter().filter(move |draft| {
            let live_from = live_from.get(&draft.seq).copied().unwrap_or_default();
            hears_cancels && draft.generation < live_from
        })
    }

    pub(super) fn compute_row(&mut self, row: &Row) {
        self.n_cells += 1;
        for &seq in &row.seq_ids {
            assert!(seq.0 < self.core.config.engine.n_seq_max);
            let cells = self.kv.entry(seq).or_default();
            assert_eq!(
                cells.len(),
                row.pos as usize,
                "a row continues its sequence"
            );
            cells.push((row.token, self.n_cells));
        }
    }

    /// The text of a sequence up to `pos`.
    pub(super) fn text(&self, seq: SequenceId, pos: u32) -> Vec<Token> {
        let cells = &self.kv[&seq][..=pos as usize];
        cells.iter().map(|&(token, _)| token).collect()
    }

    pub(super) fn judge(&mut self, header: &StepHeader, draft: &DraftRows) -> Option<Acceptance> {
        let rows = &header.rows[draft.rows()];
        let seq = draft.seq;
        assert!(self.opened.contains(&seq), "opened before its first logits");
        assert!(rows.iter().all(|row| row.wants_logits));
        let (pos, generation) = (rows[0].pos, draft.generation);
        let gate = self
            .gates
            .entry(seq)
            .or_insert(VerifierGate::new(generation));
        if !gate.admit(generation, pos, rows[0].token).unwrap() {
            return None;
        }
        let mut tree = DraftTree::new();
        for (row, &parent) in rows[1..].iter().zip(&draft.parents) {
            let parent = (parent as usize).checked_sub(1);
            tree.push(parent, row.token, None).unwrap();
        }
        let text_at = |at: Option<usize>| {
            let row = &rows[at.map_or(0, |at| at + 1)];
            self.text(row.seq_ids[0], row.pos)
        };
        let verdict = follow(&tree, |at| {
            let (token, ends) = next_token(&text_at(at));
            Ok(Next { token, ends })
        });
        let verdict = verdict.unwrap();
        let last = verdict.path.last().copied();
        let mut text = text_at(last);
        text.push(verdict.next.token);
        let gate = self.gates.get_mut(&seq)?;
        gate.judged(pos, rows.len(), verdict.path.len(), verdict.next);
        Some(Acceptance {
            seq,
            pos,
            last: last.map_or(0, |at| at as u16 + 1),
            next_token: verdict.next.token,
            is_eog: verdict.next.ends,
            guesses: guesses(text),
        })
    }
}
