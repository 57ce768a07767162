//! What a pipeline needs for one micro-batch, in whole nanoseconds. Pure functions of profiles.
//!
//! A stage needs, for `n` rows: a fixed time for the step, the row curve of each of its layers, and
//! for each layer its cost of context times the sum over the rows of the tokens in the cache before
//! them (TeraPipe's `a0` and `a3 i j`, arXiv 2102.07988), and a part of it for each cell of another
//! sequence that a row skips; the first stage also the embedding of `n` rows, the last one the head
//! for the rows that want logits. A link is occupied by the bytes of `n`
//! rows; after that the rows are under way for the latency, while the link already takes the next
//! ones. A micro-batch comes from the Planner and goes back to it: a few bytes, so that only latency
//! counts ([`Cluster`] says where the Planner sits).

mod table;

use std::borrow::Cow;

use jupiter_models::LayerRange;
use jupiter_models::profile::{LayerProfile, LayerShape, TILE_ROWS, to_ns};

pub(crate) use self::table::{CostTable, ServerTimes};
use crate::planning::profile::{Cluster, DeviceProfile};

/// No item of work ever counts for more than this (1000 s), so that sums cannot overflow.
pub(crate) const MAX_ITEM_NS: u64 = 1_000_000_000_000;
/// Cells of other sequences that a row skips in the time that it takes to read one of its own. Both
/// numbers were measured with 2,000 and 6,000 such cells, 24 heads of 64 values, and an f16 cache.
const SKIPS_PER_READ: u64 = 80;
/// The same in steps that are computed in tiles, where reading is cheap.
const SKIPS_PER_TILE_READ: u64 = 8;
/// Picoseconds in a nanosecond: the cost of context is far below a nanosecond a row and token.
const PS_PER_NS: u64 = 1000;

/// One micro-batch, as far as its cost goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Rows of the micro-batch.
    pub rows: u32,
    /// Sum over the rows of the tokens that were in their sequence's cache before the micro-batch.
    pub row_context: u64,
    /// Cells of the cache that were in use before the micro-batch, whoever's they are: all sequences
    /// share one cache, and the attention of each row walks over all of it.
    pub cells: u32,
    /// Rows that want logits.
    pub logits: u32,
}

impl Work {
    /// A prompt's chunk of `rows` rows behind `context` tokens; not the last chunk. There is nothing
    /// else in the cache.
    pub fn chunk(rows: u32, context: u32) -> Work {
        Work {
            rows,
            row_context: u64::from(rows) * u64::from(context),
            cells: context,
            logits: 0,
        }
    }

    /// The last chunk of a prompt: its last row wants logits.
    pub fn last_chunk(rows: u32, context: u32) -> Work {
        Work {
            logits: 1,
            ..Work::chunk(rows, context)
        }
    }

    /// A decode step of `rows` rows, all behind the same `context` tokens and all wanting logits.
    pub fn decode(rows: u32, context: u32) -> Work {
        Work {
            logits: rows,
            ..Work::chunk(rows, context)
        }
    }

    /// The same in a cache of which all sequences together use `cells`.
    pub fn among(self, cells: u32) -> Work {
        Work { cells, ..self }
    }

    /// Rows times tokens that cost as much as what its rows read and skip.
    fn weighed_context(self) -> u64 {
        let walked = u64::from(self.rows) * u64::from(self.cells);
        let skipped = walked.saturating_sub(self.row_context);
        let per_read = match self.rows < TILE_ROWS {
            true => SKIPS_PER_READ,
            false => SKIPS_PER_TILE_READ,
        };
        self.row_context + skipped / per_read
    }
}

/// One layer's nanoseconds: rows and context apart, each limited.
pub(crate) fn layer_ns(layer: &LayerProfile, work: Work) -> u64 {
    layer.rows.ns(work.rows).min(MAX_ITEM_NS)
        + context_ns(context_ps(layer, work.rows), work.weighed_context())
}

/// Picoseconds of one layer for a row, in a step of `rows` rows, and a token in the cache before it.
pub(crate) fn context_ps(layer: &LayerProfile, rows: u32) -> u64 {
    to_ns(layer.context_ms_of(rows) * PS_PER_NS as f64)
}

/// Nanoseconds of one layer for `row_context` rows times tokens.
pub(crate) fn context_ns(context_ps: u64, row_context: u64) -> u64 {
    (row_context.saturating_mul(context_ps) / PS_PER_NS).min(MAX_ITEM_NS)
}

/// The nanoseconds of a step whatever is in it.
pub(crate) fn step_ns(device: &DeviceProfile) -> u64 {
    to_ns(device.compute.step_ms).min(MAX_ITEM_NS)
}

