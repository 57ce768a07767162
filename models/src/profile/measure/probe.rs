//! A loaded slice, timed: its steps with an empty cache and with a full one.

use std::time::Duration;

use super::Bench;
use super::repeat::fastest;
use crate::engine::{StageEngine, StepInput};
use crate::hidden::HiddenStates;
use crate::{KvOp, LayerRange, Result, Row, SequenceId, Token};

/// The sequence that all steps belong to.
const SEQUENCE: SequenceId = SequenceId(0);
/// Tokens in the cache for the cost of context; fewer where the cache or the time is short.
const CONTEXT_TOKENS: [u32; 6] = [1024, 512, 256, 128, 64, 32];
/// Part of the time that may go to filling the cache.
const FILLING_SHARE: f64 = 0.75;
/// Rows on top of a full cache: decoding and drafts, and chunks that are computed in tiles.
const CONTEXT_ROWS: [u32; 6] = [1, 4, 32, 64, 128, 512];

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
    /// Whether it takes tokens.
    is_first: bool,
    /// Whether all rows want logits.
    wants_logits: bool,
    /// Milliseconds of the first step.
    warm_up_ms: f64,
}

impl<'a> Probe<'a> {
    /// Loads the layers `range`, and computes a first, slow step. No rows want logits.
    pub(super) fn load(
        bench: &'a dyn Bench,
        inputs: &'a Inputs,
        range: LayerRange,
    ) -> Result<Probe<'a>> {
        let mut probe = Probe {
            engine: bench.load(range)?,
            bench,
            inputs,
            is_first: range.start == 0,
            wants_logits: false,
            warm_up_ms: 0.0,
        };
        probe.warm_up_ms = probe.empty_ms(1)?;
        Ok(probe)
    }

    /// Makes all rows of the next steps want logits, or none.
    pub(super) fn wants_logits(&mut self, wanted: bool) {
        self.wants_logits = wanted;
    }

    /// Milliseconds of a step of `n_rows` rows with nothing in the cache before them.
    pub(super) fn empty_ms(&mut self, n_rows: u32) -> Result<f64> {
        self.engine.clear();
        self.step_ms(0, n_rows)
    }

    /// The fastest steps of `points` rows, each with an empty cache. The slow first step counts to
    /// the allowance.
    pub(super) fn curve(&mut self, points: &[u32], allowance: Duration) -> Result<Vec<(u32, f64)>> {
        let left = less_ms(allowance, self.warm_up_ms);
        fastest(points, left, &mut |n_rows| self.empty_ms(n_rows))
    }

    /// The fastest steps upon a cache that is part of `n_cells`. `empty` are the times with an
    /// empty cache, which tell what filling it will take. None where even the shortest context takes too long.
    pub(super) fn context(
        &mut self,
        empty: &[(u32, f64)],
        n_cells: u32,
        allowance: Duration,
    ) -> Result<Option<ContextTimes>> {
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
        self.engine.clear();
        let mut spent_ms = 0.0;
        let mut pos = 0;
        while pos < cached {
            let n_rows = max_rows.min(cached - pos);
            spent_ms += self.step_ms(pos, n_rows)?;
            pos += n_rows;
        }
        let points: Vec<u32> = CONTEXT_ROWS
            .into_iter()
            .filter(|&n_rows| n_rows <= n_cells - cached)
            .filter(|&n_rows| empty.iter().any(|&(measured, _)| measured == n_rows))
            .collect();
        let points = fastest(&points, less_ms(allowance, spent_ms), &mut |n_rows| {
            let ms = self.step_ms(cached, n_rows)?;
            self.engine.apply(KvOp::Truncate {
                seq: SEQUENCE,
                pos: cached,
            })?;
            Ok(ms)
        })?;
        Ok(Some(ContextTimes { cached, points }))
    }

    /// Milliseconds of a step of `n_rows` rows from position `pos` on.
    fn step_ms(&mut self, pos: u32, n_rows: u32) -> Result<f64> {
        let rows: Vec<Row> = (pos..)
            .zip(&self.inputs.tokens[..n_rows as usize])
            .map(|(pos, &token)| Row {
                seq_ids: vec![SEQUENCE],
                pos,
                token,
                wants_logits: self.wants_logits,
            })
            .collect();
        let hidden = &self.inputs.hidden;
        let n_values = n_rows as usize * hidden.n_embd;
        let hidden = HiddenStates::new(
            n_rows as usize,
            hidden.n_embd,
            hidden.data[..n_values].to_vec(),
        )?;
        let input = if self.is_first {
            StepInput::Tokens
        } else {
            StepInput::Hidden(&hidden)
        };
        let begin = self.bench.now();
        self.engine.step(&rows, input)?;
        let took = self.bench.now().saturating_sub(begin);
        Ok(took.as_secs_f64() * 1e3)
    }
}

fn less_ms(allowance: Duration, ms: f64) -> Duration {
    let spent = Duration::try_from_secs_f64(ms / 1e3).unwrap_or(allowance);
    allowance.saturating_sub(spent)
}
