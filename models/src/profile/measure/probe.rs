//! A loaded slice, timed: its steps with an empty cache and with a full one.

use std::time::Duration;

use super::Bench;
use super::repeat::{Step, Visit, is_decode};
use crate::engine::{StageEngine, StepInput};
use crate::hidden::HiddenStates;
use crate::{KvOp, LayerRange, Result, Row, SequenceId, Token};

/// The sequence that the cache is filled with.
const FILLED: SequenceId = SequenceId(0);
/// A fork of it for each timed step: recurrent layers cannot go back behind one.
const STEP: SequenceId = SequenceId(1);
/// Sequences of an engine that is measured.
pub(super) const N_SEQUENCES: u32 = 2;
/// Tokens in the cache for the cost of context; fewer where the cache or the time is short.
const CONTEXT_TOKENS: [u32; 6] = [1024, 512, 256, 128, 64, 32];
/// Part of the time that may go to filling the cache.
const FILLING_SHARE: f64 = 0.75;
/// Rows on top of a full cache: one that decodes, since of several each has a cache of its own to
/// read, and chunks that are computed in tiles; small ones, of which there is time for several.
pub(super) const CONTEXT_ROWS: [u32; 3] = [1, 64, 128];
/// Steps shorter than this are computed twice: the second finds the graph of the first, as steps of
/// a stream and of a prompt do, which have many of the same shape.
pub(super) const TWICE_BELOW_MS: f64 = 50.0;

/// What a step's rows carry: as many as the largest step has.
pub(super) struct Inputs {
    pub(super) tokens: Vec<Token>,
    pub(super) hidden: HiddenStates,
}

/// Times of steps upon a full cache.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ContextTimes {
    /// Tokens in the cache.
    pub(super) cached: u32,
    /// Rows of a step and milliseconds.
    pub(super) points: Vec<(u32, f64)>,
}

/// A slice with its engine.
pub(super) struct Probe<'a> {
    engine: Box<dyn StageEngine>,
    bench: &'a dyn Bench,
    inputs: &'a Inputs,
    pub(super) range: LayerRange,
    /// Bytes of weights that the other stages read between two steps of this one.
    others_bytes: u64,
    /// Tokens in the cache before each timed step.
    cached: u32,
    /// Milliseconds of the first step.
    pub(super) warm_up_ms: f64,
}