/// The embedding's nanoseconds on the first stage.
pub(crate) fn embedding_ns(device: &DeviceProfile, work: Work) -> u64 {
    let ns = to_ns(device.compute.embedding_ms).saturating_mul(u64::from(work.rows));
    ns.min(MAX_ITEM_NS)
}

/// The head's nanoseconds on the last stage.
pub(crate) fn head_ns(device: &DeviceProfile, work: Work) -> u64 {
    device.compute.head.ns(work.logits).min(MAX_ITEM_NS)
}

/// Nanoseconds that `rows` rows occupy the link from device `from` to device `to`.
pub(crate) fn transfer_ns(cluster: &Cluster, from: usize, to: usize, rows: u32) -> u64 {
    let model = cluster.model();
    let bytes = f64::from(rows) * f64::from(model.n_embd) * model.bytes_per_value;
    let ms = cluster
        .link(from, to)
        .map_or(0.0, |link| bytes / link.bytes_per_ms);
    to_ns(ms).min(MAX_ITEM_NS)
}

/// Nanoseconds that a message is under way from device `from` to device `to`.
pub(crate) fn latency_ns(cluster: &Cluster, from: usize, to: usize) -> u64 {
    cluster.link(from, to).map_or(0, |link| link.latency_ns)
}

fn shapes(cluster: &Cluster, layers: LayerRange) -> &[LayerShape] {
    &cluster.model().layers[layers.start as usize..layers.end as usize]
}

/// Nanoseconds of a stage: device `device` with `layers`, being first, last, or both.
pub fn stage_ns(cluster: &Cluster, device: usize, layers: LayerRange, work: Work) -> u64 {
    let profile = &cluster.devices()[device];
    let mut ns = step_ns(profile);
    // Most layers cost what the one before them does.
    let mut before = None;
    for layer in shapes(cluster, layers) {
        let of_class = before.filter(|&(class, _)| class == layer.class);
        let (_, layer_ns) = *before.insert(of_class.unwrap_or_else(|| {
            let profile = &profile.compute.layers[layer.class];
            (layer.class, layer_ns(profile, work))
        }));
        ns += layer_ns;
    }
    if layers.start == 0 {
        ns += embedding_ns(profile, work);
    }
    if layers.end as usize == cluster.n_layer() {
        ns += head_ns(profile, work);
    }
    ns
}

/// A placement's costs: stages and the links between them, each a server that takes micro-batches
/// in order, one at a time.
#[derive(Clone, Debug)]
pub struct Pipeline<'a> {
    cluster: &'a Cluster,
    stages: Cow<'a, [(usize, LayerRange)]>,
}

impl<'a> Pipeline<'a> {
    /// The pipeline of these stages: index of the device in the cluster, and its layers, in order.
    pub fn new(
        cluster: &'a Cluster,
        stages: impl Into<Cow<'a, [(usize, LayerRange)]>>,
    ) -> Pipeline<'a> {
        Pipeline {
            cluster,
            stages: stages.into(),
        }
    }

    /// Index of each stage's device in the cluster, and its layers.
    pub fn stages(&self) -> &[(usize, LayerRange)] {
        &self.stages
    }

    /// By stage, the other stages on its machine, where that is known.
    pub(crate) fn neighbours(&self) -> Vec<Vec<usize>> {
        let machine_of =
            |&(device, _): &(usize, LayerRange)| self.cluster.devices()[device].machine.as_str();
        let machines: Vec<&str> = self.stages.iter().map(machine_of).collect();
        let others = |at: usize| {
            let is_other = |&other: &usize| other != at && machines[other] == machines[at];
            let is_known = !machines[at].is_empty();
            (0..machines.len())
                .filter(|other| is_known && is_other(other))
                .collect()
        };
        (0..machines.len()).map(others).collect()
    }

    /// Number of stages.
    pub fn n_stages(&self) -> usize {
        self.stages.len()
    }

    /// Number of servers: stage 0, link 0, stage 1, ... up to the last stage.
    pub fn n_servers(&self) -> usize {
        (2 * self.stages.len()).saturating_sub(1)
    }

    /// Nanoseconds that `work` occupies server `server`.
    pub fn server_ns(&self, server: usize, work: Work) -> u64 {
        let stage = server / 2;
        let (device, layers) = self.stages[stage];
        if server.is_multiple_of(2) {
            stage_ns(self.cluster, device, layers, work)
        } else {
            transfer_ns(self.cluster, device, self.stages[stage + 1].0, work.rows)
        }
    }

    /// Nanoseconds from leaving server `server` to reaching the next one: a link's latency.
    pub fn delay_ns(&self, server: usize) -> u64 {
        if server.is_multiple_of(2) {
            return 0;
        }
        let stage = server / 2;
        latency_ns(self.cluster, self.stages[stage].0, self.stages[stage + 1].0)
    }

    /// Nanoseconds from the Planner to the first stage.
    pub fn entry_ns(&self) -> u64 {
        match (self.cluster.head(), self.stages.first()) {
            (Some(head), Some(&(first, _))) => head.to_ns[first],
            _ => 0,
        }
    }

    /// Nanoseconds from the last stage back to the Planner.
    pub fn return_ns(&self) -> u64 {
        match (self.cluster.head(), self.stages.first(), self.stages.last()) {
            (Some(head), _, Some(&(last, _))) => head.from_ns[last],
            (None, Some(&(first, _)), Some(&(last, _))) => latency_ns(self.cluster, last, first),
            _ => 0,
        }
    }

    /// Nanoseconds of `work` once around: from the Planner through all servers, and back.
    pub fn pass_ns(&self, work: Work) -> u64 {
        let servers = (0..self.n_servers()).map(|s| self.server_ns(s, work) + self.delay_ns(s));
        servers.sum::<u64>() + self.entry_ns() + self.return_ns()
    }

    /// What every layer of server `server` needs for context in steps of `rows` rows: layers and
    /// picoseconds, by class.
    pub(crate) fn context_of(&self, server: usize, rows: u32) -> Vec<(u64, u64)> {
        let (device, layers) = self.stages[server / 2];
        let classes = &self.cluster.devices()[device].compute.layers;
        let mut context: Vec<_> = classes
            .iter()
            .map(|layer| (0, context_ps(layer, rows)))
            .collect();
        if server.is_multiple_of(2) {
            for layer in shapes(self.cluster, layers) {
                context[layer.class].0 += 1;
            }
        }
        context.retain(|&(n_layer, ps)| n_layer > 0 && ps > 0);
        context
    }

    /// Nanoseconds of a chunk on every server.
    pub(crate) fn chunk_ns(&self, work: Work) -> Vec<u64> {
        (0..self.n_servers())
            .map(|server| self.server_ns(server, work))
            .collect()
    }
}

