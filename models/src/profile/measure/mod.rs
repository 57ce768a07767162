//! Measures a device: what one layer, the head and the embedding of a model take on it.
//!
//! A few slices of the model are loaded and stepped as a stage is:
//!
//! ```text
//! window of a class   hidden -> several layers -> hidden    1 to 512 rows; upon context
//! its beginning       hidden -> half of them   -> hidden    1 row: what does not grow with layers
//! last layers         hidden -> layers         -> nothing   1 to 512 rows; upon context
//!                     hidden -> layers, head   -> logits    1 to 64 rows
//! ```
//! A lone layer would stay in the processor's caches, so a window has more weights than those of a
//! small machine hold (`ranges`). The slices take turns (`group`) and each step is repeated
//! (`repeat`), so that noise does not fall on one of them alone; what noise there was is told with
//! the profile. Two of them also compute at the same time (`beside`), as stages of one machine do. A step
//! of few rows is timed as streams have it: its thread has slept while others read their weights (`probe`). Costs of layers follow from those of windows (`fit`).

mod beside;
mod fit;
mod group;
mod probe;
mod ranges;
mod repeat;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::fit::Timings;
use self::group::Task;
use self::probe::Inputs;
use self::ranges::MeasuredRanges;
use super::noise::Counters;
use crate::clock::{Clock, SystemClock};
use crate::embedding::EmbeddingTable;
use crate::engine::{Emulation, EngineParams, StageEngine, available_memory_bytes, slow_down};
use crate::gguf::GgufFile;
use crate::hidden::HiddenStates;
use crate::profile::{ComputeProfile, Crowding, ModelProfile};
use crate::slice::SliceCache;
use crate::{LayerRange, ModelError, Result, Token};

/// Numbers of rows whose steps are measured: dense among few rows, where time is anything but linear
/// (our own kernels take up to eight rows at a time, llama.cpp's four).
const ROWS: [u32; 18] = [
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512,
];
/// Cells of the cache while measuring: the longest context and the most rows upon it.
const MAX_CELLS: u32 = 2048;
/// Rows of an embedding lookup that is timed; one alone is too short for the clock.
const EMBEDDED_ROWS: u32 = 64;
/// 2^32 divided by the golden ratio: its multiples lie evenly in 0..2^32.
const SPREAD: u32 = 2_654_435_769;

/// For lookups of embeddings.
const EMBEDDING: Duration = Duration::from_millis(50);
/// Most bytes that are read between two steps in the place of other stages: about what the largest
/// caches hold; and the part of the free memory that they may take.
const MAX_OTHERS_BYTES: u64 = 256 << 20;
const OTHERS_MEMORY_SHARE: u64 = 4;
/// 64-bit numbers in a line of a processor's cache: reading one of them brings the whole line.
const CACHE_LINE: usize = 8;

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
            n_seq_max: probe::N_SEQUENCES,
            ..params.clone()
        },
        emulation,
        embedding: EmbeddingTable::new(model)?,
        others: others(shapes),
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

    /// Sleeps while another thread reads as much memory as other stages do, as far as there is
    /// room for it.
    fn wait_for_others(&self, n_bytes: u64);

    /// Computes `timed` while another thread computes `other` again and again.
    fn beside(
        &self,
        other: &mut (dyn FnMut() -> Result<()> + Send),
        timed: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()>;

    /// Bytes that slices may take; none where that is not known.
    fn free_bytes(&self) -> Option<u64>;

    /// What the machine has counted so far.
    fn counters(&self) -> Counters;

    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

struct Machine<'a> {
    model: &'a GgufFile,
    slices: &'a SliceCache,
    params: EngineParams,
    emulation: Emulation,
    embedding: EmbeddingTable,
    /// What is read in the place of other stages' weights.
    others: Vec<u64>,
    clock: SystemClock,
}

/// Memory to be read in the place of the weights of the whole model, or less. Not zeros, whose pages
/// would all be one.
fn others(shapes: &ModelProfile) -> Vec<u64> {
    let weights = shapes.layers.iter().map(|layer| layer.weight_bytes);
    let n_bytes = weights.fold(shapes.head_bytes, u64::saturating_add);
    let free = available_memory_bytes().map_or(u64::MAX, |free| free / OTHERS_MEMORY_SHARE);
    let n_bytes = n_bytes.min(MAX_OTHERS_BYTES).min(free);
    vec![1; n_bytes as usize / size_of::<u64>()]
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

    fn wait_for_others(&self, n_bytes: u64) {
        let n_read = self.others.len().min(n_bytes as usize / size_of::<u64>());
        let weights = &self.others[..n_read];
        let read = || black_box(weights.iter().step_by(CACHE_LINE).sum::<u64>());
        // Joined at the end of the scope.
        std::thread::scope(|scope| _ = scope.spawn(read));
    }

    fn beside(
        &self,
        other: &mut (dyn FnMut() -> Result<()> + Send),
        timed: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        /// Ends the other thread, also where the timed one panics.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    other()?;
                }
                Ok(())
            });
            let ends = Ends(&is_done);
            let timed = timed();
            drop(ends);
            let panicked = |_| ModelError::Llama {
                what: "a step beside another panicked".to_owned(),
            };
            timed.and(beside.join().map_err(panicked)?)
        })
    }

    fn free_bytes(&self) -> Option<u64> {
        available_memory_bytes()
    }

    fn counters(&self) -> Counters {
        Counters::read()
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
    let (before, begin) = (bench.counters(), bench.now());
    let ranges = MeasuredRanges::new(shapes);
    let (inputs, embedding_ms) = inputs(bench, limits.n_rows as usize)?;
    let task = Task {
        bench,
        shapes,
        ranges: &ranges,
        inputs: &inputs,
        limits,
    };
    let groups = task.groups(bench.free_bytes());
    let (n_parts, mut n_done) = (2 * groups.len(), 0);
    let mut part_done = || {
        n_done += 1;
        progress(n_done as f32 / n_parts as f32);
    };
    let mut timings = Timings {
        slices: Vec::new(),
        context: Vec::new(),
        short_ms: None,
        logits: Vec::new(),
        embedding_ms,
    };
    let (mut spreads, mut crowding) = (Vec::new(), Crowding::default());
    for group in groups {
        let found = task.measure(&group, &mut part_done)?;
        timings.slices.extend(found.empty);
        timings.context.extend(found.context);
        timings.logits.extend(found.logits);
        timings.short_ms = timings.short_ms.or(found.short_ms);
        spreads.extend(found.spreads);
        if crowding.points.is_empty() {
            crowding = found.crowding;
        }
    }
    spreads.sort_by(f64::total_cmp);
    let spread = spreads.get(spreads.len() / 2).copied().unwrap_or(0.0);
    let elapsed = bench.now().saturating_sub(begin);
    Ok(ComputeProfile {
        crowding,
        noise: bench.counters().noise_since(&before, elapsed, spread),
        ..fit::profile(shapes, &ranges, &timings)
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
