//! What a stage holds, whether a model fits at all, and what would make it fit.

mod shortage;

use serde::{Deserialize, Serialize};

pub use shortage::Shortage;
pub(crate) use shortage::{check_fit, show};

use jupiter_models::LayerRange;
use jupiter_models::engine::EngineMemory;
use jupiter_models::gguf::KvDtype;
use jupiter_models::profile::{LayerShape, ModelProfile};

/// One layer never counts for more bytes than this, so that sums over layers cannot overflow.
const MAX_LAYER_BYTES: u64 = 1 << 52;

/// What the stages have to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryDemand {
    /// Tokens of context of one sequence.
    pub n_ctx: u32,
    /// Sequences that are held at once.
    pub n_seq: u32,
    /// Type of the KV cache.
    pub kv: KvDtype,
}

impl MemoryDemand {
    /// `n_cells` that all sequences share. A cache of mixed types counts as f16.
    pub fn of_cells(n_cells: u32, type_k: KvDtype, type_v: KvDtype) -> MemoryDemand {
        let is_q8_0 = type_k == KvDtype::Q8_0 && type_v == KvDtype::Q8_0;
        MemoryDemand {
            n_ctx: n_cells,
            n_seq: 1,
            kv: if is_q8_0 { KvDtype::Q8_0 } else { KvDtype::F16 },
        }
    }

    /// KV bytes of one layer.
    pub(crate) fn kv_bytes(&self, layer: &LayerShape) -> u64 {
        let cells = u64::from(self.n_ctx) * u64::from(self.n_seq);
        let f16_bytes = layer.kv_bytes_per_token;
        let bytes = match self.kv {
            KvDtype::F16 => f16_bytes,
            other => other.bytes(f16_bytes.div_ceil(KvDtype::F16.bytes(1))),
        };
        bytes.saturating_mul(cells)
    }

    /// Cells of the whole model that have at most so many bytes.
    pub fn cells_in(bytes: u64, model: &ModelProfile, type_k: KvDtype, type_v: KvDtype) -> u32 {
        let cell = Self::of_cells(1, type_k, type_v);
        let of_cell = model.layers.iter().map(|layer| cell.kv_bytes(layer));
        let of_cell = of_cell.fold(0, u64::saturating_add);
        u32::try_from(bytes / of_cell.max(1)).unwrap_or(u32::MAX)
    }

    /// What a stage of `layers` will hold, part by part; all of it is [`StageMemory::bytes`].
    pub fn of_stage(&self, model: &ModelProfile, layers: LayerRange) -> EngineMemory {
        let shapes = &model.layers[layers.start as usize..layers.end as usize];
        let sum = |bytes: &dyn Fn(&LayerShape) -> u64| {
            shapes.iter().map(bytes).fold(0, u64::saturating_add)
        };
        let kv_bytes = sum(&|layer| self.kv_bytes(layer).saturating_add(layer.state_bytes));
        let all = StageMemory::new(model, self).bytes(layers);
        EngineMemory {
            weights_bytes: all
                .saturating_sub(kv_bytes)
                .saturating_sub(model.buffer_bytes),
            kv_bytes,
            compute_bytes: model.buffer_bytes,
        }
    }

    fn layer_bytes(&self, layer: &LayerShape) -> u64 {
        let fixed = layer.weight_bytes.saturating_add(layer.state_bytes);
        let bytes = fixed.saturating_add(self.kv_bytes(layer));
        bytes.min(MAX_LAYER_BYTES)
    }
}

/// Bytes of each stage that could be: sums over the layers, once computed.
#[derive(Clone, Debug)]
pub struct StageMemory {
    /// `prefix[j]`: weights and KV of layers `0..j`.
    prefix: Vec<u64>,
    embedding_bytes: u64,
    head_bytes: u64,
    tied_head: bool,
    buffer_bytes: u64,
    /// `allowed[j][i]`: layers `i..j` may be a stage; empty where any may.
    allowed: Vec<Vec<bool>>,
}

impl StageMemory {
    /// For one model and demand.
    pub fn new(model: &ModelProfile, demand: &MemoryDemand) -> StageMemory {
        let mut prefix = Vec::with_capacity(model.layers.len() + 1);
        let mut sum = 0;
        prefix.push(sum);
        for layer in &model.layers {
            sum += demand.layer_bytes(layer);
            prefix.push(sum);
        }
        StageMemory {
            prefix,
            embedding_bytes: model.embedding_bytes,
            head_bytes: model.head_bytes,
            tied_head: model.tied_head,
            buffer_bytes: model.buffer_bytes,
            allowed: allowed(model),
        }
    }

    /// Of layers without bytes, of which `i..j` may be a stage where `allowed[j][i]`; any, if that is empty.
    #[cfg(test)]
    pub(crate) fn of_rules(n_layer: usize, allowed: Vec<Vec<bool>>) -> StageMemory {
        StageMemory {
            prefix: vec![0; n_layer + 1],
            embedding_bytes: 0,
            head_bytes: 0,
            tied_head: false,
            buffer_bytes: 0,
            allowed,
        }
    }

