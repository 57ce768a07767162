//! Sequences of a model with recurrent layers (`llama_memory_recurrent`): their state cannot go back to an
//! earlier position, and a fork gets all of it.
//!
//! ```text
//! rows         what each position of a sequence was computed from: its token, or its hidden states
//! computed     the first so many of them are in the state; the others come with the next step
//! checkpoint   a sequence beside those of the steps, which shares the state as it was before guesses
//! ```
//! A sequence that goes back continues from its latest checkpoint before that position, or from nothing,
//! and the rows in between are computed again with its next step, in the same call: guesses that were
//! wrong cost rows, not calls.

mod calls;

use std::sync::Arc;

use super::compute::Compute;
use super::{EngineParams, StepInput};
use crate::hidden::HiddenStates;
use crate::llama::context::{BatchRow, Context, MAX_SEQUENCES};
use crate::{KvOp, Result, Row, SequenceId, Token};

/// Most rows that are computed again with a step. More get a call of their own, so that a new checkpoint
/// can be taken behind them.
const MAX_AGAIN: usize = 8;
/// Checkpoints of a sequence: guesses may build on guesses that nobody has judged yet.
const MAX_CHECKPOINTS: usize = 2;
/// Most sequences beside those of the steps. Each costs a state.
const MAX_SPARE: u32 = 8;
/// Most sequences of an engine whose model has recurrent layers.
pub const MAX_RECURRENT_SEQUENCES: u32 = MAX_SEQUENCES - MAX_SPARE;

/// What a position is computed from.
#[derive(Clone, Debug)]
struct Source {
    token: Token,
    /// The hidden states of the stage before, `n_embd` values; none in the first stage.
    hidden: Arc<[f32]>,
}

/// The sequences of an engine.
pub(super) struct States {
    sequences: Vec<Sequence>,
    /// Sequences of the context that are no checkpoint now.
    spare: Vec<SequenceId>,
    n_rows_max: usize,
    /// Whether some layers attend: memory of states alone takes rows of one sequence each.
    attends: bool,
}

#[derive(Default)]
struct Sequence {
    rows: Vec<Source>,
    n_computed: usize,
    /// Oldest first. Forks share them.
    checkpoints: Vec<Arc<Checkpoint>>,
}

#[derive(Debug)]
struct Checkpoint {
    /// The sequence of the context.
    seq: SequenceId,
    /// Positions in its state.
    len: usize,
}

/// A row to compute.
#[derive(Clone, Debug)]
struct Work {
    seq_ids: Vec<SequenceId>,
    pos: u32,
    source: Source,
    /// The row's place among the results of the step; none where it is computed again.
    place: Option<usize>,
    /// Its place among the states.
    state_place: Option<usize>,
}

impl States {
    /// Sequences of the context beside those of the steps.
    pub(super) fn n_spare(n_seq_max: u32) -> u32 {
        n_seq_max.min(MAX_SPARE)
    }

    pub(super) fn new(params: &EngineParams, n_rows_max: u32, attends: bool) -> States {
        let first = params.n_seq_max;
        let spare = first..first + States::n_spare(first);
        States {
            sequences: (0..first).map(|_| Sequence::default()).collect(),
            spare: spare.map(SequenceId).collect(),
            n_rows_max: n_rows_max as usize,
            attends,
        }
    }

    /// First and last position of a sequence.
    pub(super) fn positions(&self, seq: SequenceId) -> Option<(u32, u32)> {
        let len = self.sequences.get(seq.0 as usize)?.rows.len();
        let last = len.checked_sub(1)?;
        Some((0, last as u32))
    }

    /// All sequences are empty.
    pub(super) fn forget(&mut self) {
        for at in 0..self.sequences.len() {
            let sequence = std::mem::take(&mut self.sequences[at]);
            let unused = sequence.checkpoints.into_iter().filter_map(Arc::into_inner);
            self.spare.extend(unused.map(|kept| kept.seq));
        }
    }

    /// Applies an operation that was checked.
    pub(super) fn apply(&mut self, context: &mut Context, op: KvOp) {
        match op {
            KvOp::Truncate { seq, pos } => self.truncate(context, seq, pos as usize),
            KvOp::Fork { src, dst, len } => self.fork(context, src, dst, len as usize),
            KvOp::Drop { seq } => self.truncate(context, seq, 0),
        }
    }

    fn truncate(&mut self, context: &mut Context, seq: SequenceId, len: usize) {
        let sequence = &mut self.sequences[seq.0 as usize];
        sequence.rows.truncate(len);
        if sequence.n_computed > len {
            self.go_back(context, seq, len);
        }
    }

