//! The systems that Jupiter is compared with, by the same costs of layers and links. None but the
//! plain pipeline has steps that overlap: all devices compute a part of each layer, exchange, and go
//! on together.

use jupiter_actors::planning::cost::{Pipeline, Work, prefill_ns};
use jupiter_models::LayerRange;

use super::cells::{Cell, plain_seconds};
use super::published::SYSTEMS;
use super::{GENERATED, PROMPT};

/// A system of [`SYSTEMS`].
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    system: usize,
    /// Bytes on the links over those of a ring with values of two bytes.
    pub bytes: f64,
}

/// How a layer is shared among the devices.
#[derive(Clone, Copy, PartialEq)]
enum Shares {
    /// Every device a part of equal size.
    Equal,
    /// Parts by the devices' speeds.
    BySpeed,
}

impl Baseline {
    /// The system with as many bytes on its links as give its published seconds in `cell`. Its
    /// sources say nothing of what they send for a token; the factor holds for all other cells.
    pub fn calibrated(system: usize, cell: &Cell) -> Baseline {
        let at = |bytes| Baseline { system, bytes }.unchecked_seconds(cell);
        let (none, one) = (at(0.0), at(1.0));
        let bytes = match cell.published[system] {
            Some(published) if one > none => (published - none) / (one - none),
            _ => 1.0,
        };
        Baseline {
            system,
            bytes: bytes.max(0.0),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        SYSTEMS[self.system]
    }

    /// Seconds of the paper's workload; none where the paper says that it ran out of memory.
    pub fn seconds(&self, cell: &Cell) -> Option<f64> {
        cell.published[self.system]?;
        Some(self.unchecked_seconds(cell))
    }

    fn unchecked_seconds(&self, cell: &Cell) -> f64 {
        match self.system {
            0 => self.sequence_parallel(cell),
            // All-reduce behind attention and behind the feed-forward part.
            1 => self.tensor_parallel(cell, Shares::Equal, 2.0),
            // Blocks are decoupled: one exchange a layer.
            2 => self.tensor_parallel(cell, Shares::Equal, 1.0),
            // As Megatron-LM with parts by the devices' speeds; half of its exchanges are
            // reduce-scatter and all-gather of rows in turn, together as many bytes.
            3 => self.tensor_parallel(cell, Shares::BySpeed, 2.0),
            _ => plain_seconds(&cell.cluster, &cell.plain),
        }
    }

    /// Prefill: equal parts of the rows on all devices, each with the whole model; keys and values of
    /// each layer are gathered. Decode: the fastest device alone.
    fn sequence_parallel(&self, cell: &Cell) -> f64 {
        let n = cell.cluster.devices().len() as u32;
        let work = Work::chunk(PROMPT.div_ceil(n), 0);
        let slowest = layers_s(cell, work).into_iter().fold(0.0, f64::max);
        let n_layer = cell.cluster.n_layer() as f64;
        // Keys and values of all rows but its own come to each device.
        let gathered = 2.0 * row_bytes(cell) * f64::from(PROMPT) * f64::from(n - 1) / f64::from(n);
        let exchange = n_layer * self.exchange_s(cell, gathered, f64::from(n - 1));
        let decode = (0..GENERATED).map(|i| {
            let work = Work::decode(1, PROMPT + i);
            layers_s(cell, work).into_iter().fold(f64::MAX, f64::min)
        });
        slowest + exchange + decode.sum::<f64>()
    }

    /// Each layer in parts on all devices, with `n_exchanges` all-reduces behind it.
    fn tensor_parallel(&self, cell: &Cell, shares: Shares, n_exchanges: f64) -> f64 {
        let n = cell.cluster.devices().len() as f64;
        let n_layer = cell.cluster.n_layer() as f64;
        let pass = |work: Work| {
            let whole = layers_s(cell, work);
            let computed = match shares {
                Shares::Equal => whole.iter().copied().fold(0.0, f64::max) / n,
                Shares::BySpeed => 1.0 / whole.iter().map(|s| 1.0 / s).sum::<f64>(),
            };
            // A ring: reduce-scatter, then all-gather.
            let bytes = 2.0 * (n - 1.0) / n * row_bytes(cell) * f64::from(work.rows);
            let exchange = self.exchange_s(cell, bytes, 2.0 * (n - 1.0));
            computed + n_layer * n_exchanges * exchange
        };
        let decode = (0..GENERATED).map(|i| pass(Work::decode(1, PROMPT + i)));
        pass(Work::last_chunk(PROMPT, 0)) + decode.sum::<f64>()
    }

    /// Seconds of an exchange that sends `bytes` from each device in `n_turns` turns.
    fn exchange_s(&self, cell: &Cell, bytes: f64, n_turns: f64) -> f64 {
        let Some(link) = cell.cluster.link_between(0, 1) else {
            return 0.0;
        };
        (self.bytes * bytes / link.bytes_per_ms + n_turns * link.latency_ms) / 1e3
    }
}

/// Seconds of the prompt in one chunk on a plain pipeline.
pub fn plain_prefill_s(cell: &Cell, n_prompt: u32) -> f64 {
    let pipeline = Pipeline::new(&cell.cluster, &cell.plain);
    prefill_ns(&pipeline, &[n_prompt]) as f64 / 1e9
}

/// Seconds of all layers and the head on each device alone.
/// What no chunks of a prompt take less than on the stages of a plain pipeline: they are equal, links and
/// contexts cost nothing, and no stage waits but for the first and behind the last chunk.
pub fn least_prefill_s(cell: &Cell, n_prompt: u32) -> f64 {
    let pipeline = Pipeline::new(&cell.cluster, &cell.plain);
    let with = |n_chunks: u32| {
        let work = Work::chunk(n_prompt / n_chunks, 0);
        let stages = (0..pipeline.n_stages()).map(|stage| pipeline.server_ns(2 * stage, work));
        let slowest = stages.clone().max().unwrap_or(0);
        stages.sum::<u64>() + u64::from(n_chunks - 1) * slowest
    };
    let least_ns = (1..=n_prompt).map(with).min().unwrap_or(0);
    least_ns as f64 / 1e9
}

fn layers_s(cell: &Cell, work: Work) -> Vec<f64> {
    let all = LayerRange::new(0, cell.cluster.n_layer() as u32);
    let devices = 0..cell.cluster.devices().len();
    let alone = devices.map(|device| {
        let pipeline = Pipeline::new(&cell.cluster, vec![(device, all)]);
        pipeline.server_ns(0, work) as f64 / 1e9
    });
    alone.collect()
}

/// Bytes of a hidden state of two bytes a value.
fn row_bytes(cell: &Cell) -> f64 {
    2.0 * f64::from(cell.cluster.model().n_embd)
}
