//! The Verifier: turns logits into accepted tokens.
//!
//! Spawned by the [Supervisor](crate::supervisor) beside the last stage, which casts each step's
//! logits to it, so they never cross the network. It samples, accepts or rejects the drafted
//! tokens of each sequence, and answers the Planner over the [`Link`]. All that it knows of a
//! sequence came in [`SequenceOpen`]: lose it, and the next epoch opens the sequence again.

use std::collections::HashMap;
use std::sync::Arc;

use jupiter_models::engine::Logits;
use jupiter_models::sampling::Sampler;
use jupiter_models::text::Vocabulary;
use jupiter_models::{KvOp, Row, SequenceId, Token};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::inbox::send_report;
use crate::link::{Address, Link};
use crate::message::{
    Acceptance, Message, NodeReport, SequenceFailure, SequenceOpen, StageAssignment, StepHeader,
    StepReport,
};
use crate::stage::StageFactory;
use crate::{NodeId, PlanEpoch, codec};

/// From the last stage: a step's logits, in the order of its rows that want them.
pub struct VerifierMessage {
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
}

/// The actor; its state is [`VerifierState`].
pub struct Verifier;

/// A living Verifier.
pub struct VerifierState {
    node: NodeId,
    link: Arc<dyn Link>,
    vocabulary: Arc<Vocabulary>,
    epoch: PlanEpoch,
    sequences: HashMap<SequenceId, VerifiedSequence>,
}

struct VerifiedSequence {
    sampler: Sampler,
    ignore_eos: bool,
}

impl Actor for Verifier {
    type Msg = VerifierMessage;
    type State = VerifierState;
    type Arguments = VerifierArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<VerifierMessage>,
        args: VerifierArgs,
    ) -> Result<VerifierState, ActorProcessingErr> {
        let (factory, assignment) = (args.factory, args.assignment);
        let vocabulary =
            tokio::task::spawn_blocking(move || factory.vocabulary(&assignment)).await??;
        Ok(VerifierState {
            node: args.node,
            link: args.link,
            vocabulary,
            epoch: PlanEpoch::default(),
            sequences: HashMap::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<VerifierMessage>,
        VerifierMessage { header, logits }: VerifierMessage,
        state: &mut VerifierState,
    ) -> Result<(), ActorProcessingErr> {
        let epoch = header.epoch;
        match state.verify(header, &logits) {
            Ok(report) => {
                let frame = codec::encode(&Message::Report(report));
                if let Err(error) = state.link.send(&Address::Accept { epoch }, frame) {
                    tracing::warn!(%error, "could not send a step report");
                }
            }
            Err(what) => {
                let node = state.node.clone();
                let fault = NodeReport::StepFault {
                    epoch: Some(epoch),
                    node,
                    what,
                };
                send_report(state.link.as_ref(), fault);
            }
        }
        Ok(())
    }
}

impl VerifierState {
    fn verify(&mut self, header: StepHeader, logits: &Logits) -> Result<StepReport, String> {
        if header.epoch != self.epoch {
            self.epoch = header.epoch;
            self.sequences.clear();
        }
        for op in &header.kv_ops {
            if let KvOp::Drop { seq } = op {
                self.sequences.remove(seq);
            }
        }
        let mut failures = Vec::new();
        for open in header.opens {
            let seq = open.seq;
            match self.open(open) {
                Ok(sequence) => {
                    self.sequences.insert(seq, sequence);
                }
                Err(why) => failures.push(SequenceFailure { seq, why }),
            }
        }
        // The stage is in this process: anything else is a broken invariant, not a peer's fault.
        let n_wanted = header.rows.iter().filter(|row| row.wants_logits).count();
        assert_eq!(logits.n_rows, n_wanted, "rows of logits of {}", header.step);
        let mut acceptances = Vec::new();
        for (seq, rows) in logits_by_sequence(&header.rows) {
            if failures.iter().any(|failure| failure.seq == seq) {
                continue;
            }
            let Some(sequence) = self.sequences.get_mut(&seq) else {
                return Err(format!(
                    "{}: logits of sequence {seq}, not opened",
                    header.step
                ));
            };
            match sequence.accept(&rows, &header.rows, logits, &self.vocabulary) {
                Ok(acceptance) => acceptances.push(Acceptance { seq, ..acceptance }),
                Err(why) => failures.push(SequenceFailure { seq, why }),
            }
        }
        let (step, epoch, timings) = (header.step, header.epoch, header.timings);
        Ok(StepReport {
            epoch,
            step,
            acceptances,
            failures,
            timings,
        })
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
            sampler,
            ignore_eos: open.ignore_eos,
        })
    }
}