    /// The state of `seq` becomes one of at most `len` positions.
    fn go_back(&mut self, context: &mut Context, seq: SequenceId, len: usize) {
        let sequence = &mut self.sequences[seq.0 as usize];
        context.remove(seq, 0);
        sequence.n_computed = 0;
        while let Some(kept) = sequence.checkpoints.pop() {
            if kept.len <= len && len > 0 {
                context.share(kept.seq, seq, kept.len as u32);
                sequence.n_computed = kept.len;
                sequence.checkpoints.push(kept);
                return;
            }
            release(&mut self.spare, context, kept);
        }
    }

    fn fork(&mut self, context: &mut Context, src: SequenceId, dst: SequenceId, len: usize) {
        self.truncate(context, dst, 0);
        let from = &self.sequences[src.0 as usize];
        let kept = from.checkpoints.iter().filter(|kept| kept.len <= len);
        let mut fork = Sequence {
            rows: from.rows[..len].to_vec(),
            n_computed: 0,
            checkpoints: kept.cloned().collect(),
        };
        let live = (from.n_computed <= len).then_some((src, from.n_computed));
        let latest = fork.checkpoints.last().map(|kept| (kept.seq, kept.len));
        if let Some((seq, n_computed)) = live.or(latest) {
            context.share(seq, dst, n_computed as u32);
            fork.n_computed = n_computed;
        }
        self.sequences[dst.0 as usize] = fork;
    }

    /// Computes rows, which were checked; the results of those that have some, in their order, one after
    /// the other: those of the context, and the states that entered the output head, where they are kept.
    pub(super) fn step(
        &mut self,
        compute: &mut Compute,
        rows: &[Row],
        input: StepInput<'_>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut seqs: Vec<SequenceId> = rows
            .iter()
            .flat_map(|row| row.seq_ids.iter().copied())
            .collect();
        seqs.sort_unstable();
        seqs.dedup();
        let len = |seq: &SequenceId| self.sequences[seq.0 as usize].rows.len();
        let lens: Vec<usize> = seqs.iter().map(len).collect();
        let result = self.compute(compute, rows, input, &seqs);
        if result.is_err() {
            // What a call that failed has left in the state is not known.
            for (&seq, len) in seqs.iter().zip(lens) {
                self.sequences[seq.0 as usize].rows.truncate(len);
                self.go_back(&mut compute.context, seq, len);
            }
        }
        result
    }

    fn compute(
        &mut self,
        compute: &mut Compute,
        rows: &[Row],
        input: StepInput<'_>,
        seqs: &[SequenceId],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        for &seq in seqs {
            let is_its = |row: &&Row| row.wants_logits && row.seq_ids.contains(&seq);
            if rows.iter().filter(is_its).count() > 1 {
                self.keep(compute, seq)?;
            }
        }
        let mut work: Vec<Work> = seqs.iter().flat_map(|&seq| self.again(seq)).collect();
        let mut n_results = 0;
        for (at, row) in rows.iter().enumerate() {
            let source = Source {
                token: row.token,
                hidden: match input {
                    StepInput::Tokens => Arc::new([]),
                    StepInput::Hidden(hidden) => hidden.row(at).into(),
                },
            };
            let has_result = compute.gives_all() || row.wants_logits;
            let place = has_result.then_some(n_results);
            let state_place = if compute.keeps_all { Some(at) } else { place };
            n_results += usize::from(has_result);
            for seq in &row.seq_ids {
                self.sequences[seq.0 as usize].rows.push(source.clone());
            }
            work.push(Work {
                seq_ids: row.seq_ids.clone(),
                pos: row.pos,
                source,
                place,
                state_place,
            });
        }
        let n_states = if compute.keeps_all {
            rows.len()
        } else {
            n_results
        };
        self.run(compute, &work, (n_results, n_states))
    }

    /// The rows of `seq` that its state lacks.
    fn again(&self, seq: SequenceId) -> Vec<Work> {
        let sequence = &self.sequences[seq.0 as usize];
        let rows = (0..).zip(&sequence.rows).skip(sequence.n_computed);
        let work = |(pos, source): (u32, &Source)| Work {
            seq_ids: vec![seq],
            pos,
            source: source.clone(),
            place: None,
            state_place: None,
        };
        rows.map(work).collect()
    }

