//! Measures a device: what one layer, the head and the embedding of a model take on it.
//!
//! A few slices of the model are loaded one after the other and stepped as a stage is:
//!
//! ```text
//! window of a class   hidden -> several layers -> hidden    1 to 512 rows; upon context
//! its beginning       hidden -> half of them   -> hidden    1 row: what does not grow with layers
//! last layers         hidden -> layers         -> nothing   1 to 512 rows; upon context
//!                     hidden -> layers, head   -> logits    1 to 64 rows
//! ```
//! A lone layer would stay in the processor's caches, so a window has more weights than those hold
//! (`ranges`); steps are repeated and the fastest counts (`repeat`); costs of layers follow from
//! those of windows (`fit`).

mod fit;
mod probe;
mod ranges;
mod repeat;

use std::cell::Cell;
use std::time::Duration;

use self::fit::Timings;
use self::probe::{Inputs, Probe};
use self::ranges::MeasuredRanges;
use self::repeat::fastest;
use crate::clock::{Clock, SystemClock};
use crate::embedding::EmbeddingTable;
use crate::engine::{Emulation, EngineParams, StageEngine, slow_down};
use crate::gguf::GgufFile;
use crate::hidden::HiddenStates;
use crate::profile::{ComputeProfile, ModelProfile};
use crate::slice::SliceCache;
use crate::{LayerRange, ModelError, Result, Token};

/// Numbers of rows whose steps are measured: dense among few rows, where time goes in steps because
/// kernels work in fours.
const ROWS: [u32; 18] = [
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512,
];
/// Most rows whose logits are measured: streams that decode at once, and drafted tokens.
const MAX_HEAD_ROWS: u32 = 64;
/// Cells of the cache while measuring: the longest context and the most rows upon it.
const MAX_CELLS: u32 = 2048;
/// Rows of an embedding lookup that is timed; one alone is too short for the clock.
const EMBEDDED_ROWS: u32 = 64;
/// 2^32 divided by the golden ratio: its multiples lie evenly in 0..2^32.
const SPREAD: u32 = 2_654_435_769;

// A whole measurement takes at most 20 s: these, and a second for the first steps of engines.
/// For lookups of embeddings.
const EMBEDDING: Duration = Duration::from_millis(50);
/// For the steps of all windows with an empty cache.
const CURVES: Duration = Duration::from_secs(9);
/// For filling the caches of all windows, and the steps upon them.
const CONTEXTS: Duration = Duration::from_millis(5500);
/// For a window and its beginning, in turns.
const PAIR: Duration = Duration::from_secs(1);
/// For the last layers with the head.
const HEAD: Duration = Duration::from_millis(3500);

/// Measures this device, made to look like `emulation`, for `model`, whose layers `shapes` tells
/// and whose engines have `params`. `progress` gets 0.0 to 1.0. Besides loading the slices, which
/// are cached in `slices`, it takes at most 20 s; on a device too slow for all of it steps are
/// repeated less, and then the largest are left out.
///
/// # Errors
/// What [`SliceCache::slice`] and [`Emulation::load`] refuse, and steps that fail.
pub fn measure(
    model: &GgufFile,
    slices: &SliceCache,
    shapes: &ModelProfile,
    params: &EngineParams,
    emulation: Emulation,
    progress: &mut dyn FnMut(f32),
) -> Result<ComputeProfile> {
    emulation.check()?;
    let limits = Limits::new(params);
    let machine = Machine {
        model,
        slices,
        params: EngineParams {
            n_ctx: limits.n_cells,
            n_batch: limits.n_rows,
            ..params.clone()
        },
        emulation,
        embedding: EmbeddingTable::new(model)?,
        clock: SystemClock::new(),
    };
    run(&machine, shapes, limits, progress)
}

/// How far an engine's sizes let measurements go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most rows of a step.
    pub(super) n_rows: u32,
    /// Cells of the cache.
    pub(super) n_cells: u32,
}

impl Limits {
    pub(super) fn new(params: &EngineParams) -> Limits {
        let n_cells = params.n_cells().clamp(1, MAX_CELLS);
        let most = ROWS[ROWS.len() - 1].min(n_cells);
        Limits {
            n_rows: params.n_batch.clamp(1, most),
            n_cells,
        }
    }

    /// The points up to `max`, and `max` itself.
    fn points(max: u32) -> Vec<u32> {
        let mut points: Vec<u32> = ROWS.into_iter().filter(|&rows| rows < max).collect();
        points.push(max);
        points
    }
}

/// What is measured, and by which clock: this machine, or one of a test whose costs are known.
trait Bench {
    /// An engine for the layers `range`.
    fn load(&self, range: LayerRange) -> Result<Box<dyn StageEngine>>;

    /// Looks tokens up; shape (tokens.len(), n_embd).
    fn embed(&self, tokens: &[Token]) -> Result<HiddenStates>;

    /// Tokens are below it.
    fn n_vocab(&self) -> u32;

    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

struct Machine<'a> {
    model: &'a GgufFile,
    slices: &'a SliceCache,
    params: EngineParams,
    emulation: Emulation,
    embedding: EmbeddingTable,
    clock: SystemClock,
}