    /// Whether layers `start..end` may be a stage.
    pub(crate) fn allows(&self, start: usize, end: usize) -> bool {
        self.is_free() || self.allowed[end][start]
    }

    /// Whether any layers may be a stage.
    pub(crate) fn is_free(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Number of layers.
    pub(crate) fn n_layer(&self) -> usize {
        self.prefix.len() - 1
    }

    /// Bytes of a stage: weights and KV of its layers, its compute buffers, the embedding table on
    /// the first stage, the head on the last; a tied head counts once on a stage that is both.
    pub fn bytes(&self, layers: LayerRange) -> u64 {
        self.range_bytes(layers.start as usize, layers.end as usize)
    }

    pub(crate) fn range_bytes(&self, start: usize, end: usize) -> u64 {
        let (is_first, is_last) = (start == 0, end == self.n_layer());
        let ends = match (is_first, is_last) {
            // One tensor; the head may count a norm besides.
            (true, true) if self.tied_head => self.embedding_bytes.max(self.head_bytes),
            (true, true) => self.embedding_bytes + self.head_bytes,
            (true, false) => self.embedding_bytes,
            (false, true) => self.head_bytes,
            (false, false) => 0,
        };
        self.prefix[end] - self.prefix[start] + self.buffer_bytes + ends
    }

    /// Bytes of the smallest stage; of one layer, unless the model's cuts ask for more.
    pub(crate) fn smallest_bytes(&self) -> u64 {
        let ranges = (0..self.n_layer()).flat_map(|start| {
            let most = if self.is_free() {
                start + 1
            } else {
                self.n_layer()
            };
            (start + 1..=most).map(move |end| (start, end))
        });
        ranges
            .filter(|&(start, end)| self.allows(start, end))
            .map(|(start, end)| self.range_bytes(start, end))
            .min()
            .unwrap_or(0)
    }

    /// Whether stages of these capacities, in some order, can hold the model.
    ///
    /// Where any layers may be a stage this depends on one observation: with given devices behind us,
    /// more layers behind us are never worse, because a stage that begins later holds less. So the
    /// most layers that each set of devices can hold as a prefix decide it; sets are counted by
    /// capacity.
    pub(crate) fn fits(&self, capacities: &[u64]) -> bool {
        let mut groups: Vec<(u64, usize)> = Vec::new();
        for &capacity in capacities {
            match groups.iter_mut().find(|group| group.0 == capacity) {
                Some(group) => group.1 += 1,
                None => groups.push((capacity, 1)),
            }
        }
        if !self.is_free() {
            return self.fits_by_rules(&groups);
        }
        let n_layer = self.n_layer();
        let n_sets: usize = groups.iter().map(|group| group.1 + 1).product();
        let mut reach = vec![0; n_sets];
        for set in 0..n_sets {
            let mut unit = 1;
            for &(capacity, count) in &groups {
                let used = set / unit % (count + 1);
                if used < count {
                    let begin = reach[set];
                    if self.range_bytes(begin, n_layer) <= capacity {
                        return true;
                    }
                    let end = self.most_layers(begin, capacity);
                    let next = &mut reach[set + unit];
                    *next = end.max(*next).max(begin);
                }
                unit *= count + 1;
            }
        }
        false
    }

    /// [`StageMemory::fits`] where not any layers may be a stage: all prefixes that a set of devices can
    /// hold, not the longest alone.
    fn fits_by_rules(&self, groups: &[(u64, usize)]) -> bool {
        let n_layer = self.n_layer();
        let n_sets: usize = groups.iter().map(|group| group.1 + 1).product();
        let mut holds = vec![vec![false; n_layer + 1]; n_sets];
        holds[0][0] = true;
        for set in 0..n_sets {
            let mut unit = 1;
            for &(capacity, count) in groups {
                let used = set / unit % (count + 1);
                for begin in (0..n_layer).filter(|_| used < count) {
                    if !holds[set][begin] {
                        continue;
                    }
                    let next = &mut holds[set + unit];
                    next[begin] = true;
                    for (end, is_held) in next.iter_mut().enumerate().skip(begin + 1) {
                        *is_held |=
                            self.allows(begin, end) && self.range_bytes(begin, end) <= capacity;
                    }
                    if next[n_layer] {
                        return true;
                    }
                }
                unit *= count + 1;
            }
        }
        false
    }

    /// The largest `end`, below the last layer's, such that `begin..end` fits; `begin` if none.
    fn most_layers(&self, begin: usize, capacity: u64) -> usize {
        let mut end = begin;
        while end + 1 < self.n_layer() && self.range_bytes(begin, end + 1) <= capacity {
            end += 1;
        }
        end
    }
}

/// Which layers may be a stage, by end and start; empty where any may.
fn allowed(model: &ModelProfile) -> Vec<Vec<bool>> {
    let (cuts, n_layer) = (&model.cuts, model.n_layer());
    if cuts.is_anywhere() {
        return Vec::new();
    }
    let starts = |end: u32| {
        let may_be = |start| cuts.allows(LayerRange::new(start, end), n_layer);
        (0..end).map(may_be).collect()
    };
    (0..=n_layer).map(starts).collect()
}