    /// Takes a checkpoint of `seq`, unless its latest is near.
    fn keep(&mut self, compute: &mut Compute, seq: SequenceId) -> Result<()> {
        let again = self.again(seq);
        if again.len() > MAX_AGAIN {
            self.run(compute, &again, (0, 0))?;
        } else if !again.is_empty() {
            return Ok(());
        }
        let sequence = &self.sequences[seq.0 as usize];
        let len = sequence.n_computed;
        if len == 0
            || sequence
                .checkpoints
                .last()
                .is_some_and(|kept| kept.len == len)
        {
            return Ok(());
        }
        let is_full = sequence.checkpoints.len() == MAX_CHECKPOINTS;
        if is_full || self.spare.is_empty() && !sequence.checkpoints.is_empty() {
            self.give_up_oldest(&mut compute.context, seq.0 as usize);
        } else if self.spare.is_empty() {
            // Two of one sequence are worth less than one of two.
            let has_two = |sequence: &Sequence| sequence.checkpoints.len() > 1;
            if let Some(at) = self.sequences.iter().position(has_two) {
                self.give_up_oldest(&mut compute.context, at);
            }
        }
        if let Some(kept) = self.spare.pop() {
            compute.context.share(seq, kept, len as u32);
            let kept = Arc::new(Checkpoint { seq: kept, len });
            self.sequences[seq.0 as usize].checkpoints.push(kept);
        }
        Ok(())
    }

    fn give_up_oldest(&mut self, context: &mut Context, at: usize) {
        let oldest = self.sequences[at].checkpoints.remove(0);
        release(&mut self.spare, context, oldest);
    }

    /// Computes `work` in calls that llama.cpp takes as they are, with so many results and states.
    fn run(
        &mut self,
        compute: &mut Compute,
        work: &[Work],
        (n_results, n_states): (usize, usize),
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut results, mut kept) = (Results::of(n_results), Results::of(n_states));
        let sets: Vec<&[SequenceId]> = work.iter().map(|work| &*work.seq_ids).collect();
        for call in calls::of(&sets, self.n_rows_max, !self.attends) {
            let batch: Vec<BatchRow<'_>> = call
                .iter()
                .map(|&at| BatchRow {
                    seq_ids: match self.attends {
                        true => &work[at].seq_ids,
                        false => &work[at].seq_ids[..1],
                    },
                    pos: work[at].pos,
                    output: compute.gives_all() || work[at].place.is_some(),
                })
                .collect();
            let sources = call.iter().map(|&at| &work[at].source);
            let tokens: Vec<Token> = sources.clone().map(|source| source.token).collect();
            let hidden: Vec<f32> = sources
                .flat_map(|source| &*source.hidden)
                .copied()
                .collect();
            let hidden = (!hidden.is_empty())
                .then(|| HiddenStates::new(call.len(), hidden.len() / call.len(), hidden))
                .transpose()?;
            let input = hidden.as_ref().map_or(StepInput::Tokens, StepInput::Hidden);
            let (data, states) = compute.decode(&batch, input, &tokens)?;
            let called = || {
                call.iter()
                    .zip(&batch)
                    .map(|(&at, row)| (&work[at], row.output))
            };
            let with_output = called().filter(|(_, output)| *output);
            results.put(with_output.map(|(work, _)| work.place).collect(), &data);
            let stated = called().filter(|(_, output)| *output || compute.keeps_all);
            kept.put(stated.map(|(work, _)| work.state_place).collect(), &states);
            for work in call.iter().map(|&at| &work[at]) {
                for &seq in &work.seq_ids {
                    self.sequences[seq.0 as usize].n_computed = work.pos as usize + 1;
                    if !self.attends && seq != work.seq_ids[0] {
                        // The first one's row was computed, and is the same for all.
                        compute.context.remove(seq, 0);
                        compute.context.share(work.seq_ids[0], seq, work.pos + 1);
                    }
                }
            }
        }
        Ok((results.rows, kept.rows))
    }
}

/// Gives the sequence of a checkpoint back, unless another sequence uses it.
fn release(spare: &mut Vec<SequenceId>, context: &mut Context, kept: Arc<Checkpoint>) {
    if let Some(kept) = Arc::into_inner(kept) {
        context.remove(kept.seq, 0);
        spare.push(kept.seq);
    }
}

/// Values of so many rows, in the order of the step.
struct Results {
    n: usize,
    rows: Vec<f32>,
}

impl Results {
    fn of(n: usize) -> Results {
        let rows = Vec::new();
        Results { n, rows }
    }

    /// Puts the rows of `some` where `places` says.
    fn put(&mut self, places: Vec<Option<usize>>, some: &[f32]) {
        let width = some.len().checked_div(places.len()).unwrap_or(0);
        if width == 0 {
            return;
        }
        self.rows.resize(self.n * width, 0.0);
        for (row, place) in some.chunks_exact(width).zip(places) {
            if let Some(place) = place {
                self.rows[place * width..][..width].copy_from_slice(row);
            }
        }
    }
}