impl Bench for Machine<'_> {
    fn load(&self, range: LayerRange) -> Result<Box<dyn StageEngine>> {
        let slice = self.slices.slice(self.model, range, &mut |_, _| {})?;
        self.emulation
            .load(self.model, &slice, &self.params, &mut |_| {})
    }

    fn embed(&self, tokens: &[Token]) -> Result<HiddenStates> {
        let begin = self.clock.now();
        let hidden = self.embedding.lookup(tokens)?;
        slow_down(&self.clock, begin, self.emulation.slowdown);
        Ok(hidden)
    }

    fn n_vocab(&self) -> u32 {
        self.embedding.n_vocab()
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }
}

fn run(
    bench: &dyn Bench,
    shapes: &ModelProfile,
    limits: Limits,
    progress: &mut dyn FnMut(f32),
) -> Result<ComputeProfile> {
    if shapes.layers.is_empty() {
        return Err(ModelError::BadInput {
            what: "a model without layers cannot be measured: name another one (-m)".into(),
        });
    }
    let ranges = MeasuredRanges::new(shapes);
    let (inputs, embedding_ms) = inputs(bench, limits.n_rows as usize)?;

    let slices = ranges.windows.iter().chain([&ranges.last]);
    // Of a slice the curve, then the context; at the end the head.
    let n_slices = slices.clone().count();
    let (n_parts, n_done) = (2 * n_slices + 1, Cell::new(0));
    let mut part_done = || {
        n_done.set(n_done.get() + 1);
        progress(n_done.get() as f32 / n_parts as f32);
    };
    let mut timings = Timings {
        slices: Vec::new(),
        context: Vec::new(),
        pair: None,
        logits: Vec::new(),
        embedding_ms,
    };
    let points = Limits::points(limits.n_rows);
    let n_layers: u32 = slices.clone().map(|range| range.len()).sum();
    for &range in slices {
        // Half of the time is shared equally, half by what steps take.
        let share = (f64::from(range.len()) / f64::from(n_layers) + 1.0 / n_slices as f64) / 2.0;
        let mut slice = Probe::load(bench, &inputs, range)?;
        let empty = slice.curve(&points, CURVES.mul_f64(share))?;
        part_done();
        if range == ranges.last {
            slice.wants_logits(true);
            let points = Limits::points(limits.n_rows.min(MAX_HEAD_ROWS));
            timings.logits = slice.curve(&points, HEAD)?;
            slice.wants_logits(false);
            part_done();
        } else if let (None, Some(short)) = (timings.pair, ranges.short) {
            // Where a few steps of one row take longer, the fixed time is nothing beside them.
            let one_row_ms = empty.first().map_or(0.0, |point| point.1);
            if 4.0 * one_row_ms <= PAIR.as_secs_f64() * 1e3 {
                timings.pair = in_turns(&mut slice, &mut Probe::load(bench, &inputs, short)?)?;
            }
        }
        let context = slice.context(&empty, limits.n_cells, CONTEXTS.mul_f64(share))?;
        timings.context.push(context);
        timings.slices.push(empty);
        part_done();
    }
    Ok(fit::profile(shapes, &ranges, &timings))
}

/// One row through each of two slices, in turns, so that both meet the same machine. None where
/// there was no time for the second.
fn in_turns(window: &mut Probe<'_>, short: &mut Probe<'_>) -> Result<Option<(f64, f64)>> {
    // Which of the two it is stands in the place of the rows.
    let best = fastest(&[1, 2], PAIR, &mut |which| match which {
        1 => window.empty_ms(1),
        _ => short.empty_ms(1),
    })?;
    Ok(match best[..] {
        [(_, window_ms), (_, short_ms)] => Some((window_ms, short_ms)),
        _ => None,
    })
}

/// What steps of up to `n_rows` rows carry, and the milliseconds of looking up one row of it.
///
/// The tokens are from all over the vocabulary: rows of the table that are not beside each other,
/// and hidden states that go to different experts. They repeat, which no layer minds.
fn inputs(bench: &dyn Bench, n_rows: usize) -> Result<(Inputs, f64)> {
    let spread = |i: u32| {
        let part = u64::from(i.wrapping_mul(SPREAD));
        ((part * u64::from(bench.n_vocab())) >> 32) as Token
    };
    let tokens: Vec<Token> = (0..EMBEDDED_ROWS).map(spread).collect();
    let start = bench.now();
    let mut best = Duration::MAX;
    let hidden = loop {
        let begin = bench.now();
        let hidden = bench.embed(&tokens)?;
        best = best.min(bench.now().saturating_sub(begin));
        if bench.now().saturating_sub(start) >= EMBEDDING {
            break hidden;
        }
    };
    let n_values = n_rows * hidden.n_embd;
    let data: Vec<f32> = hidden.data.into_iter().cycle().take(n_values).collect();
    let inputs = Inputs {
        tokens: tokens.into_iter().cycle().take(n_rows).collect(),
        hidden: HiddenStates::new(n_rows, hidden.n_embd, data)?,
    };
    let embedding_ms = best.as_secs_f64() * 1e3 / f64::from(EMBEDDED_ROWS);
    Ok((inputs, embedding_ms))
}

#[cfg(test)]
mod tests;