/// Moves one micro-batch through all servers. `free_ns[s]` is when server `s` is done with what it
/// has; it is brought up to date. Returns when the micro-batch leaves the last server.
pub(crate) fn advance(
    free_ns: &mut [u64],
    work_ns: &[u64],
    delay_ns: &[u64],
    start_ns: u64,
) -> u64 {
    let mut arrives = start_ns;
    for ((free, work), delay) in free_ns.iter_mut().zip(work_ns).zip(delay_ns) {
        *free = arrives.max(*free).saturating_add(*work);
        arrives = free.saturating_add(*delay);
    }
    arrives
}

/// When the first token of a prompt, cut into `chunks`, is back at the Planner: the makespan of the
/// flow shop of stages and links, plus the ways from and to the Planner. Nanoseconds.
pub fn prefill_ns(pipeline: &Pipeline<'_>, chunks: &[u32]) -> u64 {
    let delays: Vec<u64> = (0..pipeline.n_servers())
        .map(|server| pipeline.delay_ns(server))
        .collect();
    let mut free = vec![0; pipeline.n_servers()];
    let (mut context, mut done) = (0, 0);
    for (i, &rows) in chunks.iter().enumerate() {
        let work = if i + 1 == chunks.len() {
            Work::last_chunk(rows, context)
        } else {
            Work::chunk(rows, context)
        };
        done = advance(
            &mut free,
            &pipeline.chunk_ns(work),
            &delays,
            pipeline.entry_ns(),
        );
        context += rows;
    }
    done.saturating_add(pipeline.return_ns())
}

#[cfg(test)]
mod tests {
    use jupiter_models::profile::RowCurve;

    use super::*;

    #[test]
    fn cells_of_others_cost_a_part_of_what_own_ones_do() {
        let layer = LayerProfile {
            rows: RowCurve::new(&[(1, 1.0), (4, 2.0)]),
            context_ms: 0.001,
            tile_context_ms: 0.0001,
        };
        let ns = |work| layer_ns(&layer, work);
        let alone = ns(Work::decode(4, 100));
        assert_eq!(alone, 2_000_000 + 4 * 100 * 1000);
        // Four rows pass 1500 cells each that are not theirs.
        let skipped = 4 * 1500 * 1000 / SKIPS_PER_READ;
        assert_eq!(ns(Work::decode(4, 100).among(1600)), alone + skipped);
        // What is in use is never less than what a row reads.
        assert_eq!(ns(Work::decode(4, 100).among(0)), alone);
        let alone = ns(Work::chunk(64, 100));
        let skipped = 64 * 800 * 100 / SKIPS_PER_TILE_READ;
        assert_eq!(ns(Work::chunk(64, 100).among(900)), alone + skipped);
    }
}