/// A row that has logits: its place among the step's rows, and among the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogitsRow {
    row: usize,
    logits: usize,
}

/// The rows that have logits, sequence by sequence in the order of their first one.
fn logits_by_sequence(rows: &[Row]) -> Vec<(SequenceId, Vec<LogitsRow>)> {
    let mut sequences: Vec<(SequenceId, Vec<LogitsRow>)> = Vec::new();
    let wanted = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.wants_logits)
        .enumerate();
    for (logits, (row, content)) in wanted {
        let at = LogitsRow { row, logits };
        for &seq in &content.seq_ids {
            match sequences.iter_mut().find(|(known, _)| *known == seq) {
                Some((_, rows)) => rows.push(at),
                None => sequences.push((seq, vec![at])),
            }
        }
    }
    sequences
}

impl VerifiedSequence {
    /// Samples after each row as long as the next row holds just the token that was sampled: what
    /// is accepted is what would have been sampled without drafts.
    fn accept(
        &mut self,
        at: &[LogitsRow],
        rows: &[Row],
        logits: &Logits,
        vocabulary: &Vocabulary,
    ) -> Result<Acceptance, String> {
        let Some(first) = at.first() else {
            return Err("no row has logits".into());
        };
        let mut n_accepted = 0;
        for (k, here) in at.iter().enumerate() {
            let token = self.sample(logits.row(here.logits), vocabulary)?;
            let drafted = at.get(k + 1).map(|next| rows[next.row].token);
            let is_eog = vocabulary.is_eog(token) && !self.ignore_eos;
            if drafted == Some(token) && !is_eog {
                n_accepted += 1;
                continue;
            }
            let pos = rows[first.row].pos;
            return Ok(Acceptance {
                seq: SequenceId(0),
                pos,
                n_accepted,
                next_token: token,
                is_eog,
            });
        }
        Err("the last row of a sequence has no successor, yet none was sampled".into())
    }

    fn sample(&mut self, logits: &[f32], vocabulary: &Vocabulary) -> Result<Token, String> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(
                "the model computed NaN: its file is damaged or its weights overflow".into(),
            );
        }
        let token = if self.ignore_eos {
            let mut logits = logits.to_vec();
            for token in vocabulary.eog_tokens() {
                if let Some(logit) = usize::try_from(*token).ok().and_then(|t| logits.get_mut(t)) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            self.sampler.sample(&logits)
        } else {
            self.sampler.sample(logits)
        };
        self.sampler.accept(token);
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seqs: &[u32], pos: u32, wants_logits: bool) -> Row {
        let seq_ids = seqs.iter().map(|&seq| SequenceId(seq)).collect();
        Row {
            seq_ids,
            pos,
            token: 7,
            wants_logits,
        }
    }

    #[test]
    fn rows_with_logits_are_grouped_by_sequence() {
        let rows = [
            row(&[3], 0, false),
            row(&[3], 1, true),
            row(&[1, 3], 2, true),
            row(&[1], 3, true),
        ];
        let at = |row, logits| LogitsRow { row, logits };
        assert_eq!(
            logits_by_sequence(&rows),
            [
                (SequenceId(3), vec![at(1, 0), at(2, 1)]),
                (SequenceId(1), vec![at(2, 1), at(3, 2)]),
            ]
        );
    }
}