impl<'a> Probe<'a> {
    /// Loads the layers `range`, and computes a first, slow step.
    pub(super) fn load(
        bench: &'a dyn Bench,
        inputs: &'a Inputs,
        range: LayerRange,
        others_bytes: u64,
    ) -> Result<Probe<'a>> {
        let mut probe = Probe {
            engine: bench.load(range)?,
            bench,
            inputs,
            range,
            others_bytes,
            cached: 0,
            warm_up_ms: 0.0,
        };
        probe.warm_up_ms = probe.once_ms(1, false)?;
        Ok(probe)
    }

    /// Times a step. One of few rows that is short gets what it meets in a pipeline: its thread
    /// sleeps while other stages compute, and they read their weights through the same caches.
    pub(super) fn visit(&mut self, step: Step) -> Result<Visit> {
        let begin = self.bench.now();
        let mut ms = self.once_ms(step.rows, step.wants_logits)?;
        if ms < TWICE_BELOW_MS && is_decode(step.rows) {
            self.bench.wait_for_others(self.others_bytes);
            ms = self.once_ms(step.rows, step.wants_logits)?;
        } else if ms < TWICE_BELOW_MS {
            ms = ms.min(self.once_ms(step.rows, step.wants_logits)?);
        }
        let spent_ms = ms_since(self.bench, begin);
        Ok(Visit { ms, spent_ms })
    }

    /// Fills the cache with part of `n_cells`: tokens, and the milliseconds that it took. From then
    /// on steps are timed upon it. `empty` are the times with an empty cache, which tell what
    /// filling it will take. None where even the shortest context takes too long.
    pub(super) fn fill(
        &mut self,
        empty: &[(u32, f64)],
        n_cells: u32,
        allowance: Duration,
    ) -> Result<Option<(u32, f64)>> {
        let Some(&(max_rows, max_ms)) = empty.last() else {
            return Ok(None);
        };
        let filling_ms = |tokens: u32| f64::from(tokens) / f64::from(max_rows) * max_ms;
        let Some(cached) = CONTEXT_TOKENS.into_iter().find(|&tokens| {
            tokens.saturating_add(max_rows.min(tokens)) <= n_cells
                && filling_ms(tokens) <= allowance.as_secs_f64() * 1e3 * FILLING_SHARE
        }) else {
            return Ok(None);
        };
        let mut spent_ms = 0.0;
        let mut pos = 0;
        while pos < cached {
            let n_rows = max_rows.min(cached - pos);
            spent_ms += self.step_ms(FILLED, pos, n_rows, false)?;
            pos += n_rows;
        }
        self.cached = cached;
        Ok(Some((cached, spent_ms)))
    }

    /// Milliseconds of a step upon the cache, which then is as it was.
    fn once_ms(&mut self, n_rows: u32, wants_logits: bool) -> Result<f64> {
        let (src, dst, len) = (FILLED, STEP, self.cached);
        self.engine.apply(KvOp::Fork { src, dst, len })?;
        let ms = self.step_ms(STEP, len, n_rows, wants_logits)?;
        self.engine.apply(KvOp::Drop { seq: STEP })?;
        Ok(ms)
    }

    /// Times a step, shorter than [`TWICE_BELOW_MS`], while `other` computes steps of as many rows. As alone, one of
    /// few rows begins after other stages have read their weights, and of two others the faster counts.
    pub(super) fn beside(&mut self, other: &mut Probe<'_>, step: Step) -> Result<Visit> {
        let bench = self.bench;
        let (own, others) = (self.prepared(step.rows)?, other.prepared(step.rows)?);
        let engine = &mut other.engine;
        let mut beside = move || others.compute(engine.as_mut());
        let begin = bench.now();
        let mut ms = 0.0;
        let mut timed = || {
            let mut once_ms = || {
                let begin = bench.now();
                own.compute(self.engine.as_mut())?;
                Ok(ms_since(bench, begin))
            };
            let first_ms = once_ms()?;
            // By the end of this one the other engine has begun.
            ms = if is_decode(step.rows) {
                bench.wait_for_others(self.others_bytes);
                once_ms()?
            } else {
                first_ms.min(once_ms()?)
            };
            Ok(())
        };
        bench.beside(&mut beside, &mut timed)?;
        let spent_ms = ms_since(bench, begin);
        Ok(Visit { ms, spent_ms })
    }

    /// A step of `n_rows` rows, whose engine may be on another thread.
    fn prepared(&self, n_rows: u32) -> Result<Prepared> {
        let (rows, hidden) = self.rows(STEP, self.cached, n_rows, false)?;
        Ok(Prepared {
            rows,
            hidden: (self.range.start > 0).then_some(hidden),
            cached: self.cached,
        })
    }

    /// Milliseconds of a step of `n_rows` rows of `seq` from position `pos` on.
    fn step_ms(
        &mut self,
        seq: SequenceId,
        pos: u32,
        n_rows: u32,
        wants_logits: bool,
    ) -> Result<f64> {
        let (rows, hidden) = self.rows(seq, pos, n_rows, wants_logits)?;
        let input = if self.range.start == 0 {
            StepInput::Tokens
        } else {
            StepInput::Hidden(&hidden)
        };
        let begin = self.bench.now();
        self.engine.step(&rows, input)?;
        Ok(ms_since(self.bench, begin))
    }

    /// Rows of a step, and what they carry.
    fn rows(
        &self,
        seq: SequenceId,
        pos: u32,
        n_rows: u32,
        wants_logits: bool,
    ) -> Result<(Vec<Row>, HiddenStates)> {
        let rows: Vec<Row> = (pos..)
            .zip(&self.inputs.tokens[..n_rows as usize])
            .map(|(pos, &token)| Row {
                seq_ids: vec![seq],
                pos,
                token,
                wants_logits,
            })
            .collect();
        let hidden = &self.inputs.hidden;
        let n_values = n_rows as usize * hidden.n_embd;
        let hidden = HiddenStates::new(
            n_rows as usize,
            hidden.n_embd,
            hidden.data[..n_values].to_vec(),
        )?;
        Ok((rows, hidden))
    }
}

fn ms_since(bench: &dyn Bench, begin: Duration) -> f64 {
    bench.now().saturating_sub(begin).as_secs_f64() * 1e3
}

/// A step upon a filled cache, to be computed again and again.
struct Prepared {
    rows: Vec<Row>,
    /// None: the tokens.
    hidden: Option<HiddenStates>,
    cached: u32,
}

impl Prepared {
    fn compute(&self, engine: &mut dyn StageEngine) -> Result<()> {
        let (src, dst, len) = (FILLED, STEP, self.cached);
        engine.apply(KvOp::Fork { src, dst, len })?;
        let input = self.hidden.as_ref();
        engine.step(
            &self.rows,
            input.map_or(StepInput::Tokens, StepInput::Hidden),
        )?;
        engine.apply(KvOp::Drop { seq: STEP })
    }
}
