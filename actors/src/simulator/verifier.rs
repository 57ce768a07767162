//! The Verifier of a model that knows every text: with the real gates and the real rule of
//! acceptance, and without logits.

use std::collections::HashMap;

use jupiter_models::{KvOp, SequenceId};

use super::text::Text;
use crate::message::{Acceptance, DraftRows, HeadsTiming, StepHeader, StepReport};
use crate::speculation::Result;
use crate::speculation::accept::{Next, follow};
use crate::speculation::inflight::VerifierGate;
use crate::speculation::tree::DraftTree;

/// What it knows of the sequences.
#[derive(Default)]
pub(super) struct SimVerifier {
    sequences: HashMap<SequenceId, Verified>,
}

struct Verified {
    text: Text,
    /// None before its first rows.
    gate: Option<VerifierGate>,
}

impl SimVerifier {
    /// Forgets the sequences of an epoch that is over.
    pub(super) fn clear(&mut self) {
        self.sequences.clear();
    }

    /// Judges what the last stage computed. The report, and the numbers of the texts in it.
    ///
    /// # Errors
    /// When the Planner holds another text than was sampled.
    pub(super) fn verify(&mut self, header: StepHeader) -> Result<(StepReport, Vec<usize>)> {
        for op in &header.kv_ops {
            if let KvOp::Drop { seq } = op {
                self.sequences.remove(seq);
            }
        }
        for open in &header.opens {
            let text = Text(open.sampling.seed);
            let verified = Verified { text, gate: None };
            self.sequences.insert(open.seq, verified);
        }
        let mut acceptances = Vec::with_capacity(header.drafts.len());
        let mut texts = Vec::with_capacity(header.drafts.len());
        for draft in &header.drafts {
            let Some(sequence) = self.sequences.get_mut(&draft.seq) else {
                panic!("sequence {} is opened before its first logits", draft.seq);
            };
            if let Some(acceptance) = sequence.judge(&header, draft)? {
                acceptances.push(acceptance);
                texts.push(sequence.text.0 as usize);
            }
        }
        let report = StepReport {
            epoch: header.epoch,
            step: header.step,
            acceptances,
            failures: Vec::new(),
            timings: header.timings,
            heads: HeadsTiming::default(),
        };
        Ok((report, texts))
    }
}

impl Verified {
    /// What is accepted; none for rows that are dead.
    fn judge(&mut self, header: &StepHeader, draft: &DraftRows) -> Result<Option<Acceptance>> {
        let rows = &header.rows[draft.rows()];
        let pos = rows[0].pos;
        let gate = self.gate.get_or_insert(VerifierGate::new(draft.generation));
        if !gate.admit(draft.generation, pos, rows[0].token)? {
            return Ok(None);
        }
        let mut tree = DraftTree::new();
        for (row, &parent) in rows[1..].iter().zip(&draft.parents) {
            tree.push((parent as usize).checked_sub(1), row.token, None)?;
        }
        let verdict = follow(&tree, |at| {
            let row = &rows[at.map_or(0, |at| at + 1)];
            Ok(Next {
                token: self.text.token(row.pos as usize + 1),
                ends: false,
            })
        })?;
        gate.judged(pos, rows.len(), verdict.path.len(), verdict.next);
        let last = verdict.path.last().copied();
        Ok(Some(Acceptance {
            seq: draft.seq,
            pos,
            last: last.map_or(0, |at| at as u16 + 1),
            next_token: verdict.next.token,
            is_eog: false,
            guesses: Vec::new(),
        }))
    }
}
